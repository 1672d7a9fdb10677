/* SPDX-License-Identifier: MIT */
/* A store for tests: a runtime, a file in a fresh directory, a port that asks the writer and the readers directly.
 *
 * Threads: the test's. Everything asserts (cmocka) instead of returning errors, unless it says otherwise.
 */
#ifndef STORE_KIT_H
#define STORE_KIT_H

#include "support/support.h"
#include "msg.h"
#include "port.h"
#include "store_internal.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"

typedef struct store_kit {
    char *directory, *path;
    sluice_runtime *runtime;
    sluice_store *store;
    sluice_store_options options; /* to be changed between kit_new and kit_open */
    sl_port *port;
    uint64_t correlation;
    sluice_cause cause; /* of the latest error reply, or of open */
    const char *vfs;
} store_kit;

/* Makes the directory and the runtime; no store yet. */
void kit_new(store_kit *kit);
void kit_open(store_kit *kit);
sluice_err kit_try_open(store_kit *kit);
void kit_close(store_kit *kit);
/* Closes what is open and removes the directory. */
void kit_free(store_kit *kit);

/* ---- requests ---- */

sluice_msg *kit_request(void);
/* Adds a statement; params are copied. Returns it, to set a guard. */
Sluice__V1__Statement *kit_add(sluice_msg *request, const char *sql, size_t n_params, const sluice_value *params);
/* Makes it one that wants a receipt. */
void kit_identify(sluice_msg *request, uint8_t client, uint64_t sequence, uint32_t attempt, uint64_t ack_upto);
/* Sends it to the writer; returns the correlation. It leaves with the next kit_receive. timeout_ms 0: none. */
uint64_t kit_send(store_kit *kit, sluice_msg *request, unsigned timeout_ms);
/* The next answer, at most 20 s away; fails the test if none comes. */
sluice_msg *kit_receive(store_kit *kit);
/* OK, or the error that a reply carries (then also in kit->cause). */
sluice_err kit_outcome(store_kit *kit, const sluice_msg *reply);
const Sluice__V1__WriteReply *kit_reply(const sluice_msg *reply);

/* One statement without parameters, answered. */
sluice_err kit_exec(store_kit *kit, const char *sql);
/* kit_send + kit_receive + kit_outcome; *reply may be NULL. */
sluice_err kit_ask(store_kit *kit, sluice_msg *request, sluice_msg **reply);
/* The first value of a query's first row through a reader; the query must give an integer. */
int64_t kit_integer(store_kit *kit, const char *sql);
sluice_store_stats kit_stats(store_kit *kit);

#endif
