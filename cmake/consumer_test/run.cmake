# Script: MODE installed: install BUILD to a temporary prefix, then configure, build and run the consumer against it,
#                         and a C program with C_COMPILER, by CMake and, if there is one, by pkg-config.
#         MODE subproject: configure the consumer with SOURCE as its subproject; with COMPILE also build and run it.
# Takes MODE SOURCE BUILD WORK COMPILER C_COMPILER LAUNCHER CONFIG SANITIZE GENERATOR MAKE_PROGRAM COMPILE.
cmake_minimum_required(VERSION 3.25)
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${result}): ${command}\n${output}")
  endif()
endfunction()

file(REMOVE_RECURSE "${WORK}")
set(options -G "${GENERATOR}" "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}" "-DCMAKE_CXX_COMPILER=${COMPILER}"
  "-DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}" "-DCMAKE_BUILD_TYPE=${CONFIG}")
if(SANITIZE)  # the whole program or nothing: a container that only one side annotates is reported as an overflow
  list(APPEND options "-DCMAKE_CXX_FLAGS=-fsanitize=address,undefined")
endif()
if(MODE STREQUAL "installed")
  run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${WORK}/prefix" --config "${CONFIG}")
  list(APPEND options "-DCMAKE_PREFIX_PATH=${WORK}/prefix")
  set(COMPILE ON)
else()
  list(APPEND options "-DBITFLASH_SUBPROJECT=${SOURCE}" -DBITFLASH_GPU=OFF)
endif()
run("${CMAKE_COMMAND}" -S "${SOURCE}/cmake/consumer_test" -B "${WORK}/build" ${options})
if(COMPILE)
  run("${CMAKE_COMMAND}" --build "${WORK}/build" --config "${CONFIG}")
  run("${WORK}/build/consumer")
endif()

# C, without a C++ compiler. A sanitized libbitflash.so needs the C++ compiler's runtime in the program: not here.
if(MODE STREQUAL "installed" AND C_COMPILER AND NOT SANITIZE)
  run("${CMAKE_COMMAND}" -S "${SOURCE}/cmake/consumer_test/c" -B "${WORK}/c" -G "${GENERATOR}"
    "-DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}" "-DCMAKE_C_COMPILER=${C_COMPILER}" "-DCMAKE_PREFIX_PATH=${WORK}/prefix"
    "-DEXAMPLE=${SOURCE}/verify/examples/c_api_example.c")
  run("${CMAKE_COMMAND}" --build "${WORK}/c")
  run("${WORK}/c/consumer_c")

  find_program(pkg_config pkg-config)
  file(GLOB_RECURSE pc "${WORK}/prefix/bitflash.pc")
  get_filename_component(pc_dir "${pc}" DIRECTORY)
  if(pkg_config)
    execute_process(COMMAND "${CMAKE_COMMAND}" -E env "PKG_CONFIG_PATH=${pc_dir}" "${pkg_config}" --cflags --libs bitflash
      RESULT_VARIABLE result OUTPUT_VARIABLE flags ERROR_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT result EQUAL 0)
      message(FATAL_ERROR "pkg-config does not find bitflash in ${pc_dir}: ${flags}")
    endif()
    separate_arguments(flags UNIX_COMMAND "${flags}")
    run("${C_COMPILER}" -std=c99 "${SOURCE}/verify/examples/c_api_example.c" -o "${WORK}/by_pkg_config" ${flags})
    get_filename_component(library_dir "${pc_dir}" DIRECTORY)
    run("${CMAKE_COMMAND}" -E env "LD_LIBRARY_PATH=${library_dir}" "${WORK}/by_pkg_config")
  endif()
endif()

# The installed executable runs without its source tree.
if(EXISTS "${WORK}/prefix/bin/bitflash")
  run("${WORK}/prefix/bin/bitflash" --help)
  if(NOT EXISTS "${WORK}/prefix/bin/bitflash-plugin-host")
    message(FATAL_ERROR "bitflash-plugin-host is not installed beside bitflash")
  endif()
endif()
