# Install and export. find_package(bitflash) gives bitflash::data, bitflash::reference, bitflash::sim,
# bitflash::verify and bitflash::c; headers keep their include paths ("data/format.h") under include/bitflash/. Tables
# are compiled in, so the executable needs no files beside it. COMPONENTS c asks for the C interface alone, which needs
# neither a C++ compiler nor our dependencies' packages; pkg-config knows it too. Proved by cmake/consumer_test.
option(BITFLASH_INSTALL "Generate the install rules" ${PROJECT_IS_TOP_LEVEL})
if(NOT BITFLASH_INSTALL)
  return()
endif()
include(CMakePackageConfigHelpers)

if(TARGET bitflash)
  set_target_properties(bitflash PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS bitflash RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

# libbitflash.so and its header.
set_target_properties(bitflash_c PROPERTIES INSTALL_RPATH "$ORIGIN")
install(TARGETS bitflash_c EXPORT bitflash-c-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${PROJECT_SOURCE_DIR}/verify/c_api.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/bitflash/verify)
file(RELATIVE_PATH BITFLASH_PREFIX_FROM_PC /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(${PROJECT_SOURCE_DIR}/cmake/bitflash.pc.in ${PROJECT_BINARY_DIR}/bitflash.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/bitflash.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# An export must be able to say where a dependency is. One that we fetched and built ourselves is in no place of its
# own.
get_property(fetched GLOBAL PROPERTY BITFLASH_FETCHED)
list(REMOVE_ITEM fetched doctest CLI11 benchmark)  # no installed library refers to these
if(fetched)
  message(STATUS "install: only the executable and libbitflash.so, because these dependencies were fetched: ${fetched}. "
    "Install their packages to install the libraries as well.")
  return()
endif()

get_property(libraries GLOBAL PROPERTY BITFLASH_LIBRARIES)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/bitflash)
set(BITFLASH_COMPONENTS)
set(BITFLASH_FIND_DEPENDENCIES)
foreach(library IN LISTS libraries)
  string(REGEX REPLACE "^bitflash_" "" folder ${library})
  list(APPEND BITFLASH_COMPONENTS ${folder})
  set_target_properties(${library} PROPERTIES INSTALL_RPATH "$ORIGIN")
  install(TARGETS ${library} EXPORT bitflash-targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${folder}/*.h)
  list(FILTER headers EXCLUDE REGEX "/(cli|plugin_host|examples|python|probes|record|fuzz|testdata)/|_test")
  if(NOT TARGET bitflash_gpu)
    list(FILTER headers EXCLUDE REGEX "^verify/device_(plan|run)")  # they speak of gpu/
  endif()
  list(FILTER headers EXCLUDE REGEX "^verify/c_api")  # installed above; the rest is inside libbitflash.so
  foreach(header IN LISTS headers)
    get_filename_component(directory ${header} DIRECTORY)
    install(FILES ${PROJECT_SOURCE_DIR}/${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/bitflash/${directory})
  endforeach()

  # A static library's private dependencies are linked by the consumer, so all of them must be found again there.
  get_target_property(links ${library} LINK_LIBRARIES)
  foreach(link IN LISTS links)
    if(link MATCHES "^([A-Za-z0-9_]+)::" AND NOT CMAKE_MATCH_1 STREQUAL "bitflash")
      set(package ${CMAKE_MATCH_1})
      if(package STREQUAL "OpenMP")
        string(APPEND package " COMPONENTS CXX")
      elseif(package STREQUAL "CUDA")
        set(package CUDAToolkit)
      endif()
      list(APPEND BITFLASH_FIND_DEPENDENCIES "find_dependency(${package})")
    endif()
  endforeach()
endforeach()
list(REMOVE_DUPLICATES BITFLASH_FIND_DEPENDENCIES)
list(JOIN BITFLASH_FIND_DEPENDENCIES "\n  " BITFLASH_FIND_DEPENDENCIES)

install(EXPORT bitflash-targets NAMESPACE bitflash:: DESTINATION ${config_dir})
install(EXPORT bitflash-c-targets NAMESPACE bitflash:: DESTINATION ${config_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/bitflash-config.cmake.in
  ${PROJECT_BINARY_DIR}/bitflash-config.cmake INSTALL_DESTINATION ${config_dir})
# Before 1.0 a minor version may change interfaces.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/bitflash-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/bitflash-config.cmake ${PROJECT_BINARY_DIR}/bitflash-config-version.cmake
  DESTINATION ${config_dir})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
