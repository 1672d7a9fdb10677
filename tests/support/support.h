/* SPDX-License-Identifier: MIT */
/* What many tests need: scaled counts, a fresh directory, waiting for an event with a deadline.
 *
 * cmocka's include order is kept in one place. Threads: assert only on the test's thread (cmocka jumps).
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <sluice/sluice.h>

/* n divided by the build's scale (SLUICE_SCALE: 10 under sanitizers), at least 1; n * 10 with SLUICE_LONG set. */
unsigned support_scaled(unsigned n);
/* True under `tests/run.sh --long`. */
bool support_long(void);

/* Makes an empty directory below the working directory and gives its absolute path (caller frees); removed with all it
 * holds by support_directory_remove, which nulls the pointer. */
char *support_directory_new(void);
void support_directory_remove(char **directory);
/* "directory/file", caller frees. */
char *support_path(const char *directory, const char *file);

/* Calls done(context) until it is true; fails the test after timeout_ms. Yields in between; for events that have no
 * descriptor to wait for. */
void support_await(bool (*done)(void *context), void *context, unsigned timeout_ms);

/* A port number that was free a moment ago is never needed: bind tcp://127.0.0.1:* and ask for the endpoint. */

/* Asserts that a call returned OK and shows the cause if not. */
#define assert_ok(call, cause)                                                                                         \
    do {                                                                                                               \
        sluice_err err_ = (call);                                                                                      \
        if (err_ != SLUICE_OK) fail_msg("%s: %s: %s", #call, sluice_err_name(err_), (cause).text);                     \
    } while (0)

#endif
