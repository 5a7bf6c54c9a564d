# Code bytes of the size ledger: `xz -9e` over a tar of the sources needed to load, score and adapt an artifact, without
# comments and indentation, measured when the project is built (docs/format.md, "Code bytes").
set(FAIRWAY_CODE_LAYERS base tensor text ops graph model optim quant artifact score adapt)

# Gives TARGET a generated header "fairway_code_size.h" with the constants FAIRWAY_CODE_BYTES and FAIRWAY_CODE_BYTES_CPU:
# all of these sources, and without what only a GPU needs (folders cuda/).
function(fairway_code_size target)
  find_program(FAIRWAY_TAR tar REQUIRED)
  find_program(FAIRWAY_XZ xz REQUIRED)
  set(sources "")
  foreach(layer IN LISTS FAIRWAY_CODE_LAYERS)
    foreach(extension h cpp cu cuh)
      file(GLOB_RECURSE found CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${layer}/*.${extension}")
      list(APPEND sources ${found})
    endforeach()
  endforeach()
  list(TRANSFORM sources REPLACE "^${PROJECT_SOURCE_DIR}/" "" OUTPUT_VARIABLE names)
  list(SORT names)
  set(cpu_names ${names})
  list(FILTER cpu_names EXCLUDE REGEX "/cuda/|\\.cuh?$")
  list(JOIN names "\n" list_text)
  list(JOIN cpu_names "\n" cpu_list_text)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/generated")
  add_executable(strip_code "${PROJECT_SOURCE_DIR}/cmake/strip_code.cpp")
  set_target_properties(strip_code PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${folder}")
  file(CONFIGURE OUTPUT "${folder}/code_files.txt" CONTENT "${list_text}\n" @ONLY)
  file(CONFIGURE OUTPUT "${folder}/code_files_cpu.txt" CONTENT "${cpu_list_text}\n" @ONLY)
  add_custom_command(
    OUTPUT "${folder}/code_size.stamp"
    BYPRODUCTS "${folder}/fairway_code_size.h"
    COMMAND "${CMAKE_COMMAND}" "-DROOT=${PROJECT_SOURCE_DIR}" "-DFOLDER=${folder}" "-DTAR=${FAIRWAY_TAR}"
            "-DXZ=${FAIRWAY_XZ}" "-DSTRIP=$<TARGET_FILE:strip_code>" -P "${PROJECT_SOURCE_DIR}/cmake/code_size.cmake"
    DEPENDS ${sources} strip_code "${folder}/code_files.txt" "${folder}/code_files_cpu.txt" "${PROJECT_SOURCE_DIR}/cmake/code_size.cmake"
    COMMENT "Measuring code bytes" VERBATIM)
  target_sources(${target} PRIVATE "${folder}/code_size.stamp")
  target_include_directories(${target} PRIVATE "${folder}")
endfunction()
