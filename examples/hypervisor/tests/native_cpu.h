// NativeCpu: executes one instruction on the CPU that the test runs on, in 16-,
// 32- or 64-bit code, and says what became of registers, memory and flags: what
// an emulator must do.
//
// The arena is 64 KiB below 2 GiB. 64-bit code uses linear addresses; 16- and
// 32-bit code runs in segments of the LDT that begin at the arena:
//
//   0x0000  the instruction, then a far jump to the way out
//   0x0800  where a branch under test lands: a far jump to the other way out
//   0x1000  the ways in and out
//   0x2000  registers before and after
//   0x4000  data
//   0x8000  stack, downwards from 0x9000
//
// An exception becomes a signal, from which the handler takes the way out.
//
// Thread safety: one object at a time in a process.

#ifndef HYPERVISOR_TESTS_NATIVE_CPU_H_
#define HYPERVISOR_TESTS_NATIVE_CPU_H_

#include <asm/ldt.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "emulate/cpu_state.h"
#include "emulate/exception.h"

namespace hypervisor {

class NativeCpu {
 public:
  static constexpr uint64_t kBytes = 0x10000;
  static constexpr uint64_t kLanding = 0x800;
  static constexpr uint64_t kData = 0x4000;
  static constexpr uint64_t kDataBytes = 0x2000;
  static constexpr uint64_t kStack = 0x8000;
  static constexpr uint64_t kStackBytes = 0x1000;

  NativeCpu() {
    void* arena = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (arena == MAP_FAILED) return;
    arena_ = static_cast<std::byte*>(arena);
    has_ldt_ = WriteLdt();
    WriteEntry();
    WriteExit();
    InstallHandler();
  }
  ~NativeCpu() {
    for (size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &old_actions_[i], nullptr);
    }
    sigaltstack(&old_stack_, nullptr);
    if (arena_ != nullptr) munmap(arena_, kBytes);
  }
  NativeCpu(const NativeCpu&) = delete;
  NativeCpu& operator=(const NativeCpu&) = delete;

  // Some kernels have no LDT, some machines no memory below 2 GiB to run in.
  bool Can(CpuMode mode) const {
    return arena_ != nullptr && (mode == CpuMode::k64Bit || has_ldt_);
  }

  uint64_t base() const { return reinterpret_cast<uint64_t>(arena_); }
  std::span<std::byte> arena() { return {arena_, kBytes}; }
  // What an offset of the arena is called in code of `mode`.
  uint64_t AddressOf(CpuMode mode, uint64_t offset) const {
    return mode == CpuMode::k64Bit ? base() + offset : offset;
  }

  // A state of this process's kind: user mode, paging, the segments of `mode`.
  CpuState State(CpuMode mode) const {
    CpuState cpu;
    cpu.cr0 = cr0::kPe | cr0::kPg | cr0::kEt | cr0::kNe;
    cpu.cr4 = shadowmmu::cr4::kPae | cr4::kOsfxsr;
    cpu.efer = shadowmmu::efer::kLme | shadowmmu::efer::kLma;
    cpu.rflags = rflags::kFixed | rflags::kIf;
    cpu.cpl = 3;
    cpu.rip = AddressOf(mode, 0);
    cpu.gpr[kRsp] = AddressOf(mode, kStack + kStackBytes);
    cpu.cs = SegmentFor(mode, 0xfb);
    cpu.cs.selector = CodeSelector(mode);
    for (Segment* segment : {&cpu.es, &cpu.ss, &cpu.ds, &cpu.fs, &cpu.gs}) {
      *segment = SegmentFor(mode, 0xf3);
      segment->selector = DataSelector(mode);
    }
    return cpu;
  }

  // Takes or gives the right to write a page of data.
  void Protect(uint64_t offset, int protection) {
    mprotect(arena_ + offset, shadowmmu::kPageSize, protection);
  }

  // Executes `code` (one instruction) from `cpu` and `fx` on, in what the arena
  // holds; both are then as after it, or as it left them when it raised an
  // exception, which is returned then.
  std::optional<Exception> Run(CpuMode mode, std::span<const uint8_t> code,
                               CpuState& cpu, FxsaveImage& fx) {
    WriteCode(mode, code);
    std::copy(cpu.gpr.begin(), cpu.gpr.end(), in().gpr);
    in().rflags = cpu.rflags;
    in().fx = fx;
    in().target_offset = static_cast<uint32_t>(cpu.rip);
    in().target_selector = cpu.cs.selector;
    in().data_selector = cpu.ds.selector;
    out().landed = 0;
    trap_ = std::nullopt;
    current_ = this;
    const auto entry = base() + kCode;
    reinterpret_cast<void (*)()>(entry)();
    current_ = nullptr;
    std::copy_n(out().gpr, cpu.gpr.size(), cpu.gpr.begin());
    fx = out().fx;
    if (trap_) {
      cpu.rflags = trap_flags_ & ~rflags::kRf;
      return trap_;
    }
    cpu.rflags = out().rflags;
    cpu.rip =
        out().landed != 0 ? AddressOf(mode, kLanding) : cpu.rip + code.size();
    return std::nullopt;
  }

 private:
  static constexpr uint64_t kCode = 0x1000;
  static constexpr uint64_t kIn = 0x2000;
  static constexpr uint64_t kOut = 0x3000;
  static constexpr uint16_t kUserCode = 0x33;
  static constexpr uint16_t kUserData = 0x2b;
  static constexpr std::array<int, 4> kSignals = {SIGSEGV, SIGILL, SIGBUS,
                                                  SIGTRAP};

  struct Registers {
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t host_rsp;
    uint32_t target_offset;
    uint16_t target_selector;
    uint16_t data_selector;
    uint64_t landed;
    FxsaveImage fx;
    FxsaveImage host_fx;
  };

  Registers& in() { return *reinterpret_cast<Registers*>(arena_ + kIn); }
  Registers& out() { return *reinterpret_cast<Registers*>(arena_ + kOut); }

  static uint16_t CodeSelector(CpuMode mode) {
    switch (mode) {
      case CpuMode::k16Bit:
        return 0 << 3 | 7;
      case CpuMode::k32Bit:
        return 2 << 3 | 7;
      case CpuMode::k64Bit:
        break;
    }
    return kUserCode;
  }
  static uint16_t DataSelector(CpuMode mode) {
    switch (mode) {
      case CpuMode::k16Bit:
        return 1 << 3 | 7;
      case CpuMode::k32Bit:
        return 3 << 3 | 7;
      case CpuMode::k64Bit:
        break;
    }
    return kUserData;
  }

  Segment SegmentFor(CpuMode mode, uint16_t access) const {
    Segment segment;
    segment.attributes = access;
    if (mode == CpuMode::k64Bit) {
      segment.attributes |= Segment::kLong | Segment::kGranularity;
      segment.limit = 0xffffffff;
      return segment;
    }
    segment.base = base();
    segment.limit = kBytes - 1;
    if (mode == CpuMode::k32Bit) segment.attributes |= Segment::kDefault;
    return segment;
  }

  bool WriteLdt() const {
    for (unsigned i = 0; i < 4; ++i) {
      user_desc descriptor = {};
      descriptor.entry_number = i;
      descriptor.base_addr = static_cast<unsigned>(base());
      descriptor.limit = kBytes - 1;
      descriptor.seg_32bit = i >= 2;
      descriptor.contents = i % 2 == 0 ? 2 : 0;
      descriptor.useable = 1;
      if (syscall(SYS_modify_ldt, 1, &descriptor, sizeof(descriptor)) != 0) {
        return false;
      }
    }
    return true;
  }

  // Machine code, piece by piece.
  struct Assembler {
    std::byte* at;
    void Bytes(std::initializer_list<unsigned> bytes) {
      for (unsigned byte : bytes) *at++ = static_cast<std::byte>(byte);
    }
    void Word32(uint64_t value) {
      std::memcpy(at, &value, 4);
      at += 4;
    }
    // `opcode` (with a reg field) on the absolute address of `field`.
    void Absolute(std::initializer_list<unsigned> opcode, unsigned reg,
                  const void* field) {
      Bytes(opcode);
      Bytes({reg << 3 | 4, 0x25});
      Word32(reinterpret_cast<uint64_t>(field));
    }
    void Load(unsigned reg, const void* field) {
      Absolute({0x48u | (reg >= 8 ? 4u : 0u), 0x8b}, reg & 7, field);
    }
    void Store(unsigned reg, const void* field) {
      Absolute({0x48u | (reg >= 8 ? 4u : 0u), 0x89}, reg & 7, field);
    }
  };

  void WriteEntry() {
    Assembler code = {arena_ + kCode};
    Registers& regs = in();
    code.Bytes({0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57});
    code.Bytes({0x9c});  // and RFLAGS
    code.Store(kRsp, &regs.host_rsp);
    code.Absolute({0x48, 0x0f, 0xae}, 0, &regs.host_fx);  // FXSAVE64
    code.Absolute({0x48, 0x0f, 0xae}, 1, &regs.fx);       // FXRSTOR64
    code.Absolute({0x0f, 0xb7}, kRax, &regs.data_selector);
    code.Bytes({0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe8, 0x8e, 0xd0});
    code.Absolute({0xff}, 6, &regs.rflags);  // PUSH
    code.Bytes({0x9d});
    for (unsigned reg = 0; reg < 16; ++reg) code.Load(reg, &regs.gpr[reg]);
    code.Absolute({0xff}, 5, &regs.target_offset);  // far JMP
  }

  void WriteExit() {
    Assembler code = {arena_ + kCode + 0x200};
    Registers& regs = out();
    landed_exit_ = code.at;
    code.Absolute({0x48, 0xc7}, 0, &regs.landed);
    code.Word32(1);
    plain_exit_ = code.at;
    for (unsigned reg = 0; reg < 16; ++reg) code.Store(reg, &regs.gpr[reg]);
    trap_exit_ = code.at;
    code.Load(kRsp, &in().host_rsp);
    code.Bytes({0x9c});
    code.Absolute({0x8f}, 0, &regs.rflags);  // POP
    code.Bytes({0xfc});
    code.Absolute({0x48, 0x0f, 0xae}, 0, &regs.fx);
    code.Absolute({0x48, 0x0f, 0xae}, 1, &in().host_fx);
    code.Bytes({0xb8, kUserData, 0, 0, 0, 0x8e, 0xd0});  // SS
    code.Bytes({0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe8});
    code.Bytes({0x9d, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c});
    code.Bytes({0x5d, 0x5b, 0xc3});
  }

  // A far jump from code of `mode` to one of the ways out.
  void WriteJump(CpuMode mode, std::byte* at, const std::byte* exit) {
    Assembler code = {at};
    if (mode == CpuMode::k64Bit) {
      code.Bytes({0xff, 0x25, 0, 0, 0, 0});
      code.Word32(reinterpret_cast<uint64_t>(exit));
      code.Word32(0);
      return;
    }
    if (mode == CpuMode::k16Bit) code.Bytes({0x66});
    code.Bytes({0xea});
    code.Word32(reinterpret_cast<uint64_t>(exit));
    code.Bytes({kUserCode, 0});
  }

  void WriteCode(CpuMode mode, std::span<const uint8_t> code) {
    std::memcpy(arena_, code.data(), code.size());
    WriteJump(mode, arena_ + code.size(), plain_exit_);
    WriteJump(mode, arena_ + kLanding, landed_exit_);
  }

  void InstallHandler() {
    stack_.resize(1 << 16);
    stack_t stack = {};
    stack.ss_sp = stack_.data();
    stack.ss_size = stack_.size();
    sigaltstack(&stack, &old_stack_);
    struct sigaction action = {};
    action.sa_sigaction = &NativeCpu::OnSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (size_t i = 0; i < kSignals.size(); ++i) {
      sigaction(kSignals[i], &action, &old_actions_[i]);
    }
  }

  static void OnSignal(int number, siginfo_t* info, void* context) {
    if (current_ == nullptr) {
      // Not ours: it comes again, and ends the process.
      std::signal(number, SIG_DFL);
      return;
    }
    greg_t* regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    Exception& trap = current_->trap_.emplace();
    trap.vector = static_cast<ExceptionVector>(regs[REG_TRAPNO]);
    trap.error_code = static_cast<uint32_t>(regs[REG_ERR]);
    if (trap.vector == ExceptionVector::kPageFault) {
      trap.address = shadowmmu::Gva(reinterpret_cast<uint64_t>(info->si_addr));
    }
    current_->SaveRegisters(regs);
    regs[REG_RIP] = reinterpret_cast<greg_t>(current_->trap_exit_);
    regs[REG_RSP] = static_cast<greg_t>(current_->in().host_rsp);
    regs[REG_EFL] = 0x202;
    regs[REG_CSGSFS] =
        static_cast<greg_t>(uint64_t{kUserData} << 48 | uint64_t{kUserCode});
  }

  void SaveRegisters(const greg_t* regs) {
    constexpr int kOrder[] = {
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
        REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    std::transform(std::begin(kOrder), std::end(kOrder), out().gpr,
                   [&](int reg) { return static_cast<uint64_t>(regs[reg]); });
    trap_flags_ = static_cast<uint64_t>(regs[REG_EFL]);
  }

  static inline NativeCpu* current_ = nullptr;

  std::byte* arena_ = nullptr;
  bool has_ldt_ = false;
  const std::byte* landed_exit_ = nullptr;
  const std::byte* plain_exit_ = nullptr;
  const std::byte* trap_exit_ = nullptr;
  std::optional<Exception> trap_;
  uint64_t trap_flags_ = 0;
  std::vector<std::byte> stack_;
  stack_t old_stack_ = {};
  std::array<struct sigaction, 4> old_actions_ = {};
};

}  // namespace hypervisor

#endif  // HYPERVISOR_TESTS_NATIVE_CPU_H_
