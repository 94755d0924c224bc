// The smallest guest: it says hello.

#include "runtime/guest.h"
#include "runtime/report.h"

void guest::GuestMain() { Print("hello\n"); }
