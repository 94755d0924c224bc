// What <new> would have: guests have no C++ library.

#ifndef HYPERVISOR_GUESTS_RUNTIME_PLACEMENT_NEW_H_
#define HYPERVISOR_GUESTS_RUNTIME_PLACEMENT_NEW_H_

#include <stddef.h>

inline void* operator new(size_t, void* place) noexcept { return place; }

#endif  // HYPERVISOR_GUESTS_RUNTIME_PLACEMENT_NEW_H_
