# Where the machine enters: 32-bit protected mode without paging, ebx = address
# of the start info (Xen's x86/HVM direct boot ABI, "PVH"; the ELF note below
# says where). Leaves in 64-bit mode, in BootMain.
#
# The tables made here map the first 4 GiB onto themselves with 2 MiB pages, the
# first 2 MiB with 4 KiB ones, and let everything be written and executed;
# identity_map.cc takes away what should not be. The CPU has what every CPU with
# SVM has: long mode, NX, SSE2.

        .section .note.Xen, "a", @note
        .balign 4
        .long   4               # size of the name
        .long   8               # size of the descriptor
        .long   18              # XEN_ELFNOTE_PHYS32_ENTRY
        .asciz  "Xen"
        .quad   pvh_entry

        .set    PRESENT_WRITE, 0x3
        .set    LARGE, 0x80
        .set    CR0_PE_MP_ET_NE_WP_PG, 0x80010033
        .set    CR4_PAE_OSFXSR_OSXMMEXCPT, 0x620
        .set    MSR_EFER, 0xc0000080
        .set    EFER_SCE_LME_NXE, 0x901

        .section .text.boot, "ax"
        .code32
        .globl  pvh_entry
pvh_entry:
        cli
        cld

        mov     $boot_page_directories, %edi
        mov     $(PRESENT_WRITE | LARGE), %eax
        mov     $2048, %ecx
1:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    1b

        mov     $boot_first_page_table, %edi
        mov     $PRESENT_WRITE, %eax
        mov     $512, %ecx
2:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $0x1000, %eax
        add     $8, %edi
        loop    2b
        movl    $(boot_first_page_table + PRESENT_WRITE), boot_page_directories

        movl    $(boot_page_directories + 0x0000 + PRESENT_WRITE), boot_pdpt
        movl    $(boot_page_directories + 0x1000 + PRESENT_WRITE), boot_pdpt + 8
        movl    $(boot_page_directories + 0x2000 + PRESENT_WRITE), boot_pdpt + 16
        movl    $(boot_page_directories + 0x3000 + PRESENT_WRITE), boot_pdpt + 24
        movl    $(boot_pdpt + PRESENT_WRITE), boot_pml4

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
        lgdt    early_gdt_pointer
        ljmp    $0x08, $long_mode

        .code64
long_mode:
        mov     $0x10, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        fninit
        ldmxcsr initial_mxcsr(%rip)
        lea     boot_stack_top(%rip), %rsp
        xor     %ebp, %ebp
        mov     %ebx, %edi
        call    BootMain
        ud2

# EnterProcess(rdi = stack pointer): the C library's start, in the state of a new
# process (System V ABI, AMD64, 3.4.1): rdx = 0, nothing to run at exit.
        .text
        .globl  EnterProcess
        .type   EnterProcess, @function
EnterProcess:
        mov     %rdi, %rsp
        xor     %ebp, %ebp
        xor     %edx, %edx
        jmp     _start
        .size   EnterProcess, . - EnterProcess

        .section .rodata
        .balign 8
        .globl  early_gdt, initial_mxcsr
early_gdt:
        .quad   0
        .quad   0x00af9b000000ffff      # 64-bit code
        .quad   0x00cf93000000ffff      # data
        .quad   0x00cf9b000000ffff      # 32-bit code, for ap_start.S
early_gdt_pointer:
        .word   . - early_gdt - 1
        .long   early_gdt
initial_mxcsr:
        .long   0x1f80

        .bss
        .balign 4096
        .globl  boot_page_directories, boot_first_page_table, boot_pml4
boot_pml4:
        .skip   4096
boot_pdpt:
        .skip   4096
boot_page_directories:
        .skip   4 * 4096
boot_first_page_table:
        .skip   4096
boot_stack:
        .skip   16384
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
