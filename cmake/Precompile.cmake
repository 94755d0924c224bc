# shadowmmu_precompile(<target> <group> [<header>...]): compiles the headers that
# most files want, and those named, once for all targets of a group, which must be
# compiled with the same options. Off for who embeds the library, and in the preset
# clang, where a file that forgot an #include is then found.

option(SHADOWMMU_PRECOMPILE "Compile common headers once" OFF)

function(shadowmmu_precompile target group)
  if(NOT SHADOWMMU_PRECOMPILE)
    return()
  endif()
  get_property(first GLOBAL PROPERTY SHADOWMMU_PRECOMPILED_${group})
  if(first)
    target_precompile_headers(${target} REUSE_FROM ${first})
  else()
    target_precompile_headers(${target} PRIVATE
      <absl/status/statusor.h> <absl/strings/str_cat.h>
      <algorithm> <array> <atomic> <functional> <memory> <optional> <span> <string>
      <thread> <vector> ${ARGN})
    set_property(GLOBAL PROPERTY SHADOWMMU_PRECOMPILED_${group} ${target})
  endif()
endfunction()
