# Every guest under the hypervisor, with all that a host does to a running guest:
# shadow pages made obsolete, memory taken away and brought back, audits.

get_property(guests DIRECTORY ${CMAKE_CURRENT_LIST_DIR} PROPERTY GUEST_NAMES)
set(run ${CMAKE_CURRENT_LIST_DIR}/../run)
set(disturbed --bump-every 10 --unplug-every 50 --audit-every 1000)
set(hypervisor_elf HYPERVISOR_ELF=$<TARGET_FILE:hypervisor>)

foreach(guest IN LISTS guests)
  add_test(NAME hypervisor/guest/${guest}
    COMMAND ${run} ${CMAKE_CURRENT_BINARY_DIR}/guests/${guest}.elf
      --cpu max --timeout 400 ${disturbed})
  set_tests_properties(hypervisor/guest/${guest} PROPERTIES
    LABELS hypervisor TIMEOUT 440 ENVIRONMENT ${hypervisor_elf})
endforeach()

# Those of two CPUs, with two vCPUs: by themselves, disturbed, audited all the
# time, and with releases in place of bumps; in the modes of 32-bit code only
# audited.
get_property(smp_guests DIRECTORY ${CMAKE_CURRENT_LIST_DIR}
  PROPERTY SMP_GUEST_NAMES)
set(smp_how_plain --timeout 300)
set(smp_how_disturbed --timeout 300 --bump-every 5 --unplug-every 20)
set(smp_how_audited --timeout 300 --bump-every 5 --unplug-every 20
  --audit-every 200)
set(smp_how_released --timeout 300 --bump-every 5 --unplug-every 20
  --audit-every 2000 --strategy release --slot-zap release)
foreach(guest IN LISTS smp_guests)
  set(hows plain disturbed audited released)
  if(guest MATCHES "_(32|pae)$")
    set(hows audited)
  endif()
  foreach(how IN LISTS hows)
    add_test(NAME hypervisor/smp/${guest}_${how}
      COMMAND ${run} ${CMAKE_CURRENT_BINARY_DIR}/guests/${guest}.elf
        --cpu max --vcpus 2 ${smp_how_${how}})
    set_tests_properties(hypervisor/smp/${guest}_${how} PROPERTIES
      LABELS hypervisor TIMEOUT 340 ENVIRONMENT ${hypervisor_elf})
  endforeach()
endforeach()

add_test(NAME hypervisor/guest/echo
  COMMAND ${CMAKE_CURRENT_LIST_DIR}/typed ${run}
    ${CMAKE_CURRENT_BINARY_DIR}/guests/echo.elf --timeout 60)
set_tests_properties(hypervisor/guest/echo PROPERTIES
  LABELS hypervisor TIMEOUT 120 ENVIRONMENT ${hypervisor_elf})

set(boot ${CMAKE_CURRENT_LIST_DIR}/linux/boot
  ${CMAKE_CURRENT_BINARY_DIR}/guests/linux ${run} --timeout 560)
add_test(NAME hypervisor/linux/qemu64 COMMAND ${boot} --cpu qemu64)
add_test(NAME hypervisor/linux/max COMMAND ${boot} --cpu max)
add_test(NAME hypervisor/linux/disturbed
  COMMAND ${boot} --cpu qemu64 ${disturbed})
set_tests_properties(
  hypervisor/linux/qemu64 hypervisor/linux/max hypervisor/linux/disturbed
  PROPERTIES LABELS hypervisor TIMEOUT 600 SKIP_RETURN_CODE 77
    FIXTURES_REQUIRED linux ENVIRONMENT ${hypervisor_elf})
