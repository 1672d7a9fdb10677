/* SPDX-License-Identifier: MIT */
/* Lesson 2: embed a store. This process owns one SQLite file; it writes durably, then reads.
 *
 * Usage: 02_embed_a_store [FILE]     (default: lesson.db, which is made afresh)
 */
#include "lesson.h"
#include <inttypes.h>
#include <sluice/sluice.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "lesson.db";
    unlink(path); /* before the store is open: while it is, nobody but SQLite may open or close the file */

    sluice_cause cause;
    sluice_runtime *runtime;
    must(sluice_runtime_new(NULL, &runtime, &cause), &cause, "runtime");

    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = path;
    sluice_store *store;
    must(sluice_store_open(runtime, &options, &store, &cause), &cause, "open");

    /* One client per thread. It reaches the store's writer and readers by name, here within the process. */
    sluice_client_options client_options;
    sluice_client_options_init(&client_options);
    client_options.runtime = runtime;
    sluice_client *client;
    must(sluice_client_open("inproc://app", &client_options, &client, &cause), &cause, "client");

    /* When exec returns OK the row is in the file and on disk. */
    sluice_result *result;
    must(sluice_exec(client, "CREATE TABLE bird(id INTEGER PRIMARY KEY, name TEXT UNIQUE, grams REAL)", NULL, 0, NULL,
                     &cause), &cause, "create");
    sluice_value row[] = {sluice_text("wren"), sluice_real(9.5)};
    must(sluice_exec(client, "INSERT INTO bird(name, grams) VALUES(?, ?)", row, 2, &result, &cause), &cause, "insert");
    printf("inserted row %" PRId64 "\n", sluice_result_last_rowid(result));
    sluice_result_destroy(&result);

    /* Many rows of one statement travel as columns, and are applied together. */
    sluice_request *request;
    must(sluice_request_new(client, SLUICE_WRITE, &request), NULL, "request");
    must(sluice_request_add(request, "INSERT INTO bird(name, grams) VALUES(?, ?)", NULL, 0), NULL, "add");
    const char *names[] = {"robin", "goldcrest", "raven"};
    const double grams[] = {18.0, 5.5, 1200.0};
    for (size_t i = 0; i < 3; i++) {
        sluice_value values[] = {sluice_text(names[i]), sluice_real(grams[i])};
        must(sluice_request_row(request, values, 2), NULL, "row");
    }
    must(sluice_call(client, request, &result, &cause), &cause, "rows");
    printf("inserted %" PRIu64 " rows at once\n", sluice_result_changes(result));
    sluice_result_destroy(&result);
    sluice_request_destroy(&request);

    /* A write that fails says why, and had no effect. */
    sluice_err err = sluice_exec(client, "INSERT INTO bird(name, grams) VALUES(?, ?)", row, 2, NULL, &cause);
    printf("a second wren: %s, applied: %s\n", sluice_err_name(err),
           sluice_err_applied(err) == SLUICE_APPLIED_NO ? "no" : "yes or unknown");

    /* A read that starts after a write was acknowledged sees that write. */
    sluice_value limit = sluice_real(20.0);
    must(sluice_query(client, "SELECT name, grams FROM bird WHERE grams < ? ORDER BY grams", &limit, 1, &result,
                      &cause), &cause, "query");
    while (sluice_result_next(result))
        printf("%-10s %5.1f g\n", sluice_result_text(result, 0, NULL), sluice_result_double(result, 1));
    sluice_result_destroy(&result);

    sluice_client_close(&client);
    sluice_store_close(&store); /* checkpoints and closes the file */
    sluice_runtime_destroy(&runtime);
    return 0;
}
