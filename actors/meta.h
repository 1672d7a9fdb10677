/* SPDX-License-Identifier: MIT */
/* The store's own row in the file: which commit numbers may have been used.
 *
 * Numbers must go on over restarts, also after a crash, and must cost no page write per group. So a block of them is
 * reserved in the file before the first is used; a clean close gives the rest of the block back.
 * Threads: the writer's.
 */
#ifndef SL_META_H
#define SL_META_H

#include "conn.h"

typedef struct sl_meta {
    sl_conn *conn;
    sqlite3_stmt *write;
    uint64_t reserved;  /* numbers up to here may be used */
    uint64_t reserving; /* written in the open transaction; 0: nothing */
} sl_meta;

/* Makes the tables if they are missing, reads the block of the last owner and reserves the next one, in the open
 * transaction. Keeps: conn. Gives: *number, the latest that may have been used. Errors: as a statement. */
SLUICE_NODISCARD sluice_err sl_meta_load(sl_meta *meta, sl_conn *conn, uint64_t *number, sluice_cause *cause);
/* Makes sure that `number` may be used, in the transaction. */
SLUICE_NODISCARD sluice_err sl_meta_reserve(sl_meta *meta, uint64_t number, sluice_cause *cause);
void sl_meta_committed(sl_meta *meta);
void sl_meta_rolled_back(sl_meta *meta);
/* Gives back what is above `number`, in the transaction; nothing may be committed after it. */
SLUICE_NODISCARD sluice_err sl_meta_give_back(sl_meta *meta, uint64_t number, sluice_cause *cause);

#endif
