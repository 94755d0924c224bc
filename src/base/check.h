// SMMU_CHECK and SMMU_DCHECK: what must hold, or the process ends.
//
//   SMMU_CHECK(ref.valid()) << "removing from gfn " << gfn;
//   SMMU_CHECK_EQ(desc.owner, head_id);     // prints both when they differ
//   SMMU_DCHECK_LE(index, table.size());    // debug builds only
//
// SMMU_CHECK is for what would leave a dangling spte if the code went on; it is
// always compiled in and must cost O(1). SMMU_DCHECK is for the rest: under
// NDEBUG it evaluates nothing, but its operands are still compiled, so that
// they cannot rot.
//
//  1. The path where the check holds is one predictable branch. Building the
//     message, and printing values, happens in cold functions that are never
//     inlined.
//  2. A failed check does not return: it calls the handler of
//     shadowmmu/check_handler.h, then abort(). A check that fails inside the
//     handler aborts at once.
//  3. The operands of the comparing forms are evaluated once, and integers of
//     different signedness compare by value: SMMU_CHECK_LT(-1, 1u) holds.
//
// Locking: none is taken. Usable under any lock, and in constexpr functions.

#ifndef SHADOWMMU_BASE_CHECK_H_
#define SHADOWMMU_BASE_CHECK_H_

#include <concepts>
#include <cstddef>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/base/optimization.h"

namespace shadowmmu::base_internal {

// One failed check. Gathers what is streamed into it; its destructor reports
// and aborts.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line,
               const char* what) ABSL_ATTRIBUTE_COLD ABSL_ATTRIBUTE_NOINLINE;

  // For the comparing forms: `what` holds the text made by CheckOpFailed, and
  // is taken over.
  CheckFailure(const char* file, int line,
               std::string* what) ABSL_ATTRIBUTE_COLD ABSL_ATTRIBUTE_NOINLINE;

  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;

  [[noreturn]] ~CheckFailure() ABSL_ATTRIBUTE_COLD ABSL_ATTRIBUTE_NOINLINE;

  std::ostream& stream();

 private:
  struct Message;
  Message* message_;
};

// Turns `CheckFailure(...).stream() << ...` into void; binds looser than << and
// tighter than ?:.
struct Voidify {
  void operator&(std::ostream& /*stream*/) const {}
};

template <typename T>
concept Streamable = requires(std::ostream& os, const T& value) {
  os << value;
};

// Prints a value the way a person wants to read it: small integers as numbers,
// enums by value.
template <typename T>
void PrintValue(std::ostream& os, const T& value) {
  if constexpr (std::same_as<T, bool>) {
    os << (value ? "true" : "false");
  } else if constexpr (std::same_as<T, std::nullptr_t>) {
    os << "nullptr";
  } else if constexpr (std::integral<T> && sizeof(T) == 1) {
    os << static_cast<int>(value);
  } else if constexpr (Streamable<T>) {
    os << value;
  } else if constexpr (std::is_enum_v<T>) {
    PrintValue(os, static_cast<std::underlying_type_t<T>>(value));
  } else {
    os << "(a value of " << sizeof(T) << " bytes)";
  }
}

// Starts the text of a failed comparison, "<what> (", and gives the stream to
// print values to.
class CheckOpText {
 public:
  explicit CheckOpText(const char* what);
  CheckOpText(const CheckOpText&) = delete;
  CheckOpText& operator=(const CheckOpText&) = delete;
  ~CheckOpText();

  std::ostream& stream();
  // Ends the text. The caller owns the string.
  std::string* Finish();

 private:
  struct Message;
  Message* message_;
};

// Scalars travel by value, so that checking them does not force them into
// memory.
template <typename T>
using Operand = std::conditional_t<std::is_scalar_v<T>, T, const T&>;

template <typename A, typename B>
ABSL_ATTRIBUTE_COLD ABSL_ATTRIBUTE_NOINLINE std::string* CheckOpFailed(
    Operand<A> a, Operand<B> b, const char* what) {
  CheckOpText text(what);
  PrintValue<A>(text.stream(), a);
  text.stream() << " vs. ";
  PrintValue<B>(text.stream(), b);
  return text.Finish();
}

// Integers for which std::cmp_equal and its like are defined.
template <typename T>
concept PlainInteger =
    std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> &&
    !std::same_as<T, wchar_t> && !std::same_as<T, char8_t> &&
    !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

#define SHADOWMMU_BASE_DEFINE_CHECK_OP_(name, op, integer_comparison)  \
  template <typename A, typename B>                                    \
  constexpr std::string* Check##name(const A& a, const B& b,           \
                                     const char* what) {               \
    bool holds = false;                                                \
    if constexpr (PlainInteger<A> && PlainInteger<B>) {                \
      holds = std::integer_comparison(a, b);                           \
    } else {                                                           \
      holds = static_cast<bool>(a op b);                               \
    }                                                                  \
    return ABSL_PREDICT_TRUE(holds) ? nullptr                          \
                                    : CheckOpFailed<A, B>(a, b, what); \
  }

SHADOWMMU_BASE_DEFINE_CHECK_OP_(Eq, ==, cmp_equal)
SHADOWMMU_BASE_DEFINE_CHECK_OP_(Ne, !=, cmp_not_equal)
SHADOWMMU_BASE_DEFINE_CHECK_OP_(Lt, <, cmp_less)
SHADOWMMU_BASE_DEFINE_CHECK_OP_(Le, <=, cmp_less_equal)
SHADOWMMU_BASE_DEFINE_CHECK_OP_(Gt, >, cmp_greater)
SHADOWMMU_BASE_DEFINE_CHECK_OP_(Ge, >=, cmp_greater_equal)
#undef SHADOWMMU_BASE_DEFINE_CHECK_OP_

}  // namespace shadowmmu::base_internal

// NOLINTBEGIN(bugprone-macro-parentheses): these end where a << may follow.

// Private: the body of SMMU_CHECK; `text` is the condition as it was written.
#define SHADOWMMU_BASE_CHECK_(condition, text)                                 \
  (ABSL_PREDICT_TRUE(static_cast<bool>(condition)))                            \
      ? static_cast<void>(0)                                                   \
      : ::shadowmmu::base_internal::Voidify() &                                \
            ::shadowmmu::base_internal::CheckFailure(__FILE__, __LINE__, text) \
                .stream()

// Private: the body of SMMU_CHECK_EQ and its kin. The switch keeps an `else`
// that follows from belonging to the `if` inside.
#define SHADOWMMU_BASE_CHECK_OP_(name, a, b, text)                   \
  switch (0)                                                         \
  case 0:                                                            \
  default:                                                           \
    if (::std::string* smmu_check_text =                             \
            ::shadowmmu::base_internal::Check##name((a), (b), text); \
        ABSL_PREDICT_TRUE(smmu_check_text == nullptr)) {             \
    } else                                                           \
      ::shadowmmu::base_internal::CheckFailure(__FILE__, __LINE__,   \
                                               smmu_check_text)      \
          .stream()

// NOLINTEND(bugprone-macro-parentheses)

#define SMMU_CHECK(condition) SHADOWMMU_BASE_CHECK_(condition, #condition)
#define SMMU_CHECK_EQ(a, b) SHADOWMMU_BASE_CHECK_OP_(Eq, a, b, #a " == " #b)
#define SMMU_CHECK_NE(a, b) SHADOWMMU_BASE_CHECK_OP_(Ne, a, b, #a " != " #b)
#define SMMU_CHECK_LT(a, b) SHADOWMMU_BASE_CHECK_OP_(Lt, a, b, #a " < " #b)
#define SMMU_CHECK_LE(a, b) SHADOWMMU_BASE_CHECK_OP_(Le, a, b, #a " <= " #b)
#define SMMU_CHECK_GT(a, b) SHADOWMMU_BASE_CHECK_OP_(Gt, a, b, #a " > " #b)
#define SMMU_CHECK_GE(a, b) SHADOWMMU_BASE_CHECK_OP_(Ge, a, b, #a " >= " #b)

// Tells the code, as opposed to the preprocessor, whether SMMU_DCHECK checks.
namespace shadowmmu {
#ifdef NDEBUG
inline constexpr bool kDebugChecks = false;
#else
inline constexpr bool kDebugChecks = true;
#endif
}  // namespace shadowmmu

#ifdef NDEBUG
#define SMMU_DCHECK(condition) \
  while (false) SHADOWMMU_BASE_CHECK_(condition, #condition)
#define SMMU_DCHECK_EQ(a, b) \
  while (false) SMMU_CHECK_EQ(a, b)
#define SMMU_DCHECK_NE(a, b) \
  while (false) SMMU_CHECK_NE(a, b)
#define SMMU_DCHECK_LT(a, b) \
  while (false) SMMU_CHECK_LT(a, b)
#define SMMU_DCHECK_LE(a, b) \
  while (false) SMMU_CHECK_LE(a, b)
#define SMMU_DCHECK_GT(a, b) \
  while (false) SMMU_CHECK_GT(a, b)
#define SMMU_DCHECK_GE(a, b) \
  while (false) SMMU_CHECK_GE(a, b)
#else
#define SMMU_DCHECK(condition) SMMU_CHECK(condition)
#define SMMU_DCHECK_EQ(a, b) SMMU_CHECK_EQ(a, b)
#define SMMU_DCHECK_NE(a, b) SMMU_CHECK_NE(a, b)
#define SMMU_DCHECK_LT(a, b) SMMU_CHECK_LT(a, b)
#define SMMU_DCHECK_LE(a, b) SMMU_CHECK_LE(a, b)
#define SMMU_DCHECK_GT(a, b) SMMU_CHECK_GT(a, b)
#define SMMU_DCHECK_GE(a, b) SMMU_CHECK_GE(a, b)
#endif

#endif  // SHADOWMMU_BASE_CHECK_H_
