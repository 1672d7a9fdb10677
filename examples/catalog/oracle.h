/* SPDX-License-Identifier: MIT */
/* What dpkg-query says, to compare the catalog with. Nothing here shares code with the parser of dpkg's files.
 *
 * Threads: one.
 */
#ifndef CATALOG_ORACLE_H
#define CATALOG_ORACLE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct oracle_package {
    char *name, *status, *version, *architecture;
    char *depends, *pre_depends; /* as dpkg-query prints them */
    char **files;                /* sorted */
    size_t n_files;
} oracle_package;

typedef struct oracle {
    oracle_package *packages;
    size_t n_packages;
} oracle;

/* Runs dpkg-query on dpkg's directory `root`. False with a text on stderr. */
bool oracle_load(oracle *self, const char *root);
void oracle_fini(oracle *self);

/* A sorted list of texts, each once. */
typedef struct text_set {
    char **texts;
    size_t n, room;
} text_set;

void text_set_add(text_set *self, const char *text, size_t size);
/* Sorts and drops what is there twice. */
void text_set_close(text_set *self);
void text_set_fini(text_set *self);
bool text_set_equal(const text_set *a, const text_set *b);

/* Asks `dpkg-query -S` who owns each of n paths; owners[i] is filled for paths[i]. False with a text on stderr. */
bool oracle_owners(const char *root, const char *const *paths, size_t n, text_set *owners);
/* The packages whose Depends or Pre-Depends name target, by looking for it in what dpkg-query printed. */
void oracle_needed_by(const oracle *self, const char *target, text_set *out);
/* The name of the k-th dependency of a package; false past the last. */
bool oracle_dependency(const oracle_package *package, size_t k, char *out, size_t out_size);

#endif
