#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# CTest: PLAIN_ONLY TIMEOUT=180
# Installs to an empty prefix and builds an outside project there, in C and in C++, by find_package(Sluice CONFIG) and by
# pkg-config, with gcc and clang; runs what was built, and the installed tools. Nothing but the prefix and the system's
# own packages is in reach of the outside project.
set -euo pipefail

work=$(mktemp -d "$PWD/install-XXXXXX")
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
fail() { echo "FAIL: $*" >&2; exit 1; }

cmake --install "$SLUICE_BUILD" --prefix "$prefix" >"$work/install.log"

# Exactly the headers of include/sluice, byte for byte.
diff -r "$SLUICE_SOURCE/include/sluice" "$prefix/include/sluice" || fail "installed headers differ"
for tool in sluiced sluice; do
    [ -x "$prefix/bin/$tool" ] || fail "$tool is not installed"
    "$prefix/bin/$tool" --help >/dev/null || fail "$tool --help from the prefix"
done
# A prefix can be moved: no installed text names the source or build tree.
if grep -rIl -e "$SLUICE_SOURCE" "$prefix"; then fail "installed files name the source tree"; fi

# The outside project: opens a store, writes, reads. The same text compiles as C and as C++.
outside=$work/outside
mkdir "$outside"
cat >"$outside/main.c" <<'SOURCE'
#include <sluice/sluice.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    sluice_runtime *runtime = NULL;
    sluice_store *store = NULL;
    sluice_client *client = NULL;
    sluice_result *result = NULL;
    sluice_cause cause;
    int status = 1;
    memset(&cause, 0, sizeof cause);
    sluice_store_options store_options;
    sluice_store_options_init(&store_options);
    store_options.path = argc > 1 ? argv[1] : "outside.db";
    sluice_client_options client_options;
    sluice_client_options_init(&client_options);
    if (sluice_runtime_new(NULL, &runtime, &cause) != SLUICE_OK) goto fail;
    if (sluice_store_open(runtime, &store_options, &store, &cause) != SLUICE_OK) goto fail;
    client_options.runtime = runtime;
    if (sluice_client_open("inproc://app", &client_options, &client, &cause) != SLUICE_OK) goto fail;
    if (sluice_exec(client, "CREATE TABLE IF NOT EXISTS t(x)", NULL, 0, NULL, &cause) != SLUICE_OK) goto fail;
    if (sluice_exec(client, "INSERT INTO t VALUES (42)", NULL, 0, NULL, &cause) != SLUICE_OK) goto fail;
    if (sluice_query(client, "SELECT x FROM t", NULL, 0, &result, &cause) != SLUICE_OK) goto fail;
    while (sluice_result_next(result)) printf("x=%d\n", (int)sluice_result_int64(result, 0));
    status = 0;
fail:
    if (status != 0) fprintf(stderr, "%s: %s\n", sluice_err_name(cause.code), cause.text);
    sluice_result_destroy(&result);
    sluice_client_close(&client);
    sluice_store_close(&store);
    sluice_runtime_destroy(&runtime);
    return status;
}
SOURCE
cp "$outside/main.c" "$outside/main.cpp"

run() { # PROGRAM: must write and read its row, with an own file
    local answer
    answer=$("$1" "$1.db") || fail "$1 failed"
    [ "$answer" = x=42 ] || fail "$1 said '$answer'"
}

for language in C CXX; do
    main=main.c
    [ $language = C ] || main=main.cpp
    project=$work/cmake-$language
    mkdir "$project"
    cp "$outside/$main" "$project"
    cat >"$project/CMakeLists.txt" <<PROJECT
cmake_minimum_required(VERSION 3.25)
project(Outside LANGUAGES $language)
find_package(Sluice 0.1 CONFIG REQUIRED)
add_executable(outside $main)
target_link_libraries(outside PRIVATE Sluice::Sluice)
target_compile_options(outside PRIVATE -Wall -Wextra -pedantic -Werror)
PROJECT
    cmake -S "$project" -B "$project/build" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >"$project/log" 2>&1 &&
        cmake --build "$project/build" >>"$project/log" 2>&1 || { cat "$project/log"; fail "CMake project, $language"; }
    run "$project/build/outside"
    echo "ok find_package, $language"
done

# A version that does not fit is refused.
sed -i 's/Sluice 0.1/Sluice 99.0/' "$work/cmake-C/CMakeLists.txt"
if cmake -S "$work/cmake-C" -B "$work/cmake-99" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >/dev/null 2>&1; then
    fail "find_package accepts version 99"
fi

pc=$(dirname "$(find "$prefix" -name sluice.pc)")
export PKG_CONFIG_PATH=$pc
[ "$(pkg-config --modversion sluice)" = "$(sed -n 's/^project(Sluice VERSION \([0-9.]*\).*/\1/p' \
    "$SLUICE_SOURCE/CMakeLists.txt")" ] || fail "pkg-config's version is not the project's"
read -ra flags < <(pkg-config --cflags --libs sluice)
libdir=$(pkg-config --variable=libdir sluice)
for compiler in gcc clang g++ clang++; do
    command -v "$compiler" >/dev/null || continue
    main=main.c
    case $compiler in *++) main=main.cpp ;; esac
    "$compiler" -Wall -Wextra -pedantic -Werror "$outside/$main" -o "$work/by-$compiler" "${flags[@]}" \
        -Wl,-rpath,"$libdir"
    run "$work/by-$compiler"
    echo "ok pkg-config, $compiler"
done
