# Third-party packages: the system's by find_package first, else one pinned commit by FetchContent.
# Nothing is vendored. The Debian package names are in cmake/setup.sh.
include(FetchContent)
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)  # a project that includes us links our libraries from another directory

# bitflash_dependency(<package> <minimum version> TARGET <imported target> RELEASE <tag>
#                     URL <archive of the tag's commit> [HEADERS <directory>] [OPTIONS <name>=<value> ...])
# An archive named by commit cannot move as a tag can, and needs neither git nor the history. OPTIONS hold for the
# fetched project only. HEADERS: do not configure the fetched project at all; the target is that include directory.
# FETCHCONTENT_SOURCE_DIR_<PACKAGE> (upper case) names a local copy instead of the download.
function(bitflash_dependency package version)
  cmake_parse_arguments(DEP "" "TARGET;RELEASE;URL;HEADERS" "OPTIONS" ${ARGN})
  find_package(${package} ${version} QUIET)
  if(TARGET ${DEP_TARGET})
    return()
  endif()
  message(STATUS "${package} ${version} or newer is not installed: fetching release ${DEP_RELEASE} from ${DEP_URL}")
  set_property(GLOBAL APPEND PROPERTY BITFLASH_FETCHED ${package})
  # Options as ordinary variables of this function, whatever policies the fetched project asks for: we set
  # nothing in the cache of a project that includes us.
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)
  set(CMAKE_POLICY_DEFAULT_CMP0126 NEW)
  set(BUILD_TESTING OFF)
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  foreach(option IN LISTS DEP_OPTIONS)
    string(REGEX MATCH "^([^=]+)=(.*)$" _ "${option}")
    set(${CMAKE_MATCH_1} ${CMAKE_MATCH_2})
  endforeach()
  if(DEP_HEADERS)
    # A SOURCE_SUBDIR without a CMakeLists.txt: downloaded, never configured.
    FetchContent_Declare(${package} URL ${DEP_URL} SOURCE_SUBDIR headers-only)
  else()
    FetchContent_Declare(${package} URL ${DEP_URL})
  endif()
  FetchContent_MakeAvailable(${package})
  string(TOLOWER ${package} lower)
  if(DEP_HEADERS)
    add_library(bitflash_fetched_${lower} INTERFACE)
    target_include_directories(bitflash_fetched_${lower} SYSTEM INTERFACE "${${lower}_SOURCE_DIR}/${DEP_HEADERS}")
    add_library(${DEP_TARGET} ALIAS bitflash_fetched_${lower})
  elseif(NOT TARGET ${DEP_TARGET})
    string(REGEX REPLACE "^.*::" "" plain ${DEP_TARGET})  # Highway 1.0.3 has no alias of its own
    add_library(${DEP_TARGET} ALIAS ${plain})
  endif()
  # The option SYSTEM of FetchContent_Declare would do this, but CMake 3.25 takes it for a second URL.
  get_target_property(real ${DEP_TARGET} ALIASED_TARGET)
  set_property(TARGET ${real} PROPERTY SYSTEM ON)
endfunction()

# bitflash_system_package(<package> <Debian package> [<argument of find_package> ...]): must come from the system.
macro(bitflash_system_package package debian)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} is not installed (Debian: apt-get install ${debian})")
  endif()
endmacro()

bitflash_dependency(nlohmann_json 3.11 TARGET nlohmann_json::nlohmann_json RELEASE v3.11.2
  URL https://github.com/nlohmann/json/archive/bc889afb4c5bf1c0d8ee29ef35eaaf4c8bef8a5d.tar.gz
  HEADERS include)
bitflash_dependency(hwy 1.0.3 TARGET hwy::hwy RELEASE 1.0.3
  URL https://github.com/google/highway/archive/58746ca5b9f9444a2a3549704602ecc6239f8f41.tar.gz
  OPTIONS HWY_ENABLE_TESTS=OFF HWY_ENABLE_EXAMPLES=OFF HWY_ENABLE_CONTRIB=OFF HWY_ENABLE_INSTALL=OFF)
bitflash_dependency(Eigen3 3.4 TARGET Eigen3::Eigen RELEASE 3.4.0
  URL https://gitlab.com/libeigen/eigen/-/archive/3147391d946bb4b6c68edd901f2add6ac1f31f8c/eigen-3147391d946bb4b6c68edd901f2add6ac1f31f8c.tar.gz
  HEADERS .)
bitflash_dependency(fmt 9.1 TARGET fmt::fmt RELEASE 9.1.0
  URL https://github.com/fmtlib/fmt/archive/a33701196adfad74917046096bf5a2aa0ab0bb50.tar.gz
  OPTIONS FMT_INSTALL=OFF FMT_TEST=OFF FMT_DOC=OFF)
bitflash_dependency(CLI11 2.1 TARGET CLI11::CLI11 RELEASE v2.1.2
  URL https://github.com/CLIUtils/CLI11/archive/70f8072f9dd2292fd0b9f9e5f58e279f60483ed3.tar.gz
  HEADERS include)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(openmp_package libomp-dev)
else()
  set(openmp_package libgomp1)  # comes with g++
endif()
bitflash_system_package(ZLIB zlib1g-dev)
bitflash_system_package(OpenMP ${openmp_package} COMPONENTS CXX)
if(BITFLASH_TESTS)
  bitflash_dependency(doctest 2.4.9 TARGET doctest::doctest RELEASE v2.4.9
    URL https://github.com/doctest/doctest/archive/b7c21ec5ceeadb4951b00396fc1e4642dd347e5f.tar.gz
    HEADERS .)
endif()
if(BITFLASH_BENCH)
  bitflash_dependency(benchmark 1.7 TARGET benchmark::benchmark RELEASE v1.7.1
    URL https://github.com/google/benchmark/archive/d572f4777349d43653b21d6c2fc63020ab326db2.tar.gz
    OPTIONS BENCHMARK_ENABLE_TESTING=OFF BENCHMARK_ENABLE_INSTALL=OFF BENCHMARK_INSTALL_DOCS=OFF BENCHMARK_ENABLE_WERROR=OFF)
endif()
