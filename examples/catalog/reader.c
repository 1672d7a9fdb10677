/* SPDX-License-Identifier: MIT */
/* catalog-reader: asks the catalog over and over while workers replace its packages, and checks every answer.
 *
 * Of a random package it asks three things, each answered on one snapshot:
 *  1. its row with the number of its files and dependencies: it must be there, and the numbers must be those it states
 *     (else the reader saw half a write);
 *  2. which packages own one of its files: it must be among them;
 *  3. what depends on it.
 *
 * Usage: catalog-reader --connect URL       until SIGTERM; prints one line of counters each second
 */
#include "common/clock.h"
#include "common/tally.h"
#include <inttypes.h>
#include <signal.h>
#include <sluice/client.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAMES 20000

typedef struct reader {
    sluice_client *client;
    sluice_result *names; /* owns the texts of name[] */
    const char *name[MAX_NAMES];
    size_t n_names;
    uint64_t seed, next_report_us, next_names_us;
    tally tally;
} reader;

static atomic_bool stopping; /* lock-free, so a signal handler may set it */

static void on_signal(int number)
{
    (void)number;
    stopping = true;
}

/* Asks; NULL if that failed. A refusal that passes (overload) is not a bad read, only no read. */
static sluice_result *ask(reader *self, const char *sql, const char *parameter, size_t n_parameters)
{
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_value value = sluice_text(parameter);
    sluice_err err = sluice_query(self->client, sql, &value, n_parameters, &result, &cause);
    if (err == SLUICE_OK) {
        self->tally.reads++;
        return result;
    }
    if ((cause.sqlite_code & 0xff) == 5) self->tally.busy++; /* SQLITE_BUSY */
    if (!sluice_err_retryable(err) && !stopping) {
        self->tally.bad_reads++;
        fprintf(stderr, "catalog-reader: %s: %s\n", sluice_err_name(err), cause.text);
    }
    clock_sleep_ms(cause.retry_after_ms > 0 && cause.retry_after_ms < 1000 ? cause.retry_after_ms : 20);
    return NULL;
}

static void bad(reader *self, const char *name, const char *what)
{
    self->tally.bad_reads++;
    fprintf(stderr, "catalog-reader: package %s: %s\n", name, what);
}

static void check_package(reader *self, const char *name)
{
    sluice_result *result = ask(self,
                                "SELECT n_files, (SELECT count(*) FROM file WHERE package = name), n_dependencies, "
                                "(SELECT count(*) FROM dependency WHERE package = name) FROM package WHERE name = ?1",
                                name, 1);
    if (result == NULL) return;
    if (!sluice_result_next(result))
        bad(self, name, "was not there");
    else if (sluice_result_int64(result, 0) != sluice_result_int64(result, 1) ||
             sluice_result_int64(result, 2) != sluice_result_int64(result, 3))
        bad(self, name, "half of it was there");
    sluice_result_destroy(&result);
}

static void check_owner(reader *self, const char *name)
{
    /* The last of a package's paths is a file more often than a directory that half the system owns. */
    sluice_result *files = ask(self, "SELECT max(path) FROM file WHERE package = ?1", name, 1);
    if (files == NULL) return;
    if (sluice_result_next(files) && sluice_result_type(files, 0) == SLUICE_TYPE_TEXT) {
        sluice_result *owners =
            ask(self, "SELECT package FROM file WHERE path = ?1", sluice_result_text(files, 0, NULL), 1);
        bool found = owners == NULL;
        while (owners != NULL && sluice_result_next(owners))
            if (strcmp(sluice_result_text(owners, 0, NULL), name) == 0) found = true;
        if (!found) bad(self, name, "did not own its own file");
        sluice_result_destroy(&owners);
    }
    sluice_result_destroy(&files);
}

static void check_needed_by(reader *self, const char *name)
{
    char plain[256];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, ":"), name);
    sluice_result *result =
        ask(self, "SELECT DISTINCT package FROM dependency WHERE target = ?1 ORDER BY package", plain, 1);
    sluice_result_destroy(&result);
}

/* Reads the names again every two seconds: the first round is still filling the table. */
static void refresh_names(reader *self)
{
    uint64_t now = clock_us();
    if (self->n_names > 0 && now < self->next_names_us) return;
    sluice_result *result = ask(self, "SELECT name FROM package", NULL, 0);
    if (result == NULL) return;
    sluice_result_destroy(&self->names);
    self->names = result;
    self->next_names_us = now + 2000000;
    for (self->n_names = 0; self->n_names < MAX_NAMES && sluice_result_next(result);)
        self->name[self->n_names++] = sluice_result_text(result, 0, NULL);
}

/* Waits until workers have made the tables and written something. */
static void await_tables(reader *self)
{
    while (!stopping) {
        sluice_result *result = NULL;
        sluice_cause cause;
        sluice_err err = sluice_query(self->client, "SELECT 1 FROM package LIMIT 1", NULL, 0, &result, &cause);
        bool there = err == SLUICE_OK && sluice_result_rows(result) > 0;
        sluice_result_destroy(&result);
        if (there) return;
        clock_sleep_ms(50);
    }
}

int main(int argc, char **argv)
{
    static reader self;
    sluice_cause cause;
    if (argc != 3 || strcmp(argv[1], "--connect") != 0) {
        fputs("Usage: catalog-reader --connect URL\n", stderr);
        return 2;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    if (sluice_client_open(argv[2], NULL, &self.client, &cause) != SLUICE_OK) {
        fprintf(stderr, "catalog-reader: %s: %s\n", argv[2], cause.text);
        return 1;
    }
    self.seed = clock_us();
    await_tables(&self);
    while (!stopping) {
        refresh_names(&self);
        if (self.n_names > 0) {
            const char *name = self.name[random_next(&self.seed) % self.n_names];
            check_package(&self, name);
            check_owner(&self, name);
            check_needed_by(&self, name);
        }
        if (clock_us() >= self.next_report_us) {
            self.next_report_us = clock_us() + 1000000;
            tally_print(stdout, "progress", &self.tally);
        }
    }
    tally_print(stdout, "done", &self.tally);
    sluice_result_destroy(&self.names);
    sluice_client_close(&self.client);
    return self.tally.bad_reads > 0 ? 1 : 0;
}
