# What `cmake --install` lays down: the program, the library with its public headers, and a CMake package, so that a
# project elsewhere says find_package(fairway) and links fairway::fairway.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# An installed program finds the library beside it, wherever the folder is moved to.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

# What is installed has that path from the start. Else CMake makes room for it with colons, and to the loader nothing
# between colons is the current folder, whose libraries it would take first.
function(fairway_installed_path target)
  set_target_properties(${target} PROPERTIES BUILD_WITH_INSTALL_RPATH ON)
endfunction()

# fairway_install_library(TARGET): installs TARGET as fairway::fairway with the headers in its folder's include/.
# TARGET should be a SHARED library that links the layers privately: then the package needs none of their libraries.
function(fairway_install_library target)
  set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/fairway")
  fairway_installed_path(${target})
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME fairway VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  install(TARGETS ${target} EXPORT fairway-targets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/include/" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h")
  install(EXPORT fairway-targets NAMESPACE fairway:: DESTINATION ${package_dir})
  # The same name inside the tree, so that examples are written as users write them.
  if(NOT TARGET fairway::fairway)
    add_library(fairway::fairway ALIAS ${target})
  endif()
  configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/fairway-config.cmake.in"
    "${PROJECT_BINARY_DIR}/fairway-config.cmake" INSTALL_DESTINATION ${package_dir})
  # Before 1.0 a minor version may change the interface.
  write_basic_package_version_file("${PROJECT_BINARY_DIR}/fairway-config-version.cmake" COMPATIBILITY SameMinorVersion)
  install(FILES "${PROJECT_BINARY_DIR}/fairway-config.cmake" "${PROJECT_BINARY_DIR}/fairway-config-version.cmake"
    DESTINATION ${package_dir})
endfunction()

# fairway_install_program(TARGET)
function(fairway_install_program target)
  fairway_installed_path(${target})
  install(TARGETS ${target} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/NOTICE" DESTINATION ${CMAKE_INSTALL_DOCDIR})
