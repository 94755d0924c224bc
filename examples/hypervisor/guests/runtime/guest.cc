#include "runtime/guest.h"

#include <stddef.h>
#include <stdint.h>

#include "runtime/interrupts.h"
#include "runtime/report.h"

// The start code calls this; the compiler calls the others, wherever it likes.
extern "C" {
void GuestStart(uint32_t magic, uint32_t information);
void* memset(void* to, int value, size_t bytes);
void* memcpy(void* to, const void* from, size_t bytes);
}

namespace guest {
namespace {

// Of the Multiboot information: the bit that says that there is a command line,
// and where its address is.
constexpr uint32_t kHasCommandLine = 1u << 2;
constexpr unsigned kCommandLineWord = 4;
constexpr uint32_t kMultibootLoader = 0x2badb002;

const uint32_t* multiboot_information = nullptr;

bool IsWord(const char* text, const char* word) {
  while (*word != '\0' && *text == *word) {
    ++text;
    ++word;
  }
  return *word == '\0' && *text == '\0';
}

// Whether `word` is the last one of `text`, and not the only one.
bool EndsWith(const char* text, const char* word) {
  for (; *text != '\0'; ++text) {
    if (*text == ' ' && IsWord(text + 1, word)) return true;
  }
  return false;
}

}  // namespace

const uint32_t* MultibootInformation() { return multiboot_information; }

bool IsPlainQemu() {
  if ((multiboot_information[0] & kHasCommandLine) == 0) return false;
  const Word text = multiboot_information[kCommandLineWord];
  return EndsWith(reinterpret_cast<const char*>(text), "plain");
}

}  // namespace guest

void GuestStart(uint32_t magic, uint32_t information) {
  guest::LoadIdt();
  guest::CheckEqual(magic, guest::kMultibootLoader, "eax at entry");
  guest::multiboot_information =
      reinterpret_cast<const uint32_t*>(guest::Word{information});
  guest::GuestMain();
  guest::Print("passed\n");
  guest::Exit(0);
}

void* memset(void* to, int value, size_t bytes) {
  void* at = to;
  asm volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return to;
}

void* memcpy(void* to, const void* from, size_t bytes) {
  void* at = to;
  asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes)::"memory");
  return to;
}
