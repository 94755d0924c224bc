# shadowmmu_set_warnings(<target>): the warnings that this project builds with.
# They are private to the target, so no consumer inherits them.

function(shadowmmu_set_warnings target)
  set(warnings
    -Wall
    -Wextra
    -Wpedantic
    -Wcast-align
    -Wcast-qual
    -Wconversion
    -Wno-sign-conversion  # Indices and counts mix signs all the time, harmlessly.
    -Wextra-semi
    -Wformat=2
    -Wimplicit-fallthrough
    -Wmissing-declarations
    -Wnon-virtual-dtor
    -Wold-style-cast
    -Woverloaded-virtual
    -Wshadow
    -Wundef
    -Wunused
    -Wvla)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    list(APPEND warnings
      -Wheader-hygiene
      -Wshadow-uncaptured-local
      -Wthread-safety
      -Wthread-safety-beta)
  elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND warnings
      -Wduplicated-branches
      -Wduplicated-cond
      -Wlogical-op
      # Also warns about members that a designated initializer leaves out; clang,
      # with the same warning from -Wextra, does not.
      -Wno-missing-field-initializers)
  endif()
  if(SHADOWMMU_WERROR)
    list(APPEND warnings -Werror)
  endif()
  target_compile_options(${target} PRIVATE ${warnings})
endfunction()
