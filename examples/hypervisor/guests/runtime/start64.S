// Where a Multiboot loader enters a 64-bit guest: in protected mode, like any
// other. It goes to long mode by tables of its own that map the first GiB onto
// itself, and to 57-bit addresses where GUEST_LEVELS is 5 and the CPU has them.

#define STACK_BYTES 65536
#define MSR_EFER 0xc0000080
#define EFER_LME_NXE 0x900
#define CR0_PE_MP_ET_NE_WP_PG 0x80010033
#define CR4_PAE 0x20
#define CR4_LA57 0x1000

  .section .multiboot, "a"
  .balign 4
  .long 0x1badb002
  .long 0
  .long -0x1badb002

  .text
  .code32
  .globl _start
_start:
  cli
  cld
  mov $stack_top, %esp
  push $0
  popf
  mov %ebx, multiboot_info

  movl $boot_pdpt + 3, boot_pml4
  movl $boot_pd + 3, boot_pdpt
  mov $boot_pd, %edi
  mov $0x83, %eax             // present, writable, 2 MiB
  mov $512, %ecx
1:
  mov %eax, (%edi)
  add $8, %edi
  add $0x200000, %eax
  loop 1b

  mov $boot_pml4, %edi
  mov $CR4_PAE, %esi
#if GUEST_LEVELS == 5
  xor %eax, %eax
  cpuid
  cmp $7, %eax
  jb 2f
  mov $7, %eax
  xor %ecx, %ecx
  cpuid
  test $(1 << 16), %ecx
  jz 2f
  movl $boot_pml4 + 3, boot_pml5
  mov $boot_pml5, %edi
  or $CR4_LA57, %esi
  movl $5, boot_levels
2:
#endif
  mov %esi, %cr4
  mov %edi, %cr3
  mov $MSR_EFER, %ecx
  rdmsr
  or $EFER_LME_NXE, %eax
  wrmsr
  mov $CR0_PE_MP_ET_NE_WP_PG, %eax
  mov %eax, %cr0
  lgdt gdt_pointer
  ljmp $0x08, $3f

  .code64
3:
  mov $0x10, %eax
  mov %eax, %ss
  mov $0x23, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  mov $stack_top, %rsp
  mov $0x2badb002, %edi
  mov multiboot_info, %esi
  call GuestStart
4:
  hlt
  jmp 4b

  .data
  .balign 16
  .globl gdt, gdt_pointer, boot_levels
// Selectors as in start32.S; the TSS takes two.
gdt:
  .quad 0
  .quad 0x00af9b000000ffff
  .quad 0x00cf93000000ffff
  .quad 0x00affb000000ffff
  .quad 0x00cff3000000ffff
  .fill 11, 8, 0
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt
boot_levels:
  .long 4
multiboot_info:
  .long 0

  .bss
  .balign 4096
boot_pml5:
  .skip 4096
boot_pml4:
  .skip 4096
boot_pdpt:
  .skip 4096
boot_pd:
  .skip 4096
  .skip STACK_BYTES
stack_top:
  .globl interrupt_stack_top
  .skip STACK_BYTES
interrupt_stack_top:

  .section .note.GNU-stack, "", @progbits
