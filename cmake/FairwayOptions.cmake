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
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
# -O2 keeps compile time low; kernels ask for -O3 themselves. No errno or trapping maths is relied upon.
set(CMAKE_CXX_FLAGS_RELEASE "-O2")

add_library(fairway_flags INTERFACE)
# -ffp-contract=off: a*b+c means the same in every translation unit; kernels use explicit fma where they want it.
target_compile_options(fairway_flags INTERFACE
  -Wall -Wextra -Werror $<IF:$<CXX_COMPILER_ID:GNU>,-Wshadow=local,-Wshadow> -Wnon-virtual-dtor -Wno-psabi -fno-math-errno -fno-trapping-math -ffp-contract=off)
if(FAIRWAY_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
