/* SPDX-License-Identifier: MIT */
/* The gateway's keys: who a message comes from, what he may do, and what happens when the list changes.
 *
 * Thread: the gateway's dispatcher, but for load and drop (the host's, before the actor starts or after it failed to).
 *
 *     load (host) --> open (ZAP handler, then CURVE endpoint) --(use: another keyring)*--> close
 *
 * Invariants
 *  1. The ZAP handler is bound before the CURVE endpoint exists, and closes after it. In between nobody is let
 *     in unasked.
 *  2. A peer's standing points into the keyring of its round. Whoever takes a keyring away first gives every peer that
 *     stays a standing in the new one; a peer without a standing gets one with its next message.
 *  3. The key is compared with every message, not only with a connection's first: a descriptor and a routing id may
 *     both come to a new owner.
 */
#include "gateway_internal.h"

#include <string.h>

#define DOMAIN "sluice"

/* ---- the host's part ---- */

sluice_err sl_gateway_keys_load(sluice_gateway *self, sluice_cause *cause) {
    const char *directory = self->options.keys_directory;
    unsigned n_refused = 0;
    sluice_err err = sl_server_secret_load(directory, self->secret_key, cause);
    if (err == SLUICE_OK) err = sl_keyring_load(directory, &self->keyring, &n_refused, cause);
    if (err != SLUICE_OK || n_refused == 0) return err;
    /* At the start somebody is there to see it. */
    return cause != NULL ? cause->code : SLUICE_INVALID;
}

void sl_gateway_keys_drop(sluice_gateway *self) {
    explicit_bzero(self->secret_key, sizeof self->secret_key);
    sl_keyring_destroy(&self->keyring);
}

/* ---- open and close ---- */

static void on_question(sluice_actor *actor, void *socket, void *context) {
    sluice_gateway *self = context;
    (void)actor, (void)socket;
    sl_zap_answer(self->zap);
}

sluice_err sl_gateway_keys_open(sluice_gateway *self, sluice_actor *actor, const sl_endpoint_options *options,
                                sluice_cause *cause) {
    sl_endpoint_options with_key = *options;
    with_key.secret_key = self->secret_key;
    with_key.zap_domain = DOMAIN;
    sluice_err err = sl_zap_open(options->zmq_context, DOMAIN, self->keyring, &self->zap, cause);
    if (err == SLUICE_OK && sl_actor_watch_socket(actor, sl_zap_socket(self->zap), on_question, self) != SLUICE_OK)
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for the gateway's sockets");
    if (err == SLUICE_OK) err = sl_endpoint_open(&with_key, &self->curve, cause); /* invariant 1 */
    explicit_bzero(self->secret_key, sizeof self->secret_key);
    if (err != SLUICE_OK) sl_gateway_keys_close(self, actor, 0);
    self->round = 1;
    return err;
}

void sl_gateway_keys_close(sluice_gateway *self, sluice_actor *actor, int linger_ms) {
    sl_endpoint_close(&self->curve, linger_ms);
    if (self->zap != NULL) sl_actor_unwatch_socket(actor, sl_zap_socket(self->zap));
    sl_zap_close(&self->zap);
    sl_keyring_destroy(&self->keyring);
}

/* ---- who is it ---- */

bool sl_gateway_recognise(const sluice_gateway *self, const sl_incoming *incoming, unsigned *rights,
                          uint8_t user[SL_USER_SIZE]) {
    if (sl_peer_endpoint(incoming->peer) != self->curve) {
        *rights = SLUICE_RIGHT_ALL;
        memset(user, 0, SL_USER_SIZE);
        return true;
    }
    if (incoming->key == NULL) return false;
    sl_standing *standing = sl_peer_standing(incoming->peer);
    const sl_key *key = standing->round == self->round ? standing->who : NULL;
    if (key == NULL || strcmp(key->public_key, incoming->key) != 0) { /* invariant 3 */
        key = sl_keyring_find(self->keyring, incoming->key);
        if (key == NULL) return false;
        *standing = (sl_standing){.round = self->round, .who = key};
    }
    *rights = key->rights;
    memcpy(user, key->user, SL_USER_SIZE);
    return true;
}

static bool is_listed(void *context, sl_peer *peer) {
    const sluice_gateway *self = context;
    sl_standing *standing = sl_peer_standing(peer);
    if (standing->round == 0) return true; /* its next message will be asked */
    const sl_key *old = standing->who, *key = sl_keyring_find(self->keyring, old->public_key);
    *standing = (sl_standing){.round = key != NULL ? self->round : 0, .who = key};
    return key != NULL;
}

unsigned sl_gateway_keys_use(sluice_gateway *self, sl_keyring **keyring) {
    sl_keyring *old = self->keyring;
    self->keyring = *keyring;
    *keyring = NULL;
    self->round++;
    sl_zap_use(self->zap, self->keyring);
    unsigned n = sl_endpoint_review(self->curve, is_listed, self); /* invariant 2: old is still there */
    sl_keyring_destroy(&old);
    return n;
}
