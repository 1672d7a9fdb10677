/* SPDX-License-Identifier: MIT */
/* A whole house for tests of clients: a runtime, a store in a fresh directory, a gateway on ipc and on plain loopback tcp.
 *
 * Everything fails the test that calls it if it cannot do its part. Threads: the test's.
 */
#ifndef HOUSE_H
#define HOUSE_H

#include "support/support.h"

enum { HOUSE_PATIENCE_MS = 20000, HOUSE_TRANSPORTS = 3 };

typedef struct house {
    char *directory, *path, *socket_directory;
    sluice_runtime *runtime;
    sluice_store_options options; /* to be changed between house_init and house_open */
    sluice_store *store;
    sluice_gateway *gateway;
    char urls[HOUSE_TRANSPORTS][256]; /* inproc, ipc, tcp */
} house;

/* Makes the directories and the runtime. */
void house_init(house *self);
/* Opens store and gateway. May be called again after house_close, at the same ipc address and another tcp port. */
void house_open(house *self);
void house_close(house *self);
/* Closes what is open and removes everything. */
void house_fini(house *self);

/* A client with receipts or without, and HOUSE_PATIENCE_MS for each call. */
sluice_client *house_client(house *self, const char *url, bool receipts);

/* One statement without parameters; asserts OK. */
void house_exec(sluice_client *client, const char *sql);
/* The first value of a query's first row. */
int64_t house_integer(sluice_client *client, const char *sql);
sluice_store_stats house_stats(const house *self);

#endif
