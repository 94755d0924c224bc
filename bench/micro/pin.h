// Which CPU the measuring thread stays on.

#ifndef SHADOWMMU_BENCH_MICRO_PIN_H_
#define SHADOWMMU_BENCH_MICRO_PIN_H_

namespace shadowmmu::bench {

// Keeps this thread, and those it makes from now on, on `cpu`; negative: on the
// last CPU that is allowed, since the first one often serves the devices.
// Returns the CPU, or -1 if it is not allowed.
int PinTo(int cpu);
// The same on the n-th of the allowed CPUs, from 0 on, for this thread alone;
// they are used again where n is beyond their number. And how many there are.
int PinToNth(unsigned n);
unsigned CpusAllowed();
// A CPU other than that of the first PinTo; -1: there is none.
int OtherCpu();

}  // namespace shadowmmu::bench

#endif  // SHADOWMMU_BENCH_MICRO_PIN_H_
