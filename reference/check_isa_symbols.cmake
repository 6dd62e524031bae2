# Script, the test reference_isa_symbols: LIBRARY's objects with instructions that not every processor has define no
# function that another translation unit could take for its own (golden_block-inl.h says why). NM: binutils' or LLVM's.
execute_process(COMMAND ${NM} -A --defined-only --extern-only ${LIBRARY}
  OUTPUT_VARIABLE symbols RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${NM} cannot read ${LIBRARY}")
endif()
string(REPLACE "\n" ";" symbols "${symbols}")
set(checked 0)
foreach(line IN LISTS symbols)
  # Code only (T, W): data holds no instruction.
  if(NOT line MATCHES "golden_block_([a-z0-9]+)\\.cc\\.o.* [TW] ")
    continue()
  endif()
  set(isa ${CMAKE_MATCH_1})
  math(EXPR checked "${checked} + 1")
  if(NOT line MATCHES "Eigen_${isa}" AND NOT line MATCHES "BlockSteps")
    message(SEND_ERROR "compiled for ${isa} yet visible under a name that is not its own: ${line}")
  endif()
endforeach()
if(checked EQUAL 0)
  message(FATAL_ERROR "${LIBRARY} has no golden_block_<isa> objects: expected at least one function to check")
endif()
message(STATUS "${checked} functions checked")
