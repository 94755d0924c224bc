# What the library needs: Abseil and threads.
#
# shadowmmu_link_dependencies(<target>) links both. What the public headers
# mention is public; the rest is private.

# The parts of Abseil, named without their prefix. Also the source of
# shadowmmu.pc's list.
set(SHADOWMMU_ABSL_PUBLIC core_headers status statusor strings)
set(SHADOWMMU_ABSL_PRIVATE
  btree flat_hash_map flat_hash_set function_ref inlined_vector span)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(SHADOWMMU_STATIC_DEPS)
  # Some distributions export the shared objects only; the archives lie beside
  # them, and Abseil's .pc files name them all.
  find_package(PkgConfig REQUIRED)
  list(TRANSFORM SHADOWMMU_ABSL_PUBLIC PREPEND absl_ OUTPUT_VARIABLE public)
  list(TRANSFORM SHADOWMMU_ABSL_PRIVATE PREPEND absl_ OUTPUT_VARIABLE private)
  set(saved_suffixes ${CMAKE_FIND_LIBRARY_SUFFIXES})
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
  pkg_check_modules(SHADOWMMU_ABSL REQUIRED IMPORTED_TARGET
    ${public} ${private})
  set(CMAKE_FIND_LIBRARY_SUFFIXES ${saved_suffixes})
else()
  find_package(absl CONFIG REQUIRED)
endif()

function(shadowmmu_link_dependencies target)
  list(TRANSFORM SHADOWMMU_ABSL_PUBLIC PREPEND absl:: OUTPUT_VARIABLE public)
  list(TRANSFORM SHADOWMMU_ABSL_PRIVATE PREPEND absl:: OUTPUT_VARIABLE private)
  if(SHADOWMMU_STATIC_DEPS)
    target_link_libraries(${target} PUBLIC
      $<BUILD_INTERFACE:PkgConfig::SHADOWMMU_ABSL>)
    # An installed package looks for Abseil by itself, as its consumer does.
    target_link_libraries(${target} INTERFACE
      "$<INSTALL_INTERFACE:${public};${private}>")
  else()
    target_link_libraries(${target} PUBLIC ${public} PRIVATE ${private})
  endif()
  target_link_libraries(${target} PUBLIC Threads::Threads)
endfunction()
