#include "bench/micro/pin.h"

#include <sched.h>

namespace shadowmmu::bench {
namespace {

struct Allowed {
  cpu_set_t cpus;  // of the process, before anything was pinned
  int own = -1;
};

Allowed ReadAllowed() {
  Allowed allowed;
  CPU_ZERO(&allowed.cpus);
  sched_getaffinity(0, sizeof(allowed.cpus), &allowed.cpus);
  return allowed;
}

Allowed& TheAllowed() {
  static Allowed allowed = ReadAllowed();
  return allowed;
}

int LastAllowed(int except) {
  for (int cpu = CPU_SETSIZE; cpu-- > 0;) {
    if (cpu != except && CPU_ISSET(cpu, &TheAllowed().cpus)) return cpu;
  }
  return -1;
}

bool Stay(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  return sched_setaffinity(0, sizeof(one), &one) == 0;
}

}  // namespace

int PinTo(int cpu) {
  Allowed& allowed = TheAllowed();
  if (cpu < 0) cpu = LastAllowed(-1);
  if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed.cpus)) {
    return -1;
  }
  if (!Stay(cpu)) return -1;
  if (allowed.own < 0) allowed.own = cpu;
  return cpu;
}

unsigned CpusAllowed() {
  return static_cast<unsigned>(CPU_COUNT(&TheAllowed().cpus));
}

int PinToNth(unsigned n) {
  n %= CpusAllowed();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &TheAllowed().cpus) || n-- != 0) continue;
    return Stay(cpu) ? cpu : -1;
  }
  return -1;
}

int OtherCpu() { return LastAllowed(TheAllowed().own); }

}  // namespace shadowmmu::bench
