#include "vcpu/events.h"

#include "svm/vmcb.h"

namespace hypervisor {
namespace {

// The classes of table 8-4.
enum class Class : uint8_t { kBenign, kContributory, kPageFault, kDoubleFault };

Class ClassOf(ExceptionVector vector) {
  switch (vector) {
    case ExceptionVector::kDivideError:
    case ExceptionVector::kInvalidTss:
    case ExceptionVector::kSegmentNotPresent:
    case ExceptionVector::kStack:
    case ExceptionVector::kGeneralProtection:
      return Class::kContributory;
    case ExceptionVector::kPageFault:
      return Class::kPageFault;
    case ExceptionVector::kDoubleFault:
      return Class::kDoubleFault;
    default:
      return Class::kBenign;
  }
}

bool MakesDoubleFault(Class first, Class second) {
  if (second == Class::kBenign || second == Class::kDoubleFault) return false;
  if (first == Class::kContributory) return second == Class::kContributory;
  return first == Class::kPageFault;
}

uint64_t Encode(const Exception& exception) {
  uint64_t value = event::kValid | uint64_t{event::kException}
                                       << event::kTypeShift;
  value |= static_cast<uint64_t>(exception.vector);
  if (exception.error_code) {
    value |= event::kErrorCodeValid | uint64_t{*exception.error_code}
                                          << event::kErrorCodeShift;
  }
  return value;
}

}  // namespace

void Events::TakeExitIntInfo(uint64_t info) {
  exception_.reset();
  cr2_.reset();
  if (interrupt_accepted_) interrupt_.reset();
  interrupt_accepted_ = false;
  nmi_under_way_ = false;
  // Without its valid bit the rest is stale.
  if ((info & event::kValid) == 0) return;
  const auto vector = static_cast<uint8_t>(info & event::kVector);
  switch (info >> event::kTypeShift & event::kTypeMask) {
    case event::kInterrupt:
      interrupt_ = vector;
      interrupt_accepted_ = true;
      break;
    case event::kNmi:
      nmi_ = true;
      nmi_under_way_ = true;
      nmi_masked_ = false;
      break;
    case event::kException: {
      constexpr uint8_t kBreakpoint = 3;
      constexpr uint8_t kOverflow = 4;
      if (vector == kBreakpoint || vector == kOverflow) break;
      Exception again;
      again.vector = static_cast<ExceptionVector>(vector);
      if ((info & event::kErrorCodeValid) != 0) {
        again.error_code =
            static_cast<uint32_t>(info >> event::kErrorCodeShift);
      }
      exception_ = again;
      break;
    }
    default:
      break;
  }
}

void Events::Forget() {
  exception_.reset();
  if (nmi_under_way_) {
    nmi_ = false;
    nmi_masked_ = true;
  }
  if (interrupt_accepted_) interrupt_.reset();
  interrupt_accepted_ = false;
}

void Events::Raise(const Exception& exception) {
  interrupt_accepted_ = false;
  if (exception_) {
    const Class first = ClassOf(exception_->vector);
    if (first == Class::kDoubleFault) {
      shutdown_ = true;
      return;
    }
    if (MakesDoubleFault(first, ClassOf(exception.vector))) {
      exception_ = Exception{ExceptionVector::kDoubleFault, 0, {}};
      cr2_.reset();
      return;
    }
  }
  exception_ = exception;
  cr2_.reset();
  if (exception.vector == ExceptionVector::kPageFault) {
    cr2_ = exception.address.value();
  }
}

void Events::Interrupt(uint8_t vector) {
  interrupt_ = vector;
  interrupt_accepted_ = true;
}

uint64_t Events::Next(InterruptFlag flag) {
  if (exception_) return Encode(*exception_);
  if (nmi_ && !nmi_masked_ && !interrupt_accepted_ &&
      flag != InterruptFlag::kShadow) {
    nmi_ = false;
    nmi_masked_ = true;
    constexpr uint64_t kNmiVector = 2;
    return event::kValid | uint64_t{event::kNmi} << event::kTypeShift |
           kNmiVector;
  }
  if (interrupt_ && (interrupt_accepted_ || flag == InterruptFlag::kSet)) {
    interrupt_accepted_ = true;
    return event::kValid | uint64_t{event::kInterrupt} << event::kTypeShift |
           *interrupt_;
  }
  return 0;
}

}  // namespace hypervisor
