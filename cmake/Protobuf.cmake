# SPDX-License-Identifier: MIT
# sluice_protobuf_c(OUT_SOURCES ROOT FILE...): C code from .proto files, below ${CMAKE_CURRENT_BINARY_DIR}/generated.
find_program(PROTOC_C protoc-c REQUIRED)

function(sluice_protobuf_c out root)
    set(generated ${CMAKE_CURRENT_BINARY_DIR}/generated)
    file(MAKE_DIRECTORY ${generated})
    foreach(file ${ARGN})
        string(REGEX REPLACE "\\.proto$" ".pb-c" base ${file})
        add_custom_command(
            OUTPUT ${generated}/${base}.c ${generated}/${base}.h
            COMMAND ${PROTOC_C} -I${root} --c_out=${generated} ${root}/${file}
            DEPENDS ${root}/${file}
            COMMENT "protoc-c ${file}")
        list(APPEND sources ${generated}/${base}.c)
        list(APPEND headers ${generated}/${base}.h)
    endforeach()
    # Generated code keeps its own style.
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "-w")
    set(${out} ${sources} ${headers} PARENT_SCOPE)
endfunction()
