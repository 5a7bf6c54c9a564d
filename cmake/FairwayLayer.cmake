# fairway_layer(NAME [LAYERS ...] [LIBS ...] [EXCLUDE regex])
# One static library fairway_NAME from src/NAME/**.cpp that exports only src/NAME/include.
# LAYERS are the layers below that its public headers use; LIBS are third-party libraries (private).
# Files in a folder cuda/ (.cpp and .cu) belong to builds with the CUDA backend only, cuda_absent.cpp to those without.
function(fairway_layer name)
  cmake_parse_arguments(arg "" "" "LAYERS;LIBS;PUBLIC_LIBS;EXCLUDE" ${ARGN})
  set(patterns "*.cpp")
  if(FAIRWAY_HAS_CUDA)
    list(APPEND patterns "*.cu")
    list(APPEND arg_EXCLUDE "/cuda_absent\\.cpp$")
  else()
    list(APPEND arg_EXCLUDE "/cuda/")
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}" ${patterns})
  list(TRANSFORM sources PREPEND "/")  # filters see the path inside the layer, wherever the checkout lies
  foreach(pattern IN LISTS arg_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "${pattern}")
  endforeach()
  list(TRANSFORM sources PREPEND "${CMAKE_CURRENT_SOURCE_DIR}")
  list(TRANSFORM arg_LAYERS PREPEND "fairway::" OUTPUT_VARIABLE layers)
  if(NOT sources)  # headers only
    add_library(fairway_${name} INTERFACE)
    add_library(fairway::${name} ALIAS fairway_${name})
    target_include_directories(fairway_${name} INTERFACE $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>)
    target_link_libraries(fairway_${name} INTERFACE ${layers} ${arg_PUBLIC_LIBS})
    return()
  endif()
  add_library(fairway_${name} STATIC ${sources})
  add_library(fairway::${name} ALIAS fairway_${name})
  target_include_directories(fairway_${name}
    PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>
    PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(fairway_${name} PUBLIC ${layers} ${arg_PUBLIC_LIBS} PRIVATE ${arg_LIBS} $<BUILD_INTERFACE:fairway_flags>)
endfunction()

# fairway_test(NAME LABELS ... LAYERS ... [LIBS ...]): one GoogleTest program test_NAME from tests/NAME/*.cpp. A test that
# takes FAIRWAY_TEST_TIMEOUT hangs: the slowest needs seconds alone, and may be given a tenth of a core.
set(FAIRWAY_TEST_TIMEOUT 1200)
function(fairway_test name)
  cmake_parse_arguments(arg "" "" "LABELS;LAYERS;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cpp")
  list(TRANSFORM arg_LAYERS PREPEND "fairway::" OUTPUT_VARIABLE layers)
  foreach(layer IN LISTS layers)
    if(NOT TARGET ${layer})
      message(WARNING "test_${name} is left out: ${layer} is not in this tree")
      return()
    endif()
  endforeach()
  if(NOT sources)
    message(WARNING "test_${name} is left out: it has no sources")
    return()
  endif()
  add_executable(test_${name} ${sources})
  set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(test_${name} PRIVATE ${layers} ${arg_LIBS} GTest::gtest GTest::gmock GTest::gtest_main fairway_flags)
  target_compile_definitions(test_${name} PRIVATE
    FAIRWAY_GOLDEN_DIR="${PROJECT_SOURCE_DIR}/tests/golden" FAIRWAY_DATA_DIR="${PROJECT_SOURCE_DIR}/data"
    FAIRWAY_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set(environment "")
  if(FAIRWAY_SANITIZE)  # out of memory is to be an error that we report, as without the sanitizer
    set(environment ENVIRONMENT "ASAN_OPTIONS=allocator_may_return_null=1")
  endif()
  gtest_discover_tests(test_${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 300
    PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${FAIRWAY_TEST_TIMEOUT} ${environment})
endfunction()
