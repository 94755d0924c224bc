// A program of the Linux guest, without a C library:
//
//   exercise map        maps memory and files, shares them, protects them, and
//                       forks, and checks what each mapping holds
//   exercise exit N     ends the machine by its exit port, with status N
//
// Its status is 0, or the line of the check that failed, modulo 255, plus 1.

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

extern "C" [[noreturn]] void Main(const uintptr_t* stack);
extern "C" void* memset(void* to, int value, size_t bytes);

void* memset(void* to, int value, size_t bytes) {
  void* at = to;
  asm volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return to;
}

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kPages = 256;
constexpr size_t kBytes = kPages * kPageBytes;
constexpr unsigned kRounds = 5;
constexpr uint16_t kExitPort = 0xf4;
constexpr int kSigChild = 17;

intptr_t Call(intptr_t number, intptr_t a = 0, intptr_t b = 0, intptr_t c = 0,
              intptr_t d = 0, intptr_t e = 0, intptr_t f = 0) {
  register intptr_t r10 asm("r10") = d;
  register intptr_t r8 asm("r8") = e;
  register intptr_t r9 asm("r9") = f;
  intptr_t result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

[[noreturn]] void End(int status) {
  while (true) Call(SYS_exit_group, status);
}

void Check(bool good, int line = __builtin_LINE()) {
  if (!good) End(line % 255 + 1);
}

using Words = volatile uint32_t*;

Words Map(int protection, int flags, int file) {
  const intptr_t at = Call(SYS_mmap, 0, kBytes, protection, flags, file, 0);
  Check(at > 0);
  return reinterpret_cast<Words>(at);
}

void Unmap(Words at) {
  Check(Call(SYS_munmap, reinterpret_cast<intptr_t>(at), kBytes) == 0);
}

uint32_t ValueOf(size_t page, uint32_t seed) {
  return static_cast<uint32_t>(page) * 2654435761u + seed;
}
size_t WordOf(size_t page) { return page * kPageBytes / sizeof(uint32_t); }

void Fill(Words at, uint32_t seed) {
  for (size_t i = 0; i < kPages; ++i) at[WordOf(i) + i] = ValueOf(i, seed);
}
void CheckFilled(Words at, uint32_t seed, int line = __builtin_LINE()) {
  for (size_t i = 0; i < kPages; ++i) {
    Check(at[WordOf(i) + i] == ValueOf(i, seed), line);
  }
}

// Runs `body` in a child, and wants its success.
template <typename Body>
void InChild(Body body) {
  const intptr_t child = Call(SYS_clone, kSigChild);
  Check(child >= 0);
  if (child == 0) {
    body();
    End(0);
  }
  int status = -1;
  Check(Call(SYS_wait4, child, reinterpret_cast<intptr_t>(&status)) == child);
  Check(status == 0);
}

// A child's writes to private memory are its own; those to shared memory are
// not.
void ForkRound(uint32_t seed) {
  constexpr int kReadWrite = PROT_READ | PROT_WRITE;
  const Words mine = Map(kReadWrite, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  const Words ours = Map(kReadWrite, MAP_SHARED | MAP_ANONYMOUS, -1);
  Fill(mine, seed);
  Fill(ours, seed + 1);
  InChild([&] {
    CheckFilled(mine, seed);
    CheckFilled(ours, seed + 1);
    Fill(mine, seed + 2);
    Fill(ours, seed + 3);
    CheckFilled(mine, seed + 2);
  });
  CheckFilled(mine, seed);
  CheckFilled(ours, seed + 3);
  Unmap(mine);
  Unmap(ours);
}

// A file, mapped twice, protected, and read again by read().
void FileRound(uint32_t seed) {
  const intptr_t file =
      Call(SYS_open, reinterpret_cast<intptr_t>("/tmp/mapped"),
           O_RDWR | O_CREAT | O_TRUNC, 0600);
  Check(file >= 0);
  Check(Call(SYS_ftruncate, file, kBytes) == 0);
  const Words shared =
      Map(PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(file));
  const Words reader = Map(PROT_READ, MAP_SHARED, static_cast<int>(file));
  const Words copy =
      Map(PROT_READ | PROT_WRITE, MAP_PRIVATE, static_cast<int>(file));
  Fill(shared, seed);
  CheckFilled(reader, seed);
  Fill(copy, seed + 1);
  CheckFilled(reader, seed);
  CheckFilled(copy, seed + 1);
  Check(Call(SYS_mprotect, reinterpret_cast<intptr_t>(shared), kBytes,
             PROT_READ) == 0);
  CheckFilled(shared, seed);
  for (size_t i = 0; i < kPages; ++i) {
    uint32_t value = 0;
    Check(Call(SYS_pread64, file, reinterpret_cast<intptr_t>(&value),
               sizeof(value),
               static_cast<intptr_t>(i * kPageBytes + i * sizeof(value))) ==
          sizeof(value));
    Check(value == ValueOf(i, seed));
  }
  Unmap(shared);
  Unmap(reader);
  Unmap(copy);
  Check(Call(SYS_close, file) == 0);
}

// What was given back comes as zeros.
void ZeroRound(uint32_t seed) {
  const Words at = Map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  Fill(at, seed);
  Check(Call(SYS_madvise, reinterpret_cast<intptr_t>(at), kBytes,
             MADV_DONTNEED) == 0);
  for (size_t i = 0; i < kPages; ++i) Check(at[WordOf(i) + i] == 0);
  Unmap(at);
}

void MapAll() {
  for (uint32_t round = 0; round < kRounds; ++round) {
    ForkRound(round);
    FileRound(round);
    ZeroRound(round);
  }
}

[[noreturn]] void ExitMachine(uint32_t status) {
  Check(Call(SYS_ioperm, kExitPort, 4, 1) == 0);
  asm volatile("outl %0, %1" ::"a"(status), "Nd"(kExitPort));
  // There is no exit port.
  End(1);
}

uint32_t NumberOf(const char* text) {
  uint32_t number = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    number = number * 10 + static_cast<uint32_t>(*text - '0');
  }
  return number;
}

}  // namespace

// The stack is as execve leaves it: the number of arguments, and they.
void Main(const uintptr_t* stack) {
  const auto argument = [&](unsigned i) {
    return i < stack[0] ? reinterpret_cast<const char*>(stack[1 + i]) : "";
  };
  switch (argument(1)[0]) {
    case 'm':
      MapAll();
      End(0);
    case 'e':
      ExitMachine(NumberOf(argument(2)));
    default:
      End(64);
  }
}

asm(".globl _start\n"
    "_start:\n"
    "  mov %rsp, %rdi\n"
    "  and $-16, %rsp\n"
    "  call Main\n");
