// Op-streams: everything that a guest and a host can do to a shadow MMU, as
// data. docs/op-streams.md is the reference of the text format.
//
//  1. A stream is a small VM and a list of ops. The same stream means the same
//     on every machine: nothing in it depends on addresses or on time.
//  2. Any values are legal in an op. One that makes no sense in the state it
//     meets is executed all the same, and must be refused (interpreter.h).
//     Only the VM's own numbers are bounded, by ClampVm.
//  3. One table (ops.cc) names every op and its fields: parser, printer,
//     simulator and shrinker read it, so that a new op is a line there.
//
// Thread safety: values.

#ifndef SHADOWMMU_TESTS_HARNESS_OPS_H_
#define SHADOWMMU_TESTS_HARNESS_OPS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shadowmmu::testing {

enum class OpKind : uint8_t {
  // Slots.
  kSlotCreate,
  kSlotDelete,
  kSlotMove,
  kSlotFlags,
  kDirtyGet,
  // vCPUs.
  kVcpuCreate,
  kVcpuDestroy,
  kRegs,
  kRegsRaw,
  kCr3,
  kFeatures,
  kSpace,
  kEnter,
  kExit,
  // What a guest does.
  kTouch,
  kStore,
  kTranslate,
  kInvlpg,
  kInvpcid,
  kEvict,
  // Emulated stores and reads.
  kPte,
  kWrite,
  kCmpxchg,
  kVcpuWrite,
  kVcpuCmpxchg,
  kRead,
  // What a host does to guest memory.
  kHostPte,
  kHostWrite,
  kNotifyBegin,
  kNotifyEnd,
  kNotifySequence,
  kHostUnmap,
  kHostMap,
  kHostRetarget,
  kHostReadonly,
  kAge,
  kTestAge,
  // Invalidation.
  kBump,
  kReclaim,
  kInvalidate,
  kLimit,
  kUnshadow,
  // When the next op is done, and how often.
  kMeanwhile,
  kRepeat,
  // Trouble, and what a regression file expects.
  kAllocFail,
  kExpectOutcome,
  kExpectFault,
  kExpectStatus,
  kExpectRmap,
  kExpectLeaves,
  kExpectDirty,
  kExpectStat,
};
inline constexpr size_t kOpKinds = 52;

// A named argument of an op.
enum class Field : uint8_t {
  kNone,
  kVcpu,
  kSpace,
  kId,
  kGfn,
  kPages,
  kHost,
  kTo,
  kFlags,
  kMode,
  kNxe,
  kCr0,
  kCr3,
  kCr4,
  kEfer,
  kGva,
  kType,
  kPrivilege,
  kGpa,
  kSize,
  kOld,
  kNew,
  kValue,
  kTable,
  kIndex,
  kOffset,
  kBudget,
  kStrategy,
  kN,
  kIs,
  kWhy,
  kVector,
  kError,
  kCode,
  kLevel,
  kCount,
  kStat,
  kMin,
  kMax,
  kTimes,
  kAt,
  kWp,
  kSmep,
  kSmap,
  kPke,
  kPse,
  kPcide,
  kAc,
  kPkru,
  kHas,
  kInvpcidType,
  kPcid,
  kPolicy,
  kWarm,
};
inline constexpr size_t kFields = 54;

// What the words of the word-valued fields stand for; any other number is
// legal too, and means what the enum of the public header makes of it.
namespace mode {
inline constexpr uint64_t kOff = 0, kLong = 1, k32Bit = 2, kPae = 3, kLa57 = 4;
inline constexpr uint64_t kModes = 5;
}  // namespace mode

// How a field is written, and what it is when it is left out.
struct FieldInfo {
  enum class Style : uint8_t { kDecimal, kHex, kWords };
  std::string_view name;
  Style style = Style::kDecimal;
  std::span<const std::string_view> words;
  uint64_t absent = 0;
};
const FieldInfo& InfoOf(Field field);

inline constexpr size_t kMaxFields = 10;

// An op's name and its fields: the first `required` must be written, the rest
// may be left out.
struct OpShape {
  std::string_view name;
  std::array<Field, kMaxFields> fields{};
  uint8_t required = 0;
  bool has_bytes = false;  // takes bytes=<hex>

  size_t field_count() const;
};
const OpShape& ShapeOf(OpKind kind);

// One op. Construct with the kind, then Set what it has.
class Op {
 public:
  Op() : Op(OpKind::kBump) {}
  explicit Op(OpKind kind);

  OpKind kind() const { return kind_; }
  bool Has(Field field) const;
  // The field's value; for a field that this kind has not, what it is when
  // absent.
  uint64_t Get(Field field) const;
  // Precondition: the kind has `field`.
  Op& Set(Field field, uint64_t value);

  const std::vector<uint8_t>& bytes() const { return bytes_; }
  Op& SetBytes(std::vector<uint8_t> bytes);

  friend bool operator==(const Op&, const Op&) = default;

 private:
  OpKind kind_;
  std::array<uint64_t, kMaxFields> values_{};
  std::vector<uint8_t> bytes_;
};

// The VM that a stream runs in.
struct VmShape {
  uint32_t vcpus = 1;    // made before the first op, ids from 0
  uint32_t frames = 64;  // pages of host memory
  uint32_t tables = 64;  // MmuConfig::table_capacity
  uint32_t largest = 3;  // MmuConfig::largest_page
  uint32_t bits = 40;    // MmuConfig::guest_physical_bits
  uint32_t roots = 3;    // MmuConfig::previous_roots
  uint32_t unsync = 1;   // MmuConfig::unsync
  uint32_t flood = 3;    // MmuConfig::write_flooding
  // MmuConfig::prefetch. Off, so that each page has its own fault.
  uint32_t prefetch = 0;
  uint32_t ones = 0;  // MmuConfig::absent_tables is kReadAsOnes
  friend bool operator==(const VmShape&, const VmShape&) = default;
};

// The bounds of a VM: small enough to make thousands a second.
inline constexpr uint32_t kStreamMaxVcpus = 4;
inline constexpr uint32_t kStreamMaxFrames = 2048;
// The least that MmuConfig accepts for so many vCPUs.
inline constexpr uint32_t kStreamMinTables = 12 + 4 * kStreamMaxVcpus;
inline constexpr uint32_t kStreamMaxTables = 512;
inline constexpr size_t kStreamMaxOps = size_t{1} << 20;
// At most this many bytes in one op: what GuestWrite takes.
inline constexpr size_t kStreamMaxBytes = 4096;
// At most so often is an op repeated, and the generation raised by one op.
inline constexpr uint64_t kStreamMaxRepeats = uint64_t{1} << 17;
inline constexpr uint64_t kStreamMaxBumps = uint64_t{1} << 40;

// The nearest VM within the bounds.
VmShape ClampVm(VmShape vm);

struct OpStream {
  std::vector<std::string> story;  // the comment lines before `vm`, no '#'
  VmShape vm;
  std::vector<Op> ops;
  friend bool operator==(const OpStream&, const OpStream&) = default;
};

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_OPS_H_
