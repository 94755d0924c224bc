# SyscallEntry: where SYSCALL goes (LSTAR). rcx = the caller's rip, r11 = its
# rflags, rax = the number, rdi rsi rdx r10 r8 r9 = the arguments. All but rax,
# rcx and r11 are the caller's still when it goes on. SYSRET would go to ring 3:
# the way back is a jump.

        .text
        .globl  SyscallEntry
        .type   SyscallEntry, @function
SyscallEntry:
        lea     -128(%rsp), %rsp        # the red zone
        push    %r11
        push    %rcx
        push    %r9
        push    %r8
        push    %r10
        push    %rdx
        push    %rsi
        push    %rdi
        push    %rax
        push    %rbx
        mov     %rsp, %rbx
        lea     8(%rsp), %rdi
        and     $-16, %rsp
        call    HandleSyscall
        mov     %rbx, %rsp
        pop     %rbx
        add     $8, %rsp                # rax holds the result
        pop     %rdi
        pop     %rsi
        pop     %rdx
        pop     %r10
        pop     %r8
        pop     %r9
        pop     %rcx
        popfq                           # r11's; a handler has a stack of its own
        lea     128(%rsp), %rsp
        jmp     *%rcx
        .size   SyscallEntry, . - SyscallEntry

        .section .note.GNU-stack, "", @progbits
