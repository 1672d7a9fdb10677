/* SPDX-License-Identifier: MIT */
/* The way to a store in another process: a link. Messages are packed and stay here, to be sent again if need be. */
#include "transport.h"

#include "link.h"
#include "port.h"
#include "zpl.h"

#include <stdlib.h>
#include <string.h>

typedef struct remote {
    sl_transport base;
    sl_link *link;
    sl_registry *registry;
    bool changed; /* the connection may have changed, and nobody has looked yet */
} remote;

static remote *self_of(sl_transport *transport) { return (remote *)transport; }

static sluice_err remote_send(sl_transport *transport, sluice_msg **msg, const char *to, int64_t now_ns) {
    return sl_link_send(self_of(transport)->link, *msg, to, now_ns);
}

static void remote_flush(sl_transport *transport) { (void)transport; }

static sl_arrival remote_recv(sl_transport *transport, int64_t until_ns, sluice_msg **out, uint64_t *correlation,
                              sluice_cause *cause) {
    remote *self = self_of(transport);
    for (bool waited = false;; waited = true) {
        sluice_err err = sl_link_recv(self->link, self->registry, sl_now_ns(), out, correlation, cause);
        if (err == SLUICE_OK) return SL_ARRIVAL_MESSAGE;
        if (err != SLUICE_TIMEOUT) return SL_ARRIVAL_BAD;
        if (self->changed) return SL_ARRIVAL_CONNECTION;
        if (waited) return SL_ARRIVAL_NONE; /* room to send, perhaps: the caller tries, and comes back */
        unsigned seen = sl_link_wait(self->link, until_ns);
        if (seen == 0) return SL_ARRIVAL_NONE;
        if ((seen & SL_LINK_CONNECTION) != 0) self->changed = true;
    }
}

static sl_transport_state remote_state(sl_transport *transport) {
    remote *self = self_of(transport);
    self->changed = false;
    sl_link_state state = sl_link_poll_state(self->link);
    return (sl_transport_state){
        .connected = state.connected, .connections = state.connections, .problem = state.problem};
}

static bool remote_reachable(sl_transport *transport, const char *name) {
    (void)transport, (void)name; /* only the other side can know */
    return true;
}

static sluice_err remote_register_type(sl_transport *transport, const ProtobufCMessageDescriptor *type) {
    return sl_registry_add(self_of(transport)->registry, type);
}

static void remote_fds(const sl_transport *transport, int out[2]) {
    sl_link_fds(((const remote *)transport)->link, out);
}

static void remote_close(sl_transport *transport, int linger_ms) {
    remote *self = self_of(transport);
    sl_link_close(&self->link, linger_ms);
    sl_registry_destroy(&self->registry);
    free(self);
}

static const sl_transport_ops remote_ops = {
    .moves = false,
    .send = remote_send,
    .flush = remote_flush,
    .recv = remote_recv,
    .state = remote_state,
    .reachable = remote_reachable,
    .register_type = remote_register_type,
    .fds = remote_fds,
    .close = remote_close,
};

/* Opens the link, with keys if the options name any. */
static sluice_err open_link(const char *url, const sluice_client_options *options, sl_link_options *link_options,
                            sl_link **out, sluice_cause *cause) {
    if (options->server_key == NULL && options->key_file == NULL) return sl_link_open(link_options, out, cause);
    if (strncmp(url, "tcp://", 6) != 0)
        return sluice_cause_set(cause, SLUICE_INVALID,
                                "keys are for tcp://; who may use a socket file its directory says");
    if (options->server_key == NULL || options->key_file == NULL)
        return sluice_cause_set(cause, SLUICE_INVALID,
                                "the server's public key and the client's own pair belong together");
    char server_key[SL_KEY_TEXT_SIZE];
    sl_cert own;
    sluice_err err = sl_public_key_read(options->server_key, server_key, cause);
    if (err != SLUICE_OK) {
        (void)sluice_cause_wrap(cause, "the server's key");
        return err;
    }
    err = sl_cert_load_secret(options->key_file, &own, cause);
    link_options->server_key = server_key;
    link_options->public_key = own.public_key;
    link_options->secret_key = own.secret_key;
    if (err == SLUICE_OK) err = sl_link_open(link_options, out, cause);
    sl_cert_wipe(&own);
    return err;
}

sluice_err sl_transport_open_remote(const char *url, const sluice_client_options *options, sl_transport **out,
                                    sluice_cause *cause) {
    *out = NULL;
    sluice_err err = SLUICE_OK;
    remote *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a client");
    self->base.ops = &remote_ops;
    self->registry = sl_registry_new();
    if (self->registry == NULL) {
        err = sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a client");
        goto fail;
    }
    /* Room for all that may be in flight, so that a full pipe is the exception. */
    int hwm = options->max_inflight < 1000000 ? (int)options->max_inflight + 64 : 1000000;
    sl_link_options link_options = {
        .zmq_context = options->zmq_context,
        .url = url,
        .max_message_bytes = options->max_message_bytes,
        .send_hwm = hwm,
        .recv_hwm = hwm,
    };
    err = open_link(url, options, &link_options, &self->link, cause);
    if (err != SLUICE_OK) goto fail;
    *out = &self->base;
    return SLUICE_OK;
fail:
    remote_close(&self->base, 0);
    return err;
}
