# Tests of the build itself: the arrows between the folders, the floating-point options, the installed package.
if(NOT BITFLASH_TESTS)
  return()
endif()
set(checks ${PROJECT_SOURCE_DIR}/cmake)

# Arrows. The links of every target under <directory> are written down as lines "<folder> <target> <linked target>".
function(bitflash_list_links folder directory out)
  set(lines)
  get_property(targets DIRECTORY ${directory} PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS targets)
    foreach(property LINK_LIBRARIES INTERFACE_LINK_LIBRARIES)
      get_property(links TARGET ${target} PROPERTY ${property})
      foreach(link IN LISTS links)
        string(APPEND lines "${folder} ${target} ${link}\n")
      endforeach()
    endforeach()
  endforeach()
  get_property(subdirectories DIRECTORY ${directory} PROPERTY SUBDIRECTORIES)
  foreach(subdirectory IN LISTS subdirectories)
    bitflash_list_links(${folder} ${subdirectory} below)
    string(APPEND lines "${below}")
  endforeach()
  set(${out} "${lines}" PARENT_SCOPE)
endfunction()

set(links)
foreach(folder data reference sim gpu verify)
  bitflash_list_links(${folder} ${PROJECT_SOURCE_DIR}/${folder} lines)
  string(APPEND links "${lines}")
endforeach()
file(WRITE ${PROJECT_BINARY_DIR}/links.txt "${links}")
add_test(NAME arrows COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -DLINKS=${PROJECT_BINARY_DIR}/links.txt
  -P ${checks}/check_arrows.cmake)
add_test(NAME arrows_refuses COMMAND ${CMAKE_COMMAND} -DSCRIPT=${checks}/check_arrows.cmake
  -DWORK=${PROJECT_BINARY_DIR}/arrows_refuses -P ${checks}/check_arrows_test.cmake)
set_tests_properties(arrows arrows_refuses PROPERTIES LABELS "fast;build")

# Floating-point options: fp_contract_<folder> is compiled with the library's own options. fp_contract_broken,
# compiled with contraction on, must fail: it proves that the check sees what it is there for.
include(CheckCXXCompilerFlag)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(fma_option -mfma)  # arm64 has fused multiply-add in its base
endif()
foreach(folder data reference sim broken)
  if(NOT folder STREQUAL "broken" AND NOT TARGET bitflash_${folder})
    continue()
  endif()
  set(target fp_contract_${folder})
  add_executable(${target} ${checks}/fp_contract_test.cc)
  target_compile_features(${target} PRIVATE cxx_std_20)
  if(folder STREQUAL "broken")
    target_compile_options(${target} PRIVATE -O2 -ffp-contract=fast ${fma_option})
  else()
    target_compile_options(${target} PRIVATE "$<TARGET_PROPERTY:bitflash_${folder},COMPILE_OPTIONS>" -O2 ${fma_option})
    if(BITFLASH_SANITIZE)
      target_link_options(${target} PRIVATE -fsanitize=address,undefined)
    endif()
  endif()
  add_test(NAME ${target} COMMAND ${target})
  set_tests_properties(${target} PROPERTIES LABELS "fast;build" SKIP_RETURN_CODE 77)
endforeach()
set_tests_properties(fp_contract_broken PROPERTIES PASS_REGULAR_EXPRESSION "float was contracted.*loop was contracted")
if(CMAKE_EXPORT_COMPILE_COMMANDS)
  add_test(NAME fp_flags COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR}
    -DCOMMANDS=${PROJECT_BINARY_DIR}/compile_commands.json -P ${checks}/check_flags.cmake)
  set_tests_properties(fp_flags PROPERTIES LABELS "fast;build")
endif()

# Consumers: the installed package, and bitflash as a subproject (configured in the fast tests, compiled in the slow
# ones).
function(bitflash_consumer_test name label mode compile)
  add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -DMODE=${mode} -DCOMPILE=${compile} -DSOURCE=${PROJECT_SOURCE_DIR}
    -DBUILD=${PROJECT_BINARY_DIR} -DWORK=${PROJECT_BINARY_DIR}/${name} -DCOMPILER=${CMAKE_CXX_COMPILER}
    -DC_COMPILER=${CMAKE_C_COMPILER} -DLAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER} -DCONFIG=$<CONFIG> -DSANITIZE=${BITFLASH_SANITIZE}
    -DGENERATOR=${CMAKE_GENERATOR} -DMAKE_PROGRAM=${CMAKE_MAKE_PROGRAM} -P ${checks}/consumer_test/run.cmake)
  set_tests_properties(${name} PROPERTIES LABELS "${label};build" TIMEOUT 1200)
endfunction()
if(BITFLASH_INSTALL AND NOT fetched)
  bitflash_consumer_test(consumer_installed fast installed ON)
endif()
bitflash_consumer_test(consumer_subproject fast subproject OFF)
bitflash_consumer_test(consumer_subproject_build slow subproject ON)
