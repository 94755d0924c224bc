// Where the tasks of task_switch.cc begin, and go on.

#define MAIN_TASK 0x38

  .text
  .globl task_called, task_jumped, task_fault, CallTask, JumpToTask

// A task that is called: it returns to its caller.
task_called:
  call OnCalled
  iret
  jmp task_called

// A task that is jumped to: it jumps to the main one.
task_jumped:
  call OnJumped
  ljmp $MAIN_TASK, $0
  jmp task_jumped

// A task for exceptions with an error code.
task_fault:
  call OnFault
  add $4, %esp
  iret
  jmp task_fault

// void CallTask(uint32_t selector), void JumpToTask(uint32_t selector)
CallTask:
  pusha
  mov 36(%esp), %eax
  push %eax
  push $0
  lcall *(%esp)
  add $8, %esp
  popa
  ret
JumpToTask:
  pusha
  mov 36(%esp), %eax
  push %eax
  push $0
  ljmp *(%esp)
  add $8, %esp
  popa
  ret

  .section .note.GNU-stack, "", @progbits
