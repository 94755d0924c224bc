# How a thread begins and ends on its CPU (threads.cc).

        .text
# EnterThread(rdi = ThreadStart): as if SYSCALL returned 0 on another stack, with
# the x87 and SSE state of a new process (System V ABI, AMD64, 3.4.1).
        .globl  EnterThread
        .type   EnterThread, @function
EnterThread:
        fninit
        ldmxcsr initial_mxcsr(%rip)
        mov      8(%rdi), %rsi
        mov     16(%rdi), %rdx
        mov     24(%rdi), %r10
        mov     32(%rdi), %r8
        mov     40(%rdi), %r9
        mov     48(%rdi), %rcx
        mov     56(%rdi), %rsp
        mov      0(%rdi), %rdi
        xor     %ebp, %ebp
        xor     %eax, %eax
        jmp     *%rcx
        .size   EnterThread, . - EnterThread

# LeaveThread(rdi = end of the CPU's own stack).
        .globl  LeaveThread
        .type   LeaveThread, @function
LeaveThread:
        mov     %rdi, %rsp
        xor     %ebp, %ebp
        call    AfterThread
        ud2
        .size   LeaveThread, . - LeaveThread

        .section .note.GNU-stack, "", @progbits
