/* SPDX-License-Identifier: MIT */
/* Makes sure that a transaction whose COMMIT found no space cannot come back by recovery.
 *
 * SQLite rolls such a transaction back, but leaves in the log what it had written. Usually that is a torso. It is all
 * of the transaction if the last write failed over bytes that were there already: the log is reused in place, so the
 * bytes may be the same, and a write that fails may have arrived in part. As long as the process lives the next commit
 * overwrites it; if the process dies first, recovery takes it for committed, and a definite no would have been wrong.
 *
 * Threads: the writer's, with no transaction open on db.
 * Source: sqlite.org/walformat.html (frames, checksums; mxFrame in the index's header).
 */
#ifndef SL_LOG_TAIL_H
#define SL_LOG_TAIL_H

#include <sqlite3.h>
#include <stdbool.h>

/* Looks whether recovery would find a commit behind the last one that succeeded and, if so, overwrites its beginning
 * and syncs. True: nothing behind it can be recovered. False: that could not be made sure.
 * Proof: test_fault_loops (any_write_may_arrive_and_be_reported_as_no_space). */
bool sl_log_tail_clear(sqlite3 *db);

#endif
