# What every target shares, and the few functions that declare targets.
find_package(Threads REQUIRED)
find_package(spdlog REQUIRED)
find_package(simdjson REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(CURL REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)

add_library(cajal_options INTERFACE)
target_include_directories(cajal_options INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_compile_options(cajal_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-missing-field-initializers -Wno-sign-conversion -Wnon-virtual-dtor -Wvla
  # The order of floating-point operations is part of what we promise: no contraction that the source does not spell.
  -ffp-contract=off -fno-math-errno)
if(NOT CAJAL_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_options(cajal_options INTERFACE -O2)
endif()
target_compile_definitions(cajal_options INTERFACE CAJAL_VERSION="${PROJECT_VERSION}"
  $<$<CXX_COMPILER_ID:GNU>:_GLIBCXX_ASSERTIONS>)
# Every layer is compiled once, for programs and for libcajal.so alike, and shows outside only what include/cajal/ marks.
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
target_compile_options(cajal_options INTERFACE -fvisibility=hidden -fvisibility-inlines-hidden)
if(CAJAL_SANITIZE)
  # Sanitized code is slow to build; it need not be fast, and tests least of all.
  target_compile_options(cajal_options INTERFACE $<IF:$<BOOL:$<TARGET_PROPERTY:CAJAL_IS_TEST>>,-O0,-O1> -g1)
  target_compile_options(cajal_options INTERFACE -fsanitize=${CAJAL_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(cajal_options INTERFACE -fsanitize=${CAJAL_SANITIZE})
endif()
find_program(CAJAL_CCACHE ccache)
if(CAJAL_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CAJAL_CCACHE})
endif()

# Names of our layers gain the prefix; anything else is a target of a library.
function(cajal_targets out)
  set(result)
  foreach(name ${ARGN})
    if(TARGET cajal_${name})
      list(APPEND result cajal_${name})
    else()
      list(APPEND result ${name})
    endif()
  endforeach()
  set(${out} ${result} PARENT_SCOPE)
endfunction()

# cajal_layer(<name> USES <layers and libraries>): every .cpp under src/<name>/ but main.cpp and what cuda.cmake adds.
function(cajal_layer name)
  cmake_parse_arguments(ARG "" "" "USES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/main\\.cpp$|/backends/cuda/|/distributed/mpi/")
  cajal_targets(uses ${ARG_USES})
  if(sources)
    add_library(cajal_${name} STATIC ${sources})
    target_link_libraries(cajal_${name} PUBLIC cajal_options ${uses})
  else()
    add_library(cajal_${name} INTERFACE)
    target_link_libraries(cajal_${name} INTERFACE cajal_options ${uses})
  endif()
endfunction()

# The page at "/" of the server, from its parts in src/server/page/.
function(cajal_chat_page)
  set(folder ${PROJECT_SOURCE_DIR}/src/server/page)
  set(output ${PROJECT_BINARY_DIR}/generated/chat_page.cpp)
  set(script ${PROJECT_SOURCE_DIR}/cmake/embed_page.cmake)
  file(GLOB parts CONFIGURE_DEPENDS ${folder}/*)
  add_custom_command(OUTPUT ${output} DEPENDS ${parts} ${script}
    COMMAND ${CMAKE_COMMAND} -DFOLDER=${folder} -DOUTPUT=${output} -P ${script})
  add_library(cajal_chat_page STATIC ${output})
  target_link_libraries(cajal_chat_page PUBLIC cajal_options)
  cajal_link(server cajal_chat_page)
endfunction()

# Adds to what a layer links, whether it has sources yet or not.
function(cajal_link layer)
  get_target_property(type cajal_${layer} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    target_link_libraries(cajal_${layer} INTERFACE ${ARGN})
  else()
    target_link_libraries(cajal_${layer} PUBLIC ${ARGN})
  endif()
endfunction()

function(cajal_program name source)
  cmake_parse_arguments(ARG "" "" "USES" ${ARGN})
  if(NOT EXISTS ${PROJECT_SOURCE_DIR}/${source})
    return()
  endif()
  cajal_targets(uses ${ARG_USES})
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE ${uses})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endfunction()

# A program of bench/, built only when asked for.
function(cajal_bench name)
  cmake_parse_arguments(ARG "" "" "USES" ${ARGN})
  cajal_program(${name} bench/${name}.cpp USES ${ARG_USES})
  if(TARGET ${name})
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
  endif()
endfunction()
