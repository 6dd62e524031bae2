# Is there a CUDA compiler? Sets BITFLASH_CUDA and enables the language. Included by the root CMakeLists.txt, because a
# language must be enabled in the top directory of all targets that link its objects (gpu/ and verify/).
set(BITFLASH_CUDA OFF)
if(NOT BITFLASH_GPU MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "BITFLASH_GPU is \"${BITFLASH_GPU}\": it must be AUTO, ON or OFF")
endif()

if(NOT BITFLASH_GPU STREQUAL "OFF")
  # CMake looks for nvcc in PATH and CUDACXX only; the toolkit's installer changes neither.
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(BITFLASH_NVCC nvcc HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(BITFLASH_NVCC)
    if(BITFLASH_NVCC)
      set(CMAKE_CUDA_COMPILER "${BITFLASH_NVCC}")
    endif()
  endif()
  # 90a, not 90: wgmma and setmaxnreg exist only there (PTX ISA 8.0, "architecture-specific features"). Set before the
  # language is enabled: CMake 3.25's own default is an architecture that CUDA 13 no longer knows.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90a)
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    find_package(CUDAToolkit 12.4 QUIET)
    if(CUDAToolkit_FOUND)
      set(BITFLASH_CUDA ON)
    endif()
  endif()
  if(BITFLASH_CUDA)
    message(STATUS "gpu/: CUDA ${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(BITFLASH_GPU STREQUAL "ON")
    message(FATAL_ERROR "BITFLASH_GPU is ON, but no CUDA Toolkit 12.4 or newer was found. Put nvcc in PATH or name it with "
      "-DCMAKE_CUDA_COMPILER=/path/to/nvcc; or configure with -DBITFLASH_GPU=OFF.")
  else()
    message(STATUS "gpu/: not built, no CUDA Toolkit 12.4 or newer was found")
  endif()
endif()
