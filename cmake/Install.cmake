# Installs the library, its public headers, the CMake package and the .pc file.
# All of them are relocatable: the prefix is found from where they lie.

include(CMakePackageConfigHelpers)

set(shadowmmu_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/shadowmmu)

install(TARGETS shadowmmu EXPORT shadowmmuTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/shadowmmu
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h")
install(EXPORT shadowmmuTargets
  NAMESPACE shadowmmu::
  DESTINATION ${shadowmmu_cmake_dir})

configure_package_config_file(
  cmake/shadowmmuConfig.cmake.in
  ${PROJECT_BINARY_DIR}/shadowmmuConfig.cmake
  INSTALL_DESTINATION ${shadowmmu_cmake_dir})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/shadowmmuConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/shadowmmuConfig.cmake
  ${PROJECT_BINARY_DIR}/shadowmmuConfigVersion.cmake
  DESTINATION ${shadowmmu_cmake_dir})

# The library is an archive: who links it links all of its Abseil.
set(SHADOWMMU_PC_REQUIRES ${SHADOWMMU_ABSL_PUBLIC} ${SHADOWMMU_ABSL_PRIVATE})
list(TRANSFORM SHADOWMMU_PC_REQUIRES PREPEND absl_)
list(JOIN SHADOWMMU_PC_REQUIRES ", " SHADOWMMU_PC_REQUIRES)
set(shadowmmu_pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH SHADOWMMU_PC_PREFIX
  ${CMAKE_INSTALL_PREFIX}/${shadowmmu_pc_dir} ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" SHADOWMMU_PC_PREFIX "${SHADOWMMU_PC_PREFIX}")
configure_file(cmake/shadowmmu.pc.in ${PROJECT_BINARY_DIR}/shadowmmu.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/shadowmmu.pc
  DESTINATION ${shadowmmu_pc_dir})
