// GuestTables: the four-level tables of a guest, in host memory: all of the
// second slot of an indirect layout, of which only the tables are ever touched.
// Every entry is writable, and has its accessed and dirty bits set.
//
// Thread safety: one thread.

#ifndef SHADOWMMU_BENCH_MICRO_GUEST_TABLES_H_
#define SHADOWMMU_BENCH_MICRO_GUEST_TABLES_H_

#include <cstddef>
#include <cstdint>

#include "bench/micro/layout.h"
#include "shadowmmu/memslot.h"
#include "shadowmmu/registers.h"

namespace shadowmmu::bench {

class GuestTables {
 public:
  // The layout is not owned.
  explicit GuestTables(const Layout& layout);
  ~GuestTables();
  GuestTables(const GuestTables&) = delete;
  GuestTables& operator=(const GuestTables&) = delete;

  SlotSpec slot() const;
  // Of a guest that runs on them.
  PagingRegisters registers() const;

 private:
  size_t bytes() const { return slot_.pages << kPageShift; }
  void Build(const Layout::Entry& entry);

  const Layout& layout_;
  const GfnRange slot_;
  uint64_t* entries_ = nullptr;
};

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_GUEST_TABLES_H_
