/* SPDX-License-Identifier: MIT */
/* Local leases: the connections a store lends to clients of its own process. Start and stop are part of the readers'
 * (reader.c). Threads: any, but where it says otherwise. */
#ifndef SL_LEASE_H
#define SL_LEASE_H

#include "store_internal.h"
#include "watch.h"

typedef struct sl_leases sl_leases;

/* Makes the lender and offers it in the runtime; no connection is opened before a client asks. Errors: NOMEM, EXISTS. */
SLUICE_NODISCARD sluice_err sl_leases_start(sluice_store *store, sl_leases **out, sluice_cause *cause);
/* Ends what runs, waits for it, and closes the connections; from then on reads go by message. Again: nothing. */
void sl_leases_end(sl_leases *leases);
/* After end: gives up the offer, if the runtime is still there, and the store's hold. Nulls the pointer, NULL-safe. */
void sl_leases_destroy(sl_leases **leases, sluice_runtime *runtime, const char *name);

/* Connections opened so far, and their watches. */
unsigned sl_leases_count(const sl_leases *leases);
sl_watch *sl_leases_watch(sl_leases *leases, unsigned index);
/* Adds what its connections counted. */
void sl_leases_add_stats(const sl_leases *leases, sluice_store_stats *stats);

#endif
