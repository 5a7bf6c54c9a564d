# Third-party libraries, all from the distribution's packages (scripts/bootstrap installs them).
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(dnnl REQUIRED CONFIG)
find_package(nlohmann_json REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
find_library(FAIRWAY_SENTENCEPIECE_TRAIN sentencepiece_train REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(lzma REQUIRED IMPORTED_TARGET liblzma)
pkg_check_modules(zlib REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
find_package(tomlplusplus REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)
if(FAIRWAY_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

# OpenMP: only its settings are used, to keep oneDNN from starting threads of its own. oneDNN of the distribution runs on
# GCC's libgomp, so a clang build must talk to that one too and not to LLVM's: two runtimes in a process do not share
# settings.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  find_package(OpenMP REQUIRED COMPONENTS CXX)
else()
  execute_process(COMMAND g++ -print-file-name=include/omp.h OUTPUT_VARIABLE header OUTPUT_STRIP_TRAILING_WHITESPACE)
  execute_process(COMMAND g++ -print-file-name=libgomp.so OUTPUT_VARIABLE library OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT EXISTS "${header}" OR NOT EXISTS "${library}")
    message(FATAL_ERROR "libgomp of g++ was not found; install g++ (scripts/bootstrap does)")
  endif()
  # The header alone: its folder also holds GCC's intrinsics, which clang cannot read.
  configure_file("${header}" "${PROJECT_BINARY_DIR}/libgomp/omp.h" COPYONLY)
  add_library(OpenMP::OpenMP_CXX INTERFACE IMPORTED)
  set_target_properties(OpenMP::OpenMP_CXX PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${PROJECT_BINARY_DIR}/libgomp" INTERFACE_LINK_LIBRARIES "${library}")
endif()
