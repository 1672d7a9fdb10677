/* SPDX-License-Identifier: MIT */
/* Process-wide SQLite settings, for programs that own their process (sluiced, sluice bench).
 *
 * Not an actor: plain functions, called once by the main thread before anything else uses SQLite.
 * Invariants
 *  1. Nothing in the library calls these; a host that embeds Sluice decides for itself.
 */
#include "sqlite_settings.h"

#include <sqlite3.h>

sluice_err sl_sqlite_memory_statistics_off(sluice_cause *cause) {
    int rc = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (rc == SQLITE_OK) return SLUICE_OK;
    sluice_err err = sluice_cause_set(cause, SLUICE_SYSTEM, "memory statistics: %s", sqlite3_errstr(rc));
    if (cause) cause->sqlite_code = rc;
    return err;
}
