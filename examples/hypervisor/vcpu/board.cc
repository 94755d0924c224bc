#include "vcpu/board.h"

#include <utility>

namespace hypervisor {

Board::Board(Clock& clock, Machine::Config config, RunStates& states)
    : states_(states), vcpus_(config.cpus), machine_(clock, std::move(config)) {
  postures_.fill(Posture::kWaitsForStartup);
  postures_[0] = Posture::kRuns;
}

void Board::TellOthers(unsigned vcpu) {
  for (unsigned other = 0; vcpus_ > 1 && other < vcpus_; ++other) {
    if (machine_.TakeAttention(other) && other != vcpu) states_.Notify(other);
  }
}

bool Board::AllStuck() {
  for (unsigned vcpu = 0; vcpu < vcpus_; ++vcpu) {
    const LocalApic& apic = machine_.local_apic(vcpu);
    if (apic.InitOrStartupWaits()) return false;
    switch (postures_[vcpu]) {
      case Posture::kRuns:
      case Posture::kHalted:
        return false;
      case Posture::kStuck:
        if (apic.NmiWaits()) return false;
        break;
      case Posture::kWaitsForStartup:
        break;
    }
  }
  return true;
}

Board::News Board::Look(unsigned vcpu, Posture posture) {
  const absl::MutexLock lock(&lock_);
  machine_.Advance(vcpu);
  LocalApic& apic = machine_.local_apic(vcpu);
  News news;
  news.init = apic.TakeInit();
  news.startup = apic.TakeStartup();
  if (posture != Posture::kWaitsForStartup) {
    news.nmi = apic.TakeNmi();
    news.interrupt = machine_.InterruptPending(vcpu);
  }
  const bool starts = news.init || news.startup.has_value();
  postures_[vcpu] = starts || news.nmi ? Posture::kRuns : posture;
  news.next_event = machine_.NextEvent(vcpu);
  news.all_stuck = posture >= Posture::kStuck && AllStuck();
  TellOthers(vcpu);
  return news;
}

std::optional<uint8_t> Board::Acknowledge(unsigned vcpu, bool* more) {
  const absl::MutexLock lock(&lock_);
  if (!machine_.InterruptPending(vcpu)) {
    *more = false;
    return std::nullopt;
  }
  const uint8_t vector = machine_.AcknowledgeInterrupt(vcpu);
  *more = machine_.InterruptPending(vcpu);
  TellOthers(vcpu);
  return vector;
}

uint32_t Board::In(unsigned vcpu, uint16_t port, unsigned bytes) {
  const absl::MutexLock lock(&lock_);
  const uint32_t value = machine_.ports().In(port, bytes);
  TellOthers(vcpu);
  return value;
}

void Board::Out(unsigned vcpu, uint16_t port, unsigned bytes, uint32_t value) {
  const absl::MutexLock lock(&lock_);
  machine_.ports().Out(port, bytes, value);
  TellOthers(vcpu);
}

uint64_t Board::Read(unsigned vcpu, shadowmmu::Gpa gpa, unsigned bytes) {
  const absl::MutexLock lock(&lock_);
  const uint64_t value = machine_.mmio(vcpu).Read(gpa, bytes);
  TellOthers(vcpu);
  return value;
}

void Board::Write(unsigned vcpu, shadowmmu::Gpa gpa, unsigned bytes,
                  uint64_t value) {
  const absl::MutexLock lock(&lock_);
  machine_.mmio(vcpu).Write(gpa, bytes, value);
  TellOthers(vcpu);
}

uint8_t Board::TaskPriorityClass(unsigned vcpu) {
  const absl::MutexLock lock(&lock_);
  return machine_.local_apic(vcpu).TaskPriorityClass();
}

void Board::SetTaskPriorityClass(unsigned vcpu, uint8_t priority_class) {
  const absl::MutexLock lock(&lock_);
  machine_.local_apic(vcpu).SetTaskPriorityClass(priority_class);
}

void Board::SetLocalApic(unsigned vcpu, LocalApic::GlobalEnable enable,
                         shadowmmu::Gpa base) {
  const absl::MutexLock lock(&lock_);
  machine_.local_apic(vcpu).SetGlobalEnable(enable);
  machine_.MoveLocalApic(base, vcpu);
}

void Board::ReceiveSerial(unsigned vcpu, char byte) {
  const absl::MutexLock lock(&lock_);
  machine_.ReceiveSerial(byte);
  TellOthers(vcpu);
}

}  // namespace hypervisor
