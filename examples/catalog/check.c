/* SPDX-License-Identifier: MIT */
/* catalog-check: compares the catalog with dpkg-query.
 *
 *  1. every package: name, version, architecture, status; and how many are installed;
 *  2. every path of every package: number and names;
 *  3. a sample of paths: the owners that `dpkg-query -S` names;
 *  4. a sample of names: the packages whose Depends or Pre-Depends, as dpkg-query prints them, mention it.
 *
 * Usage: catalog-check --connect URL | --db FILE [--dpkg DIR] [--sample N] [--seed N]
 * Exit code: 0 the catalog equals dpkg-query, 1 it differs or could not be read, 2 usage.
 */
#include "catalog/oracle.h"
#include "common/utf8.h"
#include <getopt.h>
#include <inttypes.h>
#include <sluice/sluice.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SAMPLE 1000
#define MAX_COMPLAINTS 20

typedef struct check {
    const char *url, *db, *dpkg;
    size_t sample;
    unsigned seed;
    sluice_runtime *runtime; /* with --db */
    sluice_store *store;
    sluice_client *client;
    oracle oracle;
    unsigned complaints;
} check;

/* Counts a difference, and prints the first few. */
static void __attribute__((format(printf, 2, 3))) complain(check *self, const char *format, ...)
{
    va_list arguments;
    if (self->complaints++ >= MAX_COMPLAINTS) return;
    va_start(arguments, format);
    fputs("  differs: ", stdout);
    vfprintf(stdout, format, arguments);
    fputc('\n', stdout);
    va_end(arguments);
}

/* Ends the program if the question fails: there is nothing to compare then. */
static sluice_result *ask(check *self, const char *sql, const char *parameter)
{
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_value value = parameter != NULL && !utf8_valid(parameter) ? sluice_blob(parameter, strlen(parameter))
                                                                     : sluice_text(parameter);
    sluice_err err = sluice_query(self->client, sql, &value, parameter != NULL ? 1 : 0, &result, &cause);
    if (err == SLUICE_OK) return result;
    fprintf(stderr, "catalog-check: %s: %s\n", sluice_err_name(err), cause.text);
    exit(1);
}

static bool same(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static void check_packages(check *self)
{
    size_t installed = 0, ours = 0;
    for (size_t i = 0; i < self->oracle.n_packages; i++) {
        const oracle_package *theirs = &self->oracle.packages[i];
        installed += strcmp(theirs->status, "installed") == 0;
        sluice_result *result =
            ask(self, "SELECT version, architecture, status FROM package WHERE name = ?1", theirs->name);
        if (!sluice_result_next(result))
            complain(self, "package %s is not in the catalog", theirs->name);
        else if (!same(sluice_result_text(result, 0, NULL), theirs->version) ||
                 !same(sluice_result_text(result, 1, NULL), theirs->architecture) ||
                 !same(sluice_result_text(result, 2, NULL), theirs->status))
            complain(self, "package %s: version, architecture or status", theirs->name);
        sluice_result_destroy(&result);
    }
    sluice_result *result =
        ask(self, "SELECT count(*), coalesce(sum(status = 'installed'), 0) FROM package", NULL);
    if (sluice_result_next(result)) {
        if (sluice_result_int64(result, 0) != (int64_t)self->oracle.n_packages)
            complain(self, "%" PRId64 " packages, dpkg-query lists %zu", sluice_result_int64(result, 0),
                     self->oracle.n_packages);
        ours = (size_t)sluice_result_int64(result, 1);
    }
    sluice_result_destroy(&result);
    if (ours != installed) complain(self, "%zu installed, dpkg-query says %zu", ours, installed);
    printf("installed packages  %zu, dpkg-query %zu\n", ours, installed);
}

static void check_files(check *self)
{
    size_t all = 0, theirs_all = 0;
    for (size_t i = 0; i < self->oracle.n_packages; i++) {
        const oracle_package *package = &self->oracle.packages[i];
        text_set ours = {0}, theirs = {.texts = package->files, .n = package->n_files};
        sluice_result *result = ask(self, "SELECT path FROM file WHERE package = ?1", package->name);
        while (sluice_result_next(result)) {
            size_t size = 0;
            const char *path = sluice_result_type(result, 0) == SLUICE_TYPE_BLOB
                                   ? sluice_result_blob(result, 0, &size)
                                   : sluice_result_text(result, 0, &size);
            text_set_add(&ours, path, size);
        }
        sluice_result_destroy(&result);
        text_set_close(&ours);
        all += ours.n;
        theirs_all += theirs.n;
        if (!text_set_equal(&ours, &theirs))
            complain(self, "files of %s: %zu, dpkg-query %zu", package->name, ours.n, theirs.n);
        text_set_fini(&ours);
    }
    sluice_result *result = ask(self, "SELECT count(*) FROM file", NULL);
    if (sluice_result_next(result) && sluice_result_int64(result, 0) != (int64_t)all)
        complain(self, "%" PRId64 " files in all, of known packages %zu", sluice_result_int64(result, 0), all);
    sluice_result_destroy(&result);
    printf("files, each path    %zu, dpkg-query %zu\n", all, theirs_all);
}

/* The answer of a question that gives one column of texts. */
static void ask_set(check *self, const char *sql, const char *parameter, text_set *out)
{
    sluice_result *result = ask(self, sql, parameter);
    while (sluice_result_next(result)) {
        size_t size = 0;
        const char *text = sluice_result_text(result, 0, &size);
        text_set_add(out, text, size);
    }
    sluice_result_destroy(&result);
    text_set_close(out);
}

static const oracle_package *random_package(check *self)
{
    return &self->oracle.packages[(size_t)rand_r(&self->seed) % self->oracle.n_packages];
}

static void check_owners(check *self)
{
    const char *paths[MAX_SAMPLE] = {NULL};
    static text_set owners[MAX_SAMPLE];
    size_t n = 0, right = 0;
    size_t attempts = self->oracle.n_packages > 0 ? self->sample * 20 : 0;
    for (size_t attempt = 0; attempt < attempts && n < self->sample; attempt++) {
        const oracle_package *package = random_package(self);
        if (package->n_files == 0) continue;
        const char *path = package->files[(size_t)rand_r(&self->seed) % package->n_files];
        /* dpkg-query -S takes these for patterns, and "/." for "/". */
        if (path[0] == '/' && strcmp(path, "/.") != 0 && strpbrk(path, "*?[\\") == NULL) paths[n++] = path;
    }
    if (!oracle_owners(self->dpkg, paths, n, owners)) complain(self, "dpkg-query -S failed");
    for (size_t i = 0; i < n; i++) {
        text_set ours = {0};
        ask_set(self, "SELECT package FROM file WHERE path = ?1", paths[i], &ours);
        if (text_set_equal(&ours, &owners[i]))
            right++;
        else
            complain(self, "owners of %s: %zu, dpkg-query -S %zu", paths[i], ours.n, owners[i].n);
        text_set_fini(&ours);
        text_set_fini(&owners[i]);
    }
    printf("owners of a path    %zu of %zu as dpkg-query -S\n", right, n);
}

static void check_needed_by(check *self)
{
    size_t n = 0, right = 0;
    size_t attempts = self->oracle.n_packages > 0 ? self->sample * 20 : 0;
    for (size_t attempt = 0; attempt < attempts && n < self->sample; attempt++) {
        char target[256];
        if (!oracle_dependency(random_package(self), (size_t)rand_r(&self->seed) % 8, target, sizeof target)) continue;
        text_set ours = {0}, theirs = {0};
        ask_set(self, "SELECT DISTINCT package FROM dependency WHERE target = ?1", target, &ours);
        oracle_needed_by(&self->oracle, target, &theirs);
        if (text_set_equal(&ours, &theirs))
            right++;
        else
            complain(self, "needed by %s: %zu, dpkg-query %zu", target, ours.n, theirs.n);
        text_set_fini(&ours);
        text_set_fini(&theirs);
        n++;
    }
    printf("what depends on X   %zu of %zu as dpkg-query -W\n", right, n);
}

static bool connect_store(check *self)
{
    sluice_cause cause;
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = 30000;
    sluice_err err = SLUICE_OK;
    if (self->db != NULL) {
        sluice_store_options store;
        sluice_store_options_init(&store);
        store.path = self->db;
        store.create = false;
        err = sluice_runtime_new(NULL, &self->runtime, &cause);
        if (err == SLUICE_OK) err = sluice_store_open(self->runtime, &store, &self->store, &cause);
        options.runtime = self->runtime;
    }
    if (err == SLUICE_OK)
        err = sluice_client_open(self->db != NULL ? "inproc://app" : self->url, &options, &self->client, &cause);
    if (err != SLUICE_OK)
        fprintf(stderr, "catalog-check: %s: %s: %s\n", self->db != NULL ? self->db : self->url, sluice_err_name(err),
                cause.text);
    return err == SLUICE_OK;
}

static int usage(void)
{
    fputs("Usage: catalog-check --connect URL | --db FILE [--dpkg DIR] [--sample N] [--seed N]\n"
          "Compares the catalog with dpkg-query.\n",
          stderr);
    return 2;
}

int main(int argc, char **argv)
{
    static check self = {.dpkg = "/var/lib/dpkg", .sample = 50, .seed = 1};
    static const struct option options[] = {
        {"connect", required_argument, NULL, 'c'}, {"db", required_argument, NULL, 'b'},
        {"dpkg", required_argument, NULL, 'd'},    {"sample", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},    {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'c': self.url = optarg; break;
        case 'b': self.db = optarg; break;
        case 'd': self.dpkg = optarg; break;
        case 'n': self.sample = (size_t)strtoul(optarg, NULL, 10); break;
        case 's': self.seed = (unsigned)strtoul(optarg, NULL, 10); break;
        default: return usage();
        }
    }
    if (optind != argc || (self.url == NULL) == (self.db == NULL) || self.sample > MAX_SAMPLE) return usage();
    if (!connect_store(&self) || !oracle_load(&self.oracle, self.dpkg)) self.complaints++;
    if (self.complaints == 0) {
        check_packages(&self);
        check_files(&self);
        check_owners(&self);
        check_needed_by(&self);
        if (self.complaints > MAX_COMPLAINTS) printf("  and %u more\n", self.complaints - MAX_COMPLAINTS);
        printf("the catalog %s dpkg-query\n", self.complaints == 0 ? "equals" : "differs from");
    }
    oracle_fini(&self.oracle);
    sluice_client_close(&self.client);
    sluice_store_close(&self.store);
    sluice_runtime_destroy(&self.runtime);
    return self.complaints == 0 ? 0 : 1;
}
