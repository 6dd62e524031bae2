# How a folder becomes a target. Every folder's CMakeLists.txt calls these with explicit file lists.

# bitflash_library(<folder> SOURCES ... [DEPENDS ...] [PRIVATE_DEPENDS ...])
# Defines the library bitflash_<folder> with the alias bitflash::<folder>. Includes are rooted at the repository
# ("data/format.h"), so that an include line names the layer it reaches into.
function(bitflash_library folder)
  cmake_parse_arguments(LIB "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  set(target bitflash_${folder})
  add_library(${target} ${LIB_SOURCES})
  add_library(bitflash::${folder} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${folder} POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/bitflash>)
  target_link_libraries(${target} PUBLIC ${LIB_DEPENDS} PRIVATE ${LIB_PRIVATE_DEPENDS})
  bitflash_compile_options(${target})
  set_property(GLOBAL APPEND PROPERTY BITFLASH_LIBRARIES ${target})
endfunction()

# The options that every target of ours is compiled with.
function(bitflash_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  # Bits: a*b + c must stay two roundings unless the source says std::fma, on every compiler and every target.
  # (nvcc hands the option to the host compiler; device code says __fmul_rn or __fmaf_rn where it matters.
  # CMake 3.25 does not know that nvcc has C++20, so the property CUDA_STANDARD cannot ask for it.)
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wno-missing-field-initializers;-ffp-contract=off>"
    "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers,-ffp-contract=off>")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # g++ 12 sees an overlap in every `"literal" + string` (GCC bug 105651).
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wno-restrict>")
  endif()
  if(BITFLASH_SANITIZE)
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined;-fno-sanitize-recover=all;-fno-omit-frame-pointer>")
    target_link_options(${target} PUBLIC -fsanitize=address,undefined)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # Instrumented code makes g++ take initialized variables for others (its manual, "Instrumentation Options").
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>")
    else()
      # clang's -O1 vectorizes nothing and says so of every `omp simd`.
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-pass-failed>")
    endif()
  endif()
  if(BITFLASH_FUZZ)
    # The fuzzer steers by the coverage of the library under test, not only of its own few lines.
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()

# bitflash_precompile(<target> <header> ...)
# Half of what the compiler does for most of our files is the standard library's and nlohmann/json's headers: a fresh
# build parses them once a target. Not where a launcher (ccache) compiles: its hits are worth more and it would need
# other settings. So every file still includes what it uses: whoever has ccache sees when one does not.
function(bitflash_precompile target)
  if(BITFLASH_PRECOMPILE)
    target_precompile_headers(${target} PRIVATE
      <algorithm> <cmath> <functional> <map> <optional> <span> <string> <vector> ${ARGN})
  endif()
endfunction()

if(BITFLASH_TESTS)  # once for all test executables
  add_library(bitflash_doctest_main OBJECT ${PROJECT_SOURCE_DIR}/cmake/doctest_main.cc)
  target_link_libraries(bitflash_doctest_main PRIVATE doctest::doctest)
  bitflash_compile_options(bitflash_doctest_main)
endif()

# bitflash_test(<folder> SOURCES ... [DEPENDS ...] [PRECOMPILE <header> ...])
# One executable per folder. Cases in the doctest suite "slow" become the ctest entry <folder>_slow, label slow.
function(bitflash_test folder)
  if(NOT BITFLASH_TESTS)
    return()
  endif()
  cmake_parse_arguments(TEST "" "" "SOURCES;DEPENDS;PRECOMPILE" ${ARGN})
  set(target ${folder}_test)
  add_executable(${target} ${TEST_SOURCES} $<TARGET_OBJECTS:bitflash_doctest_main>)
  target_link_libraries(${target} PRIVATE bitflash::${folder} ${TEST_DEPENDS} doctest::doctest)
  target_compile_definitions(${target} PRIVATE BITFLASH_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  bitflash_compile_options(${target})
  # A third of what a fresh build compiles is tests, and what they spend their time on is in the libraries.
  target_compile_options(${target} PRIVATE "$<$<CONFIG:Release>:-O1>")
  bitflash_precompile(${target} <doctest/doctest.h> ${TEST_PRECOMPILE})
  add_test(NAME ${folder} COMMAND ${target} --test-suite-exclude=slow)
  add_test(NAME ${folder}_slow COMMAND ${target} --test-suite=slow)
  # Threads that wait asleep: GNU OpenMP spins by default, which makes small problems ten times slower on a busy machine.
  set(timeout 600)
  if(BITFLASH_SANITIZE)
    set(timeout 3600)
  endif()
  set_tests_properties(${folder} PROPERTIES LABELS "fast;${folder}" TIMEOUT ${timeout}
    ENVIRONMENT OMP_WAIT_POLICY=passive)
  set_tests_properties(${folder}_slow PROPERTIES LABELS "slow;${folder}" TIMEOUT 7200
    ENVIRONMENT OMP_WAIT_POLICY=passive)
endfunction()

# bitflash_bench(<folder> SOURCES ... [DEPENDS ...]): one Google Benchmark executable per folder.
function(bitflash_bench folder)
  if(NOT BITFLASH_BENCH)
    return()
  endif()
  cmake_parse_arguments(BENCH "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${folder}_bench ${BENCH_SOURCES})
  target_link_libraries(${folder}_bench PRIVATE bitflash::${folder} ${BENCH_DEPENDS} benchmark::benchmark_main)
  bitflash_compile_options(${folder}_bench)
endfunction()

# bitflash_fuzz(<folder> <name> SOURCES ...): one libFuzzer executable per reader, in <build>/fuzz (test.sh runs them
# all).
function(bitflash_fuzz folder name)
  if(NOT BITFLASH_FUZZ)
    return()
  endif()
  cmake_parse_arguments(FUZZ "" "" "SOURCES" ${ARGN})
  add_executable(${name} ${FUZZ_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  target_link_libraries(${name} PRIVATE bitflash::${folder})
  bitflash_compile_options(${name})
  target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()

# bitflash_embed(<target> <accessor> <file> ...)
# Compiles the files into <target>. `const std::vector<EmbeddedFile>& <accessor>()` (data/embedded.h) lists them by
# name, so that an installed binary needs no files beside it.
function(bitflash_embed target accessor)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${accessor}.cc)
  set(files)
  foreach(file IN LISTS ARGN)
    list(APPEND files ${CMAKE_CURRENT_SOURCE_DIR}/${file})
  endforeach()
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DACCESSOR=${accessor} "-DFILES=${files}" -P ${PROJECT_SOURCE_DIR}/cmake/embed.cmake
    DEPENDS ${files} ${PROJECT_SOURCE_DIR}/cmake/embed.cmake VERBATIM)
  # A target of its own: CMake lets a command that makes a source wait for all that its target links, and every object
  # of that target wait for the command. One file of sim/ would hold up the whole of verify/.
  add_library(bitflash_${accessor} OBJECT ${out})
  set_target_properties(bitflash_${accessor} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(bitflash_${accessor} PRIVATE ${PROJECT_SOURCE_DIR})
  bitflash_compile_options(bitflash_${accessor})
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:bitflash_${accessor}>)
endfunction()
