// Instructions on memory that is a device's (the test device's, at 0xff000000),
// where a hypervisor must execute them: each does what it does on RAM. The same
// code runs on both from the same bytes on, and then registers, flags and
// memory are compared.

#include "runtime/address_space.h"
#include "runtime/cpu.h"
#include "runtime/frames.h"
#include "runtime/guard.h"
#include "runtime/guest.h"
#include "runtime/interrupts.h"
#include "runtime/report.h"

extern "C" {
extern uint64_t gdt[];
}

namespace guest {
namespace {

constexpr Word kDevice = 0xff000000;
constexpr unsigned kWords = 64;
constexpr Word kStatusFlags = 0x8d5;
constexpr Word kDefinedByProduct = 0x801;  // CF, OF
constexpr Word kZero = 0x40;

// Two pages of the device, one twice, and two of RAM alike.
Word DevicePages() { return TestBase(); }
Word RamPages() { return TestBase() + 4 * kPageBytes; }

// Registers that an instruction may use: `memory` is in rBX.
struct Registers {
  Word ax, cx, dx, flags;
};

// Runs `text` with the registers given, and `memory` in rBX.
#define CODE(text)                                                    \
  [](Word memory, Registers* registers) {                             \
    Registers r = *registers;                                         \
    asm volatile(text "\n pushf\n pop %3\n"                           \
                 : "+a"(r.ax), "+c"(r.cx), "+d"(r.dx), "=&r"(r.flags) \
                 : "b"(memory)                                        \
                 : "memory", "cc");                                   \
    *registers = r;                                                   \
  }
using Code = void (*)(Word memory, Registers* registers);

void Fill(Word memory, uint32_t seed) {
  for (unsigned i = 0; i < kWords; ++i) {
    seed = seed * 1664525 + 1013904223;
    *reinterpret_cast<volatile uint32_t*>(memory + 4 * i) = seed;
  }
}

// `defined`: the status flags that the manuals say something of.
void Try(const char* name, Code code, Word defined = kStatusFlags,
         Word dx = 0x1234) {
  for (uint32_t round = 1; round <= 4; ++round) {
    const Registers before = {
        .ax = Word{0x89abcd00} + round, .cx = round, .dx = dx, .flags = 0};
    Registers of_device = before;
    Registers of_ram = before;
    Fill(DevicePages(), round);
    Fill(RamPages(), round);
    code(DevicePages(), &of_device);
    code(RamPages(), &of_ram);
    const bool same = of_device.ax == of_ram.ax && of_device.cx == of_ram.cx &&
                      of_device.dx == of_ram.dx &&
                      ((of_device.flags ^ of_ram.flags) & defined) == 0;
    if (!same) Print(name, ": registers or flags\n");
    Check(same, name);
    for (unsigned i = 0; i < kWords; ++i) {
      CheckEqual(*reinterpret_cast<volatile uint32_t*>(DevicePages() + 4 * i),
                 *reinterpret_cast<volatile uint32_t*>(RamPages() + 4 * i),
                 name);
    }
  }
}

void TryArithmetic() {
  Try("add", CODE("addl %%eax, (%%rbx)"));
  Try("adc", CODE("stc; adcl 8(%%rbx), %%eax"));
  Try("sbb", CODE("stc; sbbw $3, (%%rbx)"));
  Try("xor", CODE("xorb $0x55, 3(%%rbx)"), kStatusFlags & ~Word{0x10});
  Try("lock inc", CODE("lock incl 12(%%rbx)"));
  Try("lock neg", CODE("lock negl 12(%%rbx)"));
  Try("lock xadd", CODE("lock xaddl %%eax, 12(%%rbx)"));
  Try("xchg", CODE("xchg %%ax, 5(%%rbx)"));
  Try("cmpxchg", CODE("movl (%%rbx), %%eax; cmpxchgl %%ecx, (%%rbx)"));
  Try("mul", CODE("mull 4(%%rbx)"), kDefinedByProduct);
  Try("imul", CODE("imull 4(%%rbx)"), kDefinedByProduct);
  Try("imul of a byte", CODE("imulb 5(%%rbx)"), kDefinedByProduct);
  Try("imul reg", CODE("imull 4(%%rbx), %%eax"), kDefinedByProduct);
  Try("imul imm8", CODE("imull $51, 4(%%rbx), %%eax"), kDefinedByProduct);
  Try("imul imm32", CODE("imull $31100, 4(%%rbx), %%eax"), kDefinedByProduct);
  Try("div", CODE("orl $0x80000000, (%%rbx); divl (%%rbx)"), 0);
  Try("idiv",
      CODE("orw $7, (%%rbx); andw $7, (%%rbx); mov $99, %%ax; cwtd;"
           "idivw (%%rbx)"),
      0);
  Try("shld", CODE("shldl $5, %%eax, (%%rbx)"), 0xc5);
  Try("shrd", CODE("shrdl %%cl, %%eax, (%%rbx)"), 0xc5);
  Try("rcr", CODE("rcrl $3, (%%rbx)"), 1);
  Try("btc", CODE("btcl %%ecx, (%%rbx)"), 1);
  Try("btc far away", CODE("mov $-33, %%ecx; btcl %%ecx, 16(%%rbx)"), 1);
  Try("bsf", CODE("bsfl (%%rbx), %%eax"), kZero);
  Try("bsr", CODE("bsrw (%%rbx), %%ax"), kZero);
  Try("bsf of nothing", CODE("movl $0, (%%rbx); bsfl (%%rbx), %%eax"), kZero);
  Try("cmov", CODE("cmp %%eax, %%eax; cmovne (%%rbx), %%eax"));
  Try("setb", CODE("stc; setb 9(%%rbx)"));
  Try("xlat", CODE("xlat"), 0);
}

void TryStrings() {
  Try("movs",
      CODE("push %%rsi; push %%rdi; lea 1(%%rbx), %%rsi;"
           "lea 130(%%rbx), %%rdi; mov $40, %%ecx; cld; rep movsb;"
           "pop %%rdi; pop %%rsi"),
      0);
  Try("cmps", CODE("push %%rsi; push %%rdi; mov %%rbx, %%rsi;"
                   "lea 40(%%rbx), %%rdi; mov $9, %%ecx; cld; repe cmpsl;"
                   "pop %%rdi; pop %%rsi"));
  Try("scas", CODE("push %%rdi; lea 63(%%rbx), %%rdi; mov $60, %%ecx; std;"
                   "mov 7(%%rbx), %%al; repne scasb; cld; pop %%rdi"));
  Try("stos backwards",
      CODE("push %%rdi; lea 63(%%rbx), %%rdi;"
           "mov $9, %%ecx; std; rep stosw; cld; pop %%rdi"),
      0);
}

// A stack there.
void TryStacks() {
  Try("push",
      CODE("mov %%rsp, %%rdx; lea 128(%%rbx), %%rsp; push $-7;"
           "push %%rax; push (%%rbx); pushw $9; mov %%rsp, %%rax;"
           "mov %%rdx, %%rsp; sub %%rbx, %%rax; xor %%edx, %%edx"),
      0);
  Try("pop",
      CODE("mov %%rsp, %%rdx; lea 64(%%rbx), %%rsp; pop %%rax;"
           "pop 8(%%rbx); mov %%rdx, %%rsp; xor %%edx, %%edx"),
      0);
  Try("call and return",
      CODE("mov %%rsp, %%rdx; lea 128(%%rbx), %%rsp;"
           "call 1f; jmp 2f; 1: mov $17, %%eax; ret;"
           "2: mov %%rdx, %%rsp; movl $0, 120(%%rbx);"
           "movl $0, 124(%%rbx); xor %%edx, %%edx"),
      0);
  Try("enter and leave",
      CODE("mov %%rsp, %%rdx; mov %%rbp, %%rcx;"
           "lea 200(%%rbx), %%rsp; lea 160(%%rbx), %%rbp;"
           "enter $24, $3; mov %%rsp, %%rax;"
           "sub %%rbx, %%rax; lea 64(%%rbx), %%rbp; leave;"
           "mov %%rdx, %%rsp; mov %%rcx, %%rbp;"
           "movq $0, 192(%%rbx); movq $0, 184(%%rbx);"
           "movq $0, 176(%%rbx); movq $0, 168(%%rbx);"
           "xor %%edx, %%edx"),
      0);
}

void TryXmmAndMmx() {
  constexpr Word kOsfxsr = 1u << 9;
  WriteCr4(ReadCr4() | kOsfxsr);
  asm volatile("fninit");
  Try("movdqu", CODE("movdqu 1(%%rbx), %%xmm3; movdqu %%xmm3, 33(%%rbx)"));
  Try("movaps", CODE("movaps (%%rbx), %%xmm3; movaps %%xmm3, 64(%%rbx)"));
  Try("movq of mmx", CODE("movq 8(%%rbx), %%mm5; movq %%mm5, 40(%%rbx)"));
  Try("movd of mmx", CODE("movd 8(%%rbx), %%mm5; movd %%mm5, 40(%%rbx);"
                          "movq %%mm5, 48(%%rbx); emms"));
}

// Segments and jumps.
void TrySystem() {
  Try("mov to a segment",
      CODE("mov %%ds, %%edx; movw $0x10, (%%rbx);"
           "mov (%%rbx), %%es; mov %%es, %%eax;"
           "mov %%edx, %%es; mov %%ds, (%%rbx);"
           "xor %%edx, %%edx"),
      0);
  Try("smsw", CODE("smsw (%%rbx)"), 0);
  Try("far jump",
      CODE("lea 1f(%%rip), %%rax; mov %%rax, (%%rbx);"
           "mov %%cs, 8(%%rbx); rex64 ljmp *(%%rbx); hlt;"
           "1: xor %%eax, %%eax; movq $0, (%%rbx)"),
      0);
  Try("jump",
      CODE("lea 1f(%%rip), %%rax; mov %%rax, (%%rbx);"
           "jmp *(%%rbx); hlt; 1: xor %%eax, %%eax;"
           "movq $0, (%%rbx)"),
      0);
  Try("lgdt", CODE("sgdt (%%rbx); lgdt (%%rbx); sgdt 16(%%rbx)"), 0);
  constexpr uint64_t kBusy = uint64_t{2} << 40;
  uint16_t tr = 0;
  asm volatile("str %0" : "=r"(tr));
  gdt[tr / 8] &= ~kBusy;
  *reinterpret_cast<volatile uint16_t*>(DevicePages()) = tr;
  asm volatile("ltr (%0)" ::"r"(DevicePages()) : "memory");
  Check((gdt[tr / 8] & kBusy) != 0, "ltr");
}

// What faults there has changed nothing, and is where RIP is.
void TryFaults() {
  const Word at = DevicePages();
  *reinterpret_cast<volatile Word*>(at) = 0;
  const auto divide = [at] {
    asm volatile("divl (%0)" ::"r"(at) : "eax", "edx", "cc");
  };
  CheckEqual(Guarded(divide).vector, 0, "a division by zero");
  *reinterpret_cast<volatile Word*>(at) = 0x1111111111111111;
  const auto jump = [at] { asm volatile("jmp *(%0)" ::"r"(at)); };
  CheckEqual(Guarded(jump).vector, kGeneralProtection,
             "a jump to no canonical address");
  *reinterpret_cast<volatile uint16_t*>(at) = 0x13;
  const auto load = [at] { asm volatile("mov (%0), %%ss" ::"r"(at)); };
  CheckEqual(Guarded(load).vector, kGeneralProtection, "another ring's stack");
}

void TryPages() {
  const Word last = DevicePages() + kPageBytes - 1;
  *reinterpret_cast<volatile uint8_t*>(last) = 0x99;
  *reinterpret_cast<volatile uint8_t*>(last + 1) = 0x77;
  CheckEqual(*reinterpret_cast<volatile uint16_t*>(last), 0x7799,
             "a word on two pages");
  *reinterpret_cast<volatile uint16_t*>(last) = 0x88aa;
  CheckEqual(*reinterpret_cast<volatile uint8_t*>(last + 1), 0x88,
             "a store on two pages");
  CheckEqual(*reinterpret_cast<volatile uint8_t*>(DevicePages()), 0x88,
             "the same memory at the page before");
  Word to = DevicePages() + 4032;
  Word count = 100;
  Out32(0xe0, 0x99);
  asm volatile("cld; rep insb" : "+D"(to), "+c"(count) : "d"(0xe0) : "memory");
  CheckEqual(*reinterpret_cast<volatile uint8_t*>(to - 1), 0x99,
             "a string from a port");
}

}  // namespace

void GuestMain() {
  UsePaging();
  AddressSpace space;
  for (unsigned i = 0; i < 2; ++i) {
    const Word page = i * kPageBytes;
    space.Map(DevicePages() + page, kDevice, kPresent | kWritable);
    space.Map(RamPages() + page, AllocateFrame(), kPresent | kWritable);
  }
  space.Use();
  TryArithmetic();
  TryStrings();
  TryStacks();
  TryXmmAndMmx();
  TrySystem();
  TryFaults();
  TryPages();
  Print("a device's memory: right\n");
}

}  // namespace guest
