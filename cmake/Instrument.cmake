# Sanitizers, coverage and fuzzing, for every target of the build: objects with
# and without them do not mix.

if(SHADOWMMU_SANITIZE)
  string(REPLACE "," ";" sanitizers "${SHADOWMMU_SANITIZE}")
  foreach(sanitizer IN LISTS sanitizers)
    if(NOT sanitizer MATCHES "^(address|undefined|thread|leak)$")
      message(FATAL_ERROR "SHADOWMMU_SANITIZE: no sanitizer '${sanitizer}'")
    endif()
  endforeach()
  add_compile_options(
    -fsanitize=${SHADOWMMU_SANITIZE}
    -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SHADOWMMU_SANITIZE})
endif()

if(SHADOWMMU_COVERAGE)
  add_compile_options(--coverage)
  add_link_options(--coverage)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Threads count into the same counters.
    add_compile_options(-fprofile-update=atomic)
  endif()
endif()

if(SHADOWMMU_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "SHADOWMMU_FUZZ needs clang")
  endif()
  # The fuzz targets themselves link with -fsanitize=fuzzer: tests/CMakeLists.txt.
  add_compile_options(-fsanitize=fuzzer-no-link)
  add_link_options(-fsanitize=fuzzer-no-link)
endif()
