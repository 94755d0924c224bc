// Where a CPU that is started begins (processors.cc): cpu_trampoline, copied to
// a page below 1 MiB, in real mode. It goes on here, in 32-bit protected mode,
// and to the control registers that the CPU which boots has.

#define MSR_EFER 0xc0000080
#define CR0_PE 1

  .section .rodata
  .balign 8
  .globl cpu_trampoline, cpu_trampoline_end
  .code16
cpu_trampoline:
  cli
  cld
  // The operand is an offset within the page that CS names.
  lgdtl %cs:(trampoline_gdt_pointer - cpu_trampoline)
  mov %cr0, %eax
  or $CR0_PE, %eax
  mov %eax, %cr0
  ljmpl $0x08, $1f
  .balign 4
trampoline_gdt_pointer:
  .word trampoline_gdt_end - trampoline_gdt - 1
  .long trampoline_gdt
cpu_trampoline_end:

  .balign 8
trampoline_gdt:
  .quad 0
  .quad 0x00cf9b000000ffff      // 32-bit code
  .quad 0x00cf93000000ffff      // data
trampoline_gdt_end:

  .text
  .code32
1:
  mov $0x10, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  mov cpu_start_cr4, %eax
  mov %eax, %cr4
  mov cpu_start_cr3, %eax
  mov %eax, %cr3
  mov cpu_start_efer, %eax
  test %eax, %eax
  jz 2f
  xor %edx, %edx
  mov $MSR_EFER, %ecx
  wrmsr
2:
  mov cpu_start_cr0, %eax
  mov %eax, %cr0
  lgdt gdt_pointer
  ljmp $0x08, $3f
#ifdef __x86_64__
  .code64
3:
  lgdt gdt_pointer
  mov cpu_start_stack, %rsp
#else
3:
  mov cpu_start_stack, %esp
#endif
  mov $0x10, %eax
  mov %eax, %ss
  mov $0x23, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  call CpuStarted
4:
  cli
  hlt
  jmp 4b

  .bss
  .balign 8
  .globl cpu_start_cr0, cpu_start_cr3, cpu_start_cr4, cpu_start_efer
  .globl cpu_start_stack
cpu_start_cr0:
  .skip 8
cpu_start_cr3:
  .skip 8
cpu_start_cr4:
  .skip 8
cpu_start_efer:
  .skip 8
cpu_start_stack:
  .skip 8

  .section .note.GNU-stack, "", @progbits
