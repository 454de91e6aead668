# libcajal.so, and what `cmake --install` puts where: the program, the library with its headers, and what other builds find
# it by.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The whole layer goes in, and of the layers below it what it uses. The version script leaves only what include/cajal/ marks.
add_library(cajal_shared SHARED $<TARGET_OBJECTS:cajal_api>)
add_library(cajal::cajal ALIAS cajal_shared)
target_link_libraries(cajal_shared PRIVATE cajal_engine)
target_include_directories(cajal_shared INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(cajal_shared INTERFACE cxx_std_20)
target_link_options(cajal_shared PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/libcajal.map)
set_target_properties(cajal_shared PROPERTIES
  OUTPUT_NAME cajal EXPORT_NAME cajal LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/libcajal.map
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})

if(TARGET cajal)
  install(TARGETS cajal RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
# The program writes its own manual page and completion, from its table of flags; not where it may not run while building.
if(TARGET cajal AND NOT CAJAL_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(written ${PROJECT_BINARY_DIR}/documentation)
  add_custom_command(OUTPUT ${written}/cajal.1 ${written}/cajal.bash ${written}/cajal.fish ${written}/_cajal
    COMMAND ${CMAKE_COMMAND} -E make_directory ${written}
    COMMAND cajal help --man > ${written}/cajal.1
    COMMAND cajal help --completion bash > ${written}/cajal.bash
    COMMAND cajal help --completion fish > ${written}/cajal.fish
    COMMAND cajal help --completion zsh > ${written}/_cajal
    DEPENDS cajal VERBATIM)
  add_custom_target(cajal_documentation ALL DEPENDS ${written}/cajal.1)
  install(FILES ${written}/cajal.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${written}/cajal.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME cajal)
  install(FILES ${written}/cajal.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
  install(FILES ${written}/_cajal DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/share/demo-model DESTINATION ${CMAKE_INSTALL_DATADIR}/cajal)
install(TARGETS cajal_shared EXPORT cajalTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/cajal DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/cajal)
install(EXPORT cajalTargets NAMESPACE cajal:: DESTINATION ${package})
configure_package_config_file(cmake/cajalConfig.cmake.in ${PROJECT_BINARY_DIR}/cajalConfig.cmake
  INSTALL_DESTINATION ${package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cajalConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cajalConfig.cmake ${PROJECT_BINARY_DIR}/cajalConfigVersion.cmake
  DESTINATION ${package})

# The file finds its prefix from where it lies, so that the installed tree may be moved.
file(RELATIVE_PATH cajal_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/cajal.pc.in ${PROJECT_BINARY_DIR}/cajal.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cajal.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
