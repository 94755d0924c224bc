// What the numbers of an op mean in the types of the library. Interpreter and
// backend share these, so that both mean the same.
//
// Numbers that a type cannot hold are cut to the largest one that it can; an
// enum that the library takes on trust (an access type, say) is taken modulo
// the number of its values.
//
// Thread safety: pure functions.

#ifndef SHADOWMMU_TESTS_HARNESS_OP_VALUES_H_
#define SHADOWMMU_TESTS_HARNESS_OP_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "shadowmmu/access.h"
#include "shadowmmu/address.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/mmu.h"
#include "shadowmmu/vcpu_mmu.h"
#include "tests/harness/ops.h"

namespace shadowmmu::testing {

// The address space of a store or of a vCPU: one that exists.
AddressSpace SpaceOf(const Op& op);
// The address space of an op on slots, which may not exist.
AddressSpace SlotSpaceOf(const Op& op);
SlotId SlotIdOf(const Op& op);
SlotFlags FlagsOf(const Op& op);
// The slot that slot.create asks for.
SlotSpec SlotOf(const Op& op);

// nullopt for a vCPU that no stream can have.
std::optional<uint32_t> VcpuOf(const Op& op);
PagingRegisters RegistersOf(const Op& op);
CpuFeatures FeaturesOf(const Op& op);
// `has` of `features`: a bit for each, all of them set.
inline constexpr uint64_t kFeatureBits = 10;
inline constexpr uint64_t kAllFeatures = (uint64_t{1} << kFeatureBits) - 1;
// Any number: unknown types, too.
InvpcidType InvpcidTypeOf(const Op& op);
InvpcidDescriptor DescriptorOf(const Op& op);
// Of a table's entry that `pte`, `host.pte` or `store` writes: 4 or 8.
uint32_t EntrySizeOf(const Op& op);
// As the CPU cuts it to 32 bits outside long mode, and rounds it for `store`.
Gva GvaOf(const Op& op, const PagingRegisters& registers);
Access AccessOf(const Op& op);

// Where a store, read or compare-exchange goes, and what it stores.
Gpa GpaOf(const Op& op);
std::vector<std::byte> BytesOf(const Op& op);
std::vector<std::byte> ToBytes(uint64_t value);
uint32_t SizeOf(const Op& op);
// `old` or `new` of a compare-exchange, cut to its size.
uint64_t OperandOf(const Op& op, Field field);

// Where in its frame host.pte or host.write writes.
uint64_t OffsetOf(const Op& op);

// host.unmap, host.map, host.retarget, host.readonly.
bool IsHostChange(OpKind kind);
// The hvas of a notifier, of `age` and of a change of the host's mappings.
HvaRange HvasOf(const Op& op);
// Those of the host's frames that a change names: [first, first + count).
struct FrameRange {
  uint32_t first = 0;
  uint32_t count = 0;
};
FrameRange FramesOf(const Op& op, uint32_t frames);

Strategy StrategyOf(const Op& op);
SlotZapPolicy PolicyOf(const Op& op);
// How often `bump` or `repeat` does it: cut to what ops.h allows.
uint64_t TimesOf(const Op& op);
Level LevelOf(const Op& op);

}  // namespace shadowmmu::testing

#endif  // SHADOWMMU_TESTS_HARNESS_OP_VALUES_H_
