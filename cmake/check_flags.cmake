# Script: every command of compile_commands.json (COMMANDS) that compiles a file of ours under ROOT has
# -ffp-contract=off as its last word on contraction, and none trades exactness or portability for speed. Options that
# a folder or a single file adds are seen here; what the compiler makes of them is seen by fp_contract_test.cc.
cmake_minimum_required(VERSION 3.25)
file(STRINGS "${COMMANDS}" lines REGEX "\"command\":")
set(checked 0)
foreach(line IN LISTS lines)
  string(REPLACE "\\\"" "" line "${line}")  # a path with a space is quoted
  string(FIND "${line}" " -c ${ROOT}/" ours)
  if(ours EQUAL -1 OR line MATCHES "fp_contract_broken|\\.cu(\"| )")
    continue()
  endif()
  math(EXPR checked "${checked} + 1")
  if(NOT line MATCHES "-ffp-contract=off" OR line MATCHES "-ffp-contract=off.*-ffp-contract=(on|fast)")
    message(SEND_ERROR "not compiled with -ffp-contract=off: ${line}")
  endif()
  if(line MATCHES " (-ffast-math|-Ofast|-funsafe-math-optimizations|-fassociative-math|-freciprocal-math|-march=native)( |\")")
    message(SEND_ERROR "compiled with ${CMAKE_MATCH_1}: ${line}")
  endif()
endforeach()
if(checked EQUAL 0)
  message(FATAL_ERROR "${COMMANDS} compiles no file under ${ROOT}")
endif()
