/* SPDX-License-Identifier: MIT */
/* The ZAP handler: says which public keys may come in by the CURVE endpoints of its ZeroMQ context.
 *
 * ZeroMQ asks it once for each connection, during the handshake; while nobody answers, nobody comes in.
 * Source: rfc.zeromq.org/spec/27 (ZAP). Threads: one at a time (the gateway actor's dispatcher).
 */
#ifndef SL_ZAP_H
#define SL_ZAP_H

#include "keyring.h"

typedef struct sl_zap sl_zap;

/* Binds the handler. One context has one: the endpoint's name is fixed by the RFC.
 * Borrows: zmq_context. Keeps: keyring (until sl_zap_use gives another), domain. Gives: *out.
 * Errors: EXISTS (somebody in this context answers already), NOMEM, SYSTEM. */
SLUICE_NODISCARD sluice_err sl_zap_open(void *zmq_context, const char *domain, const sl_keyring *keyring, sl_zap **out,
                                        sluice_cause *cause);
/* From now on the CURVE endpoints of the context let nobody in. NULL-safe, nulls the pointer. */
void sl_zap_close(sl_zap **zap);
void sl_zap_use(sl_zap *zap, const sl_keyring *keyring);
/* The socket to watch. */
void *sl_zap_socket(const sl_zap *zap);
/* Answers all that is asked now. */
void sl_zap_answer(sl_zap *zap);

typedef struct sl_zap_counters {
    uint64_t allowed;
    uint64_t refused; /* unknown key, other mechanism or domain, or not the RFC's form */
} sl_zap_counters;
const sl_zap_counters *sl_zap_counters_of(const sl_zap *zap);

#endif
