// The ways between the modes of a CPU, for modes.cc. All leave from, and come back
// to, 32-bit protected mode without paging.

#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PE 1
#define CR0_PG 0x80000000
#define CR4_PAE 0x20

// Selectors that modes.cc puts into the GDT.
#define CODE32 0x08
#define STACK32 0x10
#define DATA32 0x23
#define CODE16 0x30
#define DATA16 0x38
#define CODE64 0x40

// Where modes.cc puts a copy of the code of real mode, and its segment.
#define REAL_BASE 0x8000
#define REAL_SEGMENT 0x800
#define REAL_STACK 0x7000
#define REAL(label) (label - real_begin)

  .text
  .code32
// uint32_t CallRealMode(uint32_t argument)
  .globl CallRealMode
CallRealMode:
  mov 4(%esp), %eax
  pushf
  push %ebx
  push %esi
  push %edi
  push %ebp
  sidt saved_idt
  mov %esp, saved_stack
  lidt REAL_BASE + REAL(real_idt)
  ljmp $CODE16, $REAL_BASE + REAL(real_leave_protected)
real_came_back:
  mov $STACK32, %ecx
  mov %ecx, %ss
  mov $DATA32, %ecx
  mov %ecx, %ds
  mov %ecx, %es
  mov %ecx, %fs
  mov %ecx, %gs
  mov saved_stack, %esp
  lidt saved_idt
  pop %ebp
  pop %edi
  pop %esi
  pop %ebx
  popf
  ret

// uint64_t CallLongMode(uint32_t root, uint32_t high_half_of_address)
// Returns the 8 bytes at that address, multiplied by 3 in 64 bits.
  .globl CallLongMode
CallLongMode:
  mov 4(%esp), %eax
  mov 8(%esp), %edx
  pushf
  push %ebx
  push %esi
  push %edi
  push %ebp
  mov %eax, %cr3
  mov %cr4, %eax
  or $CR4_PAE, %eax
  mov %eax, %cr4
  mov $MSR_EFER, %ecx
  push %edx
  rdmsr
  or $EFER_LME, %eax
  wrmsr
  pop %edx
  mov %cr0, %eax
  or $CR0_PG, %eax
  mov %eax, %cr0
  // Compatibility mode, until this.
  ljmp $CODE64, $1f
  .code64
1:
  mov $-1, %r15
  mov %edx, %edx
  shl $32, %rdx
  mov (%rdx), %r8
  lea (%r8, %r8, 2), %r9
  cmp $-1, %r15
  jne 3f
  mov %r9, long_result(%rip)
  // Back to compatibility mode by a far return.
  push $CODE32
  lea 2f(%rip), %rax
  push %rax
  lretq
3:
  ud2
  .code32
2:
  mov %cr0, %eax
  and $~CR0_PG, %eax
  mov %eax, %cr0
  mov $MSR_EFER, %ecx
  rdmsr
  and $~EFER_LME, %eax
  wrmsr
  mov %cr4, %eax
  and $~CR4_PAE, %eax
  mov %eax, %cr4
  mov long_result, %eax
  mov long_result + 4, %edx
  pop %ebp
  pop %edi
  pop %esi
  pop %ebx
  popf
  ret

  .bss
  .balign 8
long_result:
  .skip 8
saved_stack:
  .skip 4
saved_idt:
  .skip 6

// The code of real mode. It is copied to REAL_BASE, and knows its own labels by
// their distance from real_begin only. eax is the argument, and the result.
  .section .rodata
  .code16
  .globl real_begin, real_end, real_ticks
real_begin:
real_leave_protected:
  // A 16-bit segment of protected mode, as the way to real mode wants.
  mov $DATA16, %cx
  mov %cx, %ds
  mov %cx, %es
  mov %cx, %ss
  mov %cx, %gs
  // FS keeps a limit of 4 GiB: what it has in real mode is what it had here.
  mov $DATA32, %cx
  mov %cx, %fs
  mov %cr0, %ecx
  and $~CR0_PE, %cl
  mov %ecx, %cr0
  ljmp $REAL_SEGMENT, $REAL(real_mode)
real_mode:
  mov $REAL_SEGMENT, %cx
  mov %cx, %ds
  mov %cx, %es
  mov %cx, %gs
  xor %cx, %cx
  mov %cx, %ss
  mov $REAL_STACK, %sp

  // An interrupt by the table at 0, twice.
  int $0x60
  int $0x60

  // The argument, by a segment register: linear 0x12350.
  mov $0x1234, %cx
  mov %cx, %es
  mov %eax, %es:0x10

  // 0xffff:0x10 is the first byte beyond 1 MiB; A20 is on.
  mov $0xffff, %cx
  mov %cx, %es
  movzbl %es:0x10, %ebx
  add %ebx, %eax

  // Far above, by the limit that FS kept.
  mov $0x1400000, %ebx
  mov %fs:(%ebx), %ebx
  add %ebx, %eax

  // A string, in 16 bits.
  mov $0x1234, %cx
  mov %cx, %es
  mov $REAL(real_begin), %si
  mov $0x100, %di
  mov $0x40, %cx
  cld
  rep movsw

  // And back.
  mov %cr0, %ecx
  or $CR0_PE, %cl
  mov %ecx, %cr0
  ljmpl $CODE32, $real_came_back

real_interrupt:
  add $5, %eax
  lock incw %cs:REAL(real_ticks)
  iret

  .balign 4
real_ticks:
  .word 0
  .globl real_interrupt
real_idt:
  .word 0x3ff
  .long 0
real_end:

  .section .note.GNU-stack, "", @progbits
