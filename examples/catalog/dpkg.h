/* SPDX-License-Identifier: MIT */
/* Reads dpkg's own files: /var/lib/dpkg/status and /var/lib/dpkg/info/NAME.list.
 *
 * Names are made as dpkg prints ${binary:Package}: with ":architecture" for packages that are Multi-Arch: same or of a
 * foreign architecture. Source: dpkg 1.21, lib/dpkg/pkg-show.c (pkgbin_name_needs_arch) and dpkg-query(1).
 *
 * Threads: none of this is shared.
 */
#ifndef CATALOG_DPKG_H
#define CATALOG_DPKG_H

#include <stdbool.h>
#include <stddef.h>

typedef struct catalog_dependency {
    const char *kind; /* "Depends" or "Pre-Depends" */
    int position, alternative;
    char *target, *architecture, *version; /* NULL where not given, target excepted */
    const char *relation;                  /* "<<", "<=", "=", ">=" or ">>"; NULL where not given */
} catalog_dependency;

typedef struct catalog_package {
    char *name;                                                     /* as dpkg prints it */
    char *version, *architecture, *status, *section, *summary;      /* NULL where not given */
    catalog_dependency *dependencies;
    size_t n_dependencies;
    char **files; /* sorted, each once */
    size_t n_files;
    char *memory[2]; /* what the pointers above point into */
} catalog_package;

/* The status file, held in memory while it does not change on disk. */
typedef struct catalog_status catalog_status;

/* root: dpkg's directory, normally /var/lib/dpkg; kept. Gives: an empty holder, NULL without memory. */
catalog_status *catalog_status_new(const char *root);
void catalog_status_destroy(catalog_status **self);
/* Reads the file unless it is unchanged since the last time. False with a text in error (error_size bytes). */
bool catalog_status_refresh(catalog_status *self, char *error, size_t error_size);
/* Number of stanzas in the file as last read, installed or not. */
size_t catalog_status_stanzas(const catalog_status *self);
/* Parses stanza i, and its file list if it belongs to `slice` of n_slices (any: n_slices 0). Gives: *out. Returns 1; 0
 * if the stanza is of another slice, or of a package that is "not-installed"; -1 with a text in error. */
int catalog_status_package(const catalog_status *self, size_t i, unsigned slice, unsigned n_slices,
                           catalog_package *out, char *error, size_t error_size);
void catalog_package_fini(catalog_package *package);

#endif
