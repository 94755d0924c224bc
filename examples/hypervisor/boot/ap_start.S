# How another CPU than the first enters (processors.cc): ap_trampoline, copied to
# a page below 1 MiB, is where a start-up interrupt leads to, in real mode. It
# goes to protected mode and here, and on to 64-bit mode by the tables that the
# first CPU made (entry.S), in which that page is not executable. Leaves in
# ApMain, with the CPU's number and a stack of its own.

        .set    CR0_PE, 0x1
        .set    CR0_PE_MP_ET_NE_WP_PG, 0x80010033
        .set    CR4_PAE_OSFXSR_OSXMMEXCPT, 0x620
        .set    MSR_EFER, 0xc0000080
        .set    EFER_SCE_LME_NXE, 0x901

        .section .rodata
        .balign 8
        .globl  ap_trampoline, ap_trampoline_end
        .code16
ap_trampoline:
        cli
        cld
        # The operand is an offset within this page: CS is the page.
        lgdtl   %cs:(trampoline_gdt_pointer - ap_trampoline)
        mov     %cr0, %eax
        or      $CR0_PE, %eax
        mov     %eax, %cr0
        ljmpl   $0x18, $ap_protected_mode
        .balign 4
trampoline_gdt_pointer:
        .word   4 * 8 - 1
        .long   early_gdt
ap_trampoline_end:

        .section .text.boot, "ax"
        .code32
ap_protected_mode:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
        mov     %eax, %cr4
        mov     $boot_pml4, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        mov     $EFER_SCE_LME_NXE, %eax
        xor     %edx, %edx
        wrmsr
        mov     $CR0_PE_MP_ET_NE_WP_PG, %eax
        mov     %eax, %cr0
        ljmp    $0x08, $ap_long_mode

        .code64
ap_long_mode:
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        fninit
        ldmxcsr initial_mxcsr(%rip)
        mov     $1, %edi
        lock xadd %edi, next_index(%rip)
        cmp     ap_limit(%rip), %edi
        jae     1f
        # The stacks grow down: the next one's begin.
        lea     1(%rdi), %eax
        imul    ap_stack_bytes(%rip), %eax
        lea     ap_stacks(%rip), %rsp
        add     %rax, %rsp
        xor     %ebp, %ebp
        call    ApMain
1:      cli
        hlt
        jmp     1b

        .data
        .balign 4
next_index:
        .long   1

        .section .note.GNU-stack, "", @progbits
