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
