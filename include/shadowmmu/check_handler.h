// What happens when the library finds itself broken.
//
// A failed internal check means that going on could leave a dangling spte, that
// is, a guest that writes to a page which is no longer its own. The library
// therefore stops the process. Before it does, it hands one message to a
// handler, so that a hypervisor can log it in its own way.
//
// Only a defect in the library or a broken contract of its caller gets here:
// nothing that a guest does, hostile page tables included, can fail a check.

#ifndef SHADOWMMU_CHECK_HANDLER_H_
#define SHADOWMMU_CHECK_HANDLER_H_

#include "absl/strings/string_view.h"

namespace shadowmmu {

// Receives the message of a failed check: "file:line: Check failed: ...", no
// newline at its end.
//
// Runs on the thread that failed, which may hold any of the library's locks: it
// must not call back into the library and must not wait for another thread that
// does. The message is valid during the call only. When the handler returns,
// the process aborts.
using CheckHandler = void (*)(absl::string_view message);

// Installs `handler` for the whole process and returns the one that was
// installed before. The default, which nullptr restores, writes the message and
// a newline to stderr.
//
// Thread-safe. A check that fails at the same moment on another thread uses
// either handler.
CheckHandler SetCheckHandler(CheckHandler handler);

}  // namespace shadowmmu

#endif  // SHADOWMMU_CHECK_HANDLER_H_
