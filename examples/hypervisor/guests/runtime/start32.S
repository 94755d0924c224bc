// Where a Multiboot loader enters a 32-bit guest: protected mode, flat segments,
// paging off.

#define STACK_BYTES 65536

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
  push %ebx                   // the Multiboot information
  push %eax
  lgdt gdt_pointer
  ljmp $0x08, $1f
1:
  mov $0x10, %eax
  mov %eax, %ss
  mov $0x23, %eax             // user data serves ring 0, too
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %fs
  mov %eax, %gs
  call GuestStart
2:
  hlt
  jmp 2b

  .data
  .balign 16
  .globl gdt, gdt_pointer
// Selectors: 0x08, 0x10 kernel code, data; 0x1b, 0x23 user code, data; 0x28 TSS;
// the rest is for who needs more.
gdt:
  .quad 0
  .quad 0x00cf9b000000ffff
  .quad 0x00cf93000000ffff
  .quad 0x00cffb000000ffff
  .quad 0x00cff3000000ffff
  .fill 11, 8, 0
gdt_end:
gdt_pointer:
  .word gdt_end - gdt - 1
  .long gdt

  .bss
  .balign 4096
  .skip STACK_BYTES
stack_top:
  .globl interrupt_stack_top
  .skip STACK_BYTES
interrupt_stack_top:

  .section .note.GNU-stack, "", @progbits
