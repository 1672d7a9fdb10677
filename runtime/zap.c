/* SPDX-License-Identifier: MIT */
/* The ZAP handler: a REP socket at the one address that ZeroMQ asks.
 *
 * Thread: that of the gateway actor, which owns it.
 *
 *     bound --(request -> 200 or 400)*--> closed
 *
 * A request: version, request id, domain, address, routing id, mechanism, credentials (for CURVE the 32 bytes of the
 * client's public key, proven to be its own by the handshake). An answer: version, request id, status, text, user id,
 * metadata. The user id is the key's text; ZeroMQ hands it out with each message of the connection.
 *
 * Invariants
 *  1. 200 is said only to mechanism CURVE, our own domain, and a key that the keyring lists. All else is 400.
 *  2. Every request gets one answer, so that the REP socket never stands still; one that cannot be sent (its asker has
 *     gone) is dropped by ZeroMQ.
 *  3. What is not the RFC's form is refused with the request id it came with, or with an empty one.
 *
 * Stop order: the endpoints of the domain close first; a handshake that comes between is refused (enforced domain).
 */
#include "zap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define ADDRESS "inproc://zeromq.zap.01"
#define VERSION "1.0"
#define N_FRAMES 7
#define FIELD_MAX 255

enum { FRAME_VERSION, FRAME_REQUEST_ID, FRAME_DOMAIN, FRAME_ADDRESS, FRAME_ROUTING_ID, FRAME_MECHANISM, FRAME_KEY };

struct sl_zap {
    void *socket;
    const char *domain;
    const sl_keyring *keyring;
    sl_zap_counters counters;
};

/* One field of a request; what is longer than FIELD_MAX says nothing we know and is kept with size SIZE_MAX. */
typedef struct field {
    size_t size;
    uint8_t data[FIELD_MAX];
} field;

sluice_err sl_zap_open(void *zmq_context, const char *domain, const sl_keyring *keyring, sl_zap **out,
                       sluice_cause *cause) {
    *out = NULL;
    sl_zap *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for the judge of keys");
    self->domain = domain;
    self->keyring = keyring;
    int zero = 0;
    self->socket = zmq_socket(zmq_context, ZMQ_REP);
    if (self->socket != NULL && zmq_setsockopt(self->socket, ZMQ_LINGER, &zero, sizeof zero) == 0 &&
        zmq_bind(self->socket, ADDRESS) == 0) {
        *out = self;
        return SLUICE_OK;
    }
    int code = errno;
    sl_zap_close(&self);
    if (code == EADDRINUSE)
        return sluice_cause_set(cause, SLUICE_EXISTS,
                                "keys are judged already in this ZeroMQ context (%s is taken): one "
                                "gateway with keys per context; give the runtime a context of its own",
                                ADDRESS);
    (void)sluice_cause_set(cause, SLUICE_SYSTEM, "cannot judge keys: %s", zmq_strerror(code));
    if (cause != NULL) cause->sys_errno = code;
    return SLUICE_SYSTEM;
}

void sl_zap_close(sl_zap **zap) {
    sl_zap *self = *zap;
    *zap = NULL;
    if (self == NULL) return;
    if (self->socket != NULL) {
        (void)zmq_unbind(self->socket, ADDRESS); /* the name is free at once; by the close alone, some time later */
        zmq_close(self->socket);
    }
    free(self);
}

void sl_zap_use(sl_zap *zap, const sl_keyring *keyring) { zap->keyring = keyring; }
void *sl_zap_socket(const sl_zap *zap) { return zap->socket; }
const sl_zap_counters *sl_zap_counters_of(const sl_zap *zap) { return &zap->counters; }

static bool says(const field *self, const char *text) {
    size_t size = strlen(text);
    return self->size == size && memcmp(self->data, text, size) == 0;
}

/* Receives one request. False: none is there. *n is the number of its frames. */
static bool receive(sl_zap *self, field fields[N_FRAMES], size_t *n) {
    *n = 0;
    for (bool more = true; more; ++*n) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, self->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return false;
        }
        more = zmq_msg_more(&frame) != 0;
        if (*n < N_FRAMES) {
            field *to = &fields[*n];
            to->size = zmq_msg_size(&frame);
            if (to->size > FIELD_MAX)
                to->size = SIZE_MAX;
            else if (to->size > 0)
                memcpy(to->data, zmq_msg_data(&frame), to->size);
        }
        zmq_msg_close(&frame);
    }
    return true;
}

/* Finds the entry of whoever asks to come in. NULL: refused, *why says why. */
static const sl_key *judge(const sl_zap *self, const field fields[N_FRAMES], size_t n, const char **why) {
    *why = "not a CURVE request of ZAP 1.0";
    if (n != N_FRAMES || !says(&fields[FRAME_VERSION], VERSION) || !says(&fields[FRAME_MECHANISM], "CURVE") ||
        fields[FRAME_KEY].size != SL_KEY_SIZE)
        return NULL;
    *why = "unknown domain";
    if (!says(&fields[FRAME_DOMAIN], self->domain)) return NULL;
    char text[SL_KEY_TEXT_SIZE];
    sl_key_text(fields[FRAME_KEY].data, text);
    *why = "unknown key";
    return sl_keyring_find(self->keyring, text);
}

static void send_frame(sl_zap *self, const void *data, size_t size, bool more) {
    /* Of a REP that has received, sending fails only for want of memory: then ZeroMQ's handshake time ends it. */
    (void)zmq_send(self->socket, data, size, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
}

void sl_zap_answer(sl_zap *zap) {
    field fields[N_FRAMES];
    size_t n;
    while (receive(zap, fields, &n)) {
        const char *why;
        const sl_key *key = judge(zap, fields, n, &why);
        const field *id = &fields[FRAME_REQUEST_ID];
        bool has_id = n > FRAME_REQUEST_ID && id->size <= FIELD_MAX;
        *(key != NULL ? &zap->counters.allowed : &zap->counters.refused) += 1;
        const char *status = key != NULL ? "200" : "400", *text = key != NULL ? "OK" : why;
        send_frame(zap, VERSION, strlen(VERSION), true);
        send_frame(zap, id->data, has_id ? id->size : 0, true);
        send_frame(zap, status, strlen(status), true);
        send_frame(zap, text, strlen(text), true);
        send_frame(zap, key != NULL ? key->public_key : "", key != NULL ? SL_KEY_TEXT_SIZE - 1 : 0, true);
        send_frame(zap, "", 0, false);
    }
}
