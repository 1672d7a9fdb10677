/* SPDX-License-Identifier: MIT */
/* Online backup, the writer's half: some pages between groups, on the writer's own connection.
 *
 * Because the source is the connection that writes, SQLite carries each commit's pages into the copy, which therefore
 * neither begins anew nor needs a snapshot: the log can be emptied and reused meanwhile. Source:
 * sqlite.org/backup.html, "if the database is written to ... by the same connection".
 *
 * Threads: the writer's.
 */
#ifndef SL_BACKUP_H
#define SL_BACKUP_H

#include <sluice/actor.h>
#include "store_internal.h"

typedef struct sl_backup sl_backup;

typedef struct sl_backup_options {
    sluice_store *store; /* kept */
    sluice_actor *self;  /* the writer, kept */
    sl_conn *conn;       /* the writer's, kept */
    bool (*may_step)(void *context); /* is no transaction open, and may one be opened? */
    void *context;
} sl_backup_options;

/* Gives: *out. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_backup_new(const sl_backup_options *options, sl_backup **out, sluice_cause *cause);
/* Ends a backup that is under way: CLOSED. To be called before the connection closes. */
void sl_backup_destroy(sl_backup **backup);
/* Is it a BackupRequest? Then it is taken, and answered when it is done. */
bool sl_backup_on_message(sl_backup *backup, sluice_msg **msg);
/* To be called between groups: copies some pages, if a backup is under way and a step is allowed. */
void sl_backup_between_groups(sl_backup *backup);

/* Ends the check of a copy, if one is under way, and waits for it. Threads: the host's, after the writer's end. */
void sl_backup_stop(sluice_store *store);

#endif
