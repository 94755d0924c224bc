// Indirect/<op>/aliases:<A>/N:<N>/map:<seq|rand|alt>: shadowed guest tables
// that map each of N gfns A times. Figures are per spte; those of write_protect
// and age are per gfn.

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/micro/ops.h"
#include "bench/micro/options.h"
#include "bench/micro/register_ops.h"
#include "bench/micro/registry.h"

namespace shadowmmu::bench {
namespace {

struct IndirectOp {
  const char* name;
  Op op;
  Per per = Per::kSpte;
  // Whether the other maps than rand are measured, too.
  bool all_maps = false;
};

template <DropOrder order>
std::string Drop(ShadowMap& map, Meter& meter) {
  return DropOp(map, order, meter);
}

constexpr IndirectOp kOps[] = {
    {.name = "add", .op = PopulateOp, .all_maps = true},
    {.name = "drop_random", .op = Drop<DropOrder::kRandom>},
    {.name = "drop_fifo", .op = Drop<DropOrder::kFifo>},
    {.name = "drop_lifo", .op = Drop<DropOrder::kLifo>},
    {.name = "drop_list", .op = DropByListOp},
    {.name = "zap_all", .op = ZapAllOp, .all_maps = true},
    {.name = "obsolete_walk", .op = ObsoleteWalkOp, .all_maps = true},
    {.name = "write_protect", .op = WriteProtectOp, .per = Per::kGfn},
    {.name = "age", .op = AgeOp, .per = Per::kGfn},
};

struct Shape {
  uint64_t aliases;
  uint64_t gfns;
};

// Some 2^21 sptes each, and the same with fewer gfns.
std::vector<Shape> Shapes() {
  constexpr Shape kShapes[] = {{1, uint64_t{1} << 21},
                               {4, uint64_t{1} << 19},
                               {16, uint64_t{1} << 17},
                               {64, uint64_t{1} << 15},
                               {300, 7168}};
  constexpr uint64_t kFewest = 4;
  std::vector<Shape> shapes;
  for (const Shape& shape : kShapes) {
    for (const uint64_t size : TheOptions().Sizes()) {
      if (size > uint64_t{1} << 21) continue;
      const uint64_t gfns = shape.gfns * size >> 21;
      shapes.push_back({shape.aliases, std::max(gfns, kFewest)});
    }
  }
  return shapes;
}

void RegisterOne(const IndirectOp& op, const Shape& shape, MapKind map) {
  RegisterOp(
      absl::StrCat("Indirect/", op.name, "/aliases:", shape.aliases,
                   "/N:", shape.gfns, "/map:", Name(map)),
      [=] { return Layout::Indirect(shape.aliases, shape.gfns, map); }, op.per,
      op.op);
}

}  // namespace

void RegisterIndirect() {
  for (const IndirectOp& op : kOps) {
    for (const Shape& shape : Shapes()) {
      RegisterOne(op, shape, MapKind::kRandom);
      if (!op.all_maps) continue;
      RegisterOne(op, shape, MapKind::kSequential);
      RegisterOne(op, shape, MapKind::kAlternating);
    }
  }
}

}  // namespace shadowmmu::bench
