# Build options and the compiler flags every target shares.
option(FAIRWAY_TESTS "Build the tests" ON)
option(FAIRWAY_FUZZ "Build the libFuzzer targets (needs clang)" OFF)
option(FAIRWAY_SANITIZE "Build with the address and undefined-behaviour sanitizers" OFF)
set(FAIRWAY_CUDA "AUTO" CACHE STRING "CUDA backend: AUTO (when a toolkit is found), ON or OFF")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -O2 keeps compile time low; kernels ask for -O3 themselves. No errno or trapping maths is relied upon.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")

add_library(fairway_flags INTERFACE)
# -ffp-contract=off: a*b+c means the same in every translation unit; kernels use explicit fma where they want it.
set(fairway_warnings -Wall -Wextra -Werror -Wnon-virtual-dtor -Wno-psabi)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND fairway_warnings -Wshadow=local)
else()
  list(APPEND fairway_warnings -Wshadow)
endif()
target_compile_options(fairway_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:${fairway_warnings};-fno-math-errno;-fno-trapping-math;-ffp-contract=off>
  # nvcc's own output trips -Wextra, so its host compiler gets -Wall alone.
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall;--Werror=all-warnings;--fmad=true;-lineinfo>)
set(fairway_sanitizers "")
if(FAIRWAY_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "FAIRWAY_FUZZ needs clang; use: cmake --preset fuzz")
  endif()
  set(fairway_sanitizers -fsanitize=address,undefined)
  add_compile_options(-fsanitize=fuzzer-no-link -fno-sanitize-recover=undefined)
elseif(FAIRWAY_SANITIZE)
  set(fairway_sanitizers -fsanitize=address,undefined)
  # GCC's own note on sanitizers: their checks make it warn of what is initialised (libstdc++'s <regex>).
  add_compile_options(-fno-sanitize-recover=undefined $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
endif()
if(fairway_sanitizers)
  add_compile_options(${fairway_sanitizers} -fno-omit-frame-pointer)
  add_link_options(${fairway_sanitizers})
endif()
