# The CUDA backend: src/backends/cuda, a part of the layer `backends` where CAJAL_CUDA is on. The runtime is linked in, and it
# loads the driver when it is first asked for a device, so that one binary serves machines with and without GPUs.
include(CheckLanguage)

find_program(CAJAL_NVCC nvcc PATHS /usr/local/cuda/bin)
file(GLOB cajal_gpus /dev/nvidia[0-9]*)
if(CAJAL_NVCC AND cajal_gpus)
  set(cajal_cuda_default ON)
else()
  set(cajal_cuda_default OFF)
endif()
option(CAJAL_CUDA "Build the CUDA backend (needs nvcc)" ${cajal_cuda_default})
# Kernels for any shape are compiled for these; PTX (-virtual) serves every later GPU.
set(CAJAL_CUDA_ARCHITECTURES "80-virtual;90a-real" CACHE STRING "GPUs that the portable kernels are compiled for")

if(CAJAL_CUDA)
  if(NOT CAJAL_NVCC)
    message(FATAL_ERROR "CAJAL_CUDA is on, and there is no nvcc: install CUDA 13's toolkit, or configure with CAJAL_CUDA=OFF")
  endif()
  set(CMAKE_CUDA_COMPILER ${CAJAL_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES ${CAJAL_CUDA_ARCHITECTURES})
  string(REPLACE ";" " " cajal_cuda_architectures "${CAJAL_CUDA_ARCHITECTURES}")
  set(CMAKE_CUDA_STANDARD 17)  # the newest that older versions of CMake know how to ask nvcc for
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  if(CAJAL_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CAJAL_CCACHE})
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

# Those of kernels/ that any GPU from sm_80 on runs. The others are for sm_90a alone.
set(cajal_portable_kernels attention_any attention_mma elementwise linear_f32 linear_mma moe probe sampling weights)

# Device code by itself: it takes none of the host's flags. No contraction that the source does not spell.
function(cajal_cuda_kernels name architectures)
  add_library(${name} STATIC ${ARGN})
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES "${architectures}")
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(${name} PRIVATE --fmad=false -Xcompiler=-fvisibility=hidden,-Wall -lineinfo
    --Werror=cross-execution-space-call)
  target_link_libraries(cajal_backends PUBLIC ${name})
endfunction()

function(cajal_cuda_backend)
  if(NOT CAJAL_CUDA)
    return()
  endif()
  file(GLOB_RECURSE host CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backends/cuda/*.cpp)
  file(GLOB_RECURSE device CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/backends/cuda/*.cu)
  target_sources(cajal_backends PRIVATE ${host})
  target_include_directories(cajal_backends SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_compile_definitions(cajal_backends PRIVATE CAJAL_CUDA CAJAL_CUDA_ARCHITECTURES="${cajal_cuda_architectures}")
  set(portable)
  foreach(name ${cajal_portable_kernels})
    list(APPEND portable ${PROJECT_SOURCE_DIR}/src/backends/cuda/kernels/${name}.cu)
  endforeach()
  list(REMOVE_ITEM device ${portable})
  cajal_cuda_kernels(cajal_cuda_kernels "${CAJAL_CUDA_ARCHITECTURES}" ${portable})
  cajal_cuda_kernels(cajal_cuda_kernels_sm90a 90a-real ${device})
  target_link_libraries(cajal_backends PUBLIC CUDA::cudart_static)
endfunction()
