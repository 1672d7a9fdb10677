/* SPDX-License-Identifier: MIT */
/* SQLite settings that hold for the whole process. The library itself never touches them: they belong to the host, and
 * sluiced is one. Threads: before any other use of SQLite in the process. */
#ifndef SL_SQLITE_SETTINGS_H
#define SL_SQLITE_SETTINGS_H

#include <sluice/base.h>

/* Turns SQLite's memory statistics off: they take a process-wide lock in every allocation, which costs reads on two
 * threads up to 40 %. Source: sqlite.org/c3ref/c_config_covering_index_scan.html, SQLITE_CONFIG_MEMSTATUS.
 * Errors: SYSTEM (SQLite is already in use in this process). */
SLUICE_NODISCARD sluice_err sl_sqlite_memory_statistics_off(sluice_cause *cause);

#endif
