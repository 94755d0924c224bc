// A stub for each vector, which makes an InterruptFrame (interrupts.h) of what
// the CPU pushed and calls HandleInterrupt; and, beside them, the way out of an
// interrupt that never returns: GuardEscape (guard.h).

#define VECTORS 256
// The vectors that push an error code: 8, 10 to 14, 17, 21, 29, 30.
#define HAS_ERROR_CODE 0x60227d00
#define RFLAGS_IF 0x200

#ifdef __x86_64__
#define PTR .quad
#else
#define PTR .long
#endif

  .text
  .balign 16
  .set vector, 0
  .rept VECTORS
  .balign 16
  .if vector > 31 || !((HAS_ERROR_CODE >> vector) & 1)
  push $0
  .endif
  push $vector
  jmp interrupt_common
  .set vector, vector + 1
  .endr
  .balign 16
interrupt_stubs_end:

interrupt_common:
#ifdef __x86_64__
  push %rax
  push %rcx
  push %rdx
  push %rbx
  push %rbp
  push %rsi
  push %rdi
  push %r8
  push %r9
  push %r10
  push %r11
  push %r12
  push %r13
  push %r14
  push %r15
  cld
  mov %rsp, %rdi
  mov %rsp, %rbp
  and $-16, %rsp
  call HandleInterrupt
  mov %rbp, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rdi
  pop %rsi
  pop %rbp
  pop %rbx
  pop %rdx
  pop %rcx
  pop %rax
  add $16, %rsp
  iretq

// bool RunGuarded(void (*body)(void*), void* argument)
  .globl RunGuarded
RunGuarded:
  pushf
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rdi, %r12
  mov %rsi, %r13
  sub $8, %rsp
  call CpuNumber
  lea guard_stacks(,%rax,8), %rbx
  push %rbx
  mov %rsp, (%rbx)
  mov %r13, %rdi
  call *%r12
  xor %eax, %eax
1:
  pop %rbx
  movq $0, (%rbx)
  add $8, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  popf
  ret
  .globl GuardEscape
GuardEscape:
  and $-16, %rsp
  call CpuNumber
  mov guard_stacks(,%rax,8), %rsp
  mov $1, %eax
  jmp 1b

// void EnterUser(ip, ax, cx, dx): to ring 3, with interrupts as they are here.
  .globl EnterUser
EnterUser:
  mov %rsi, %rax
  xchg %rcx, %rdx
  pushf
  pop %rsi
  and $RFLAGS_IF, %rsi
  or $2, %rsi
  push $0x23
  push $0
  push %rsi
  push $0x1b
  push %rdi
  iretq
#else
  pusha
  cld
  mov %esp, %ebp
  and $-16, %esp
  sub $12, %esp
  push %ebp
  call HandleInterrupt
  mov %ebp, %esp
  popa
  add $8, %esp
  iret

  .globl RunGuarded
RunGuarded:
  mov 4(%esp), %eax
  mov 8(%esp), %ecx
  pushf
  push %ebx
  push %ebp
  push %esi
  push %edi
  mov %eax, %esi
  mov %ecx, %edi
  call CpuNumber
  lea guard_stacks(,%eax,8), %ebx
  push %ebx
  mov %esp, (%ebx)
  push %edi
  call *%esi
  pop %ecx
  xor %eax, %eax
1:
  pop %ebx
  movl $0, (%ebx)
  pop %edi
  pop %esi
  pop %ebp
  pop %ebx
  popf
  ret
  .globl GuardEscape
GuardEscape:
  call CpuNumber
  mov guard_stacks(,%eax,8), %esp
  mov $1, %eax
  jmp 1b

  .globl EnterUser
EnterUser:
  mov 4(%esp), %ebx
  mov 8(%esp), %eax
  mov 12(%esp), %ecx
  mov 16(%esp), %edx
  pushf
  pop %esi
  and $RFLAGS_IF, %esi
  or $2, %esi
  push $0x23
  push $0
  push %esi
  push $0x1b
  push %ebx
  iret
#endif

  .bss
  .balign 8
  .globl guard_stacks
// Of kMaxCpus CPUs.
guard_stacks:
  .skip 4 * 8

  .section .rodata
  .balign 8
  .globl interrupt_stubs
interrupt_stubs:
  PTR interrupt_stubs_end - VECTORS * 16

// What user mode runs: a page of its own, mapped for users at another address
// (access.h). The code has no address of its own, and is the same in both modes.
  .section .user, "ax"
  .balign 4096
  .globl user_read, user_write, user_fetch, user_done
user_read:
#ifdef __x86_64__
  mov (%rcx), %eax
  int $0x80
user_write:
  mov %eax, (%rcx)
  int $0x80
user_fetch:
  jmp *%rcx
#else
  mov (%ecx), %eax
  int $0x80
user_write:
  mov %eax, (%ecx)
  int $0x80
user_fetch:
  jmp *%ecx
#endif
user_done:
  int $0x80

  .section .note.GNU-stack, "", @progbits
