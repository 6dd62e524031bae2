# Script: MODE installed: install BUILD to a temporary prefix, then configure, build and run the consumer against it.
#         MODE subproject: configure the consumer with SOURCE as its subproject; with COMPILE also build and run it.
# Takes MODE SOURCE BUILD WORK COMPILER LAUNCHER CONFIG SANITIZE GENERATOR MAKE_PROGRAM COMPILE.
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

# The installed executable runs without its source tree.
if(EXISTS "${WORK}/prefix/bin/bitflash")
  run("${WORK}/prefix/bin/bitflash" --help)
  if(NOT EXISTS "${WORK}/prefix/bin/bitflash-plugin-host")
    message(FATAL_ERROR "bitflash-plugin-host is not installed beside bitflash")
  endif()
endif()
