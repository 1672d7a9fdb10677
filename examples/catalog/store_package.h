/* SPDX-License-Identifier: MIT */
/* One package as one atomic write. */
#ifndef CATALOG_STORE_PACKAGE_H
#define CATALOG_STORE_PACKAGE_H

#include "catalog/dpkg.h"
#include <sluice/client.h>

/* Who writes, and for which slice and round. */
typedef struct catalog_turn {
    const char *worker;
    int64_t lease_seconds, slice, round;
} catalog_turn;

/* Builds the write that replaces a package with all its dependencies and files, and notes it in the ledger: all of it
 * happens, or nothing. If the slice is another worker's by now, the request fails with GUARD_FAILED at statement 0.
 * Borrows all. Gives: *out. Errors: NOMEM, TOO_BIG. */
SLUICE_NODISCARD sluice_err catalog_store_package(sluice_client *client, const catalog_turn *turn, int64_t sequence,
                                                  const catalog_package *package, sluice_request **out);

#endif
