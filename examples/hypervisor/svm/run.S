# SvmEnter(vmcb, registers, host): one VMRUN (svm.h, rule 1).
#
# rdi: address of the guest's VMCB; rsi: SvmRegisters; rdx: address of a VMCB
# for what VMSAVE keeps of the host.

        .text
        .globl  SvmEnter
        .type   SvmEnter, @function
SvmEnter:
        push    %rbx
        push    %rbp
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        push    %rdx
        push    %rsi
        push    %rdi

        mov     %rdx, %rax
        vmsave  %rax
        mov     %rdi, %rax
        fxrstor64 128(%rsi)
        mov       8(%rsi), %rcx
        mov      16(%rsi), %rdx
        mov      24(%rsi), %rbx
        mov      40(%rsi), %rbp
        mov      56(%rsi), %rdi
        mov      64(%rsi), %r8
        mov      72(%rsi), %r9
        mov      80(%rsi), %r10
        mov      88(%rsi), %r11
        mov      96(%rsi), %r12
        mov     104(%rsi), %r13
        mov     112(%rsi), %r14
        mov     120(%rsi), %r15
        mov      48(%rsi), %rsi
        # With GIF clear nothing is taken between STI and VMRUN; the guest runs
        # with GIF set, and V_INTR_MASKING makes the IF of here count.
        clgi
        sti
        vmload  %rax
        vmrun   %rax
        vmsave  %rax

        # rax is the host's own again, rsp too: the VMCB, and our frame.
        xchg    %rsi, 8(%rsp)
        mov     %rcx,   8(%rsi)
        mov     %rdx,  16(%rsi)
        mov     %rbx,  24(%rsi)
        mov     %rbp,  40(%rsi)
        mov     %rdi,  56(%rsi)
        mov     %r8,   64(%rsi)
        mov     %r9,   72(%rsi)
        mov     %r10,  80(%rsi)
        mov     %r11,  88(%rsi)
        mov     %r12,  96(%rsi)
        mov     %r13, 104(%rsi)
        mov     %r14, 112(%rsi)
        mov     %r15, 120(%rsi)
        mov     8(%rsp), %rcx
        mov     %rcx,  48(%rsi)
        fxsave64 128(%rsi)

        mov     16(%rsp), %rax
        vmload  %rax
        # What the C++ code expects: the state of a new process (System V ABI,
        # AMD64, 3.4.1).
        fninit
        ldmxcsr initial_mxcsr(%rip)
        # Here the handler of what ended the guest runs.
        stgi
        cli

        add     $24, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %rbp
        pop     %rbx
        ret
        .size   SvmEnter, . - SvmEnter

        .section .rodata
        .balign 4
initial_mxcsr:
        .long   0x1f80

        .section .note.GNU-stack, "", @progbits
