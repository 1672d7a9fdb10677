/* SPDX-License-Identifier: MIT */
/* The way to a store in this process: a port. The request object itself moves to the actor and comes back turned. */
#include "transport.h"

#include "lend.h"
#include "port.h"

#include <stdlib.h>
#include <string.h>

typedef struct inproc {
    sl_transport base;
    sl_port *port;
    sluice_runtime *runtime;
    char writer[64];       /* name of the actor most is sent to, */
    sluice_pid writer_pid; /* and its pid; 0: to be looked up. A pool's member is looked up each time. */
    sl_lender *lender;     /* local leases; NULL: none are wanted, or offered, or the store has closed */
    unsigned home;         /* where reads begin to look for a free connection */
} inproc;

static inproc *self_of(sl_transport *transport) { return (inproc *)transport; }

static sluice_err inproc_send(sl_transport *transport, sluice_msg **msg, const char *to, int64_t now_ns) {
    (void)now_ns;
    inproc *self = self_of(transport);
    if (strcmp(to, self->writer) == 0) {
        if (self->writer_pid != 0) {
            sluice_err err = sl_port_send(self->port, self->writer_pid, msg);
            if (err != SLUICE_NO_ACTOR) return err;
        }
        self->writer_pid = sluice_whereis(self->runtime, to); /* the store was opened again, perhaps */
        return self->writer_pid != 0 ? sl_port_send(self->port, self->writer_pid, msg) : SLUICE_NO_ACTOR;
    }
    sluice_pid pid = sluice_whereis(self->runtime, to);
    return pid != 0 ? sl_port_send(self->port, pid, msg) : SLUICE_NO_ACTOR;
}

static void inproc_flush(sl_transport *transport) { sl_port_flush(self_of(transport)->port); }

static sl_arrival inproc_recv(sl_transport *transport, int64_t until_ns, sluice_msg **out, uint64_t *correlation,
                              sluice_cause *cause) {
    (void)correlation, (void)cause;
    switch (sl_port_recv(self_of(transport)->port, until_ns, out)) {
    case SLUICE_OK:
        return SL_ARRIVAL_MESSAGE;
    case SLUICE_CLOSED:
        return SL_ARRIVAL_CLOSED;
    default:
        return SL_ARRIVAL_NONE;
    }
}

static sl_transport_state inproc_state(sl_transport *transport) {
    (void)transport;
    return (sl_transport_state){.connected = true, .connections = 1};
}

static bool inproc_reachable(sl_transport *transport, const char *name) {
    return sluice_whereis(self_of(transport)->runtime, name) != 0;
}

static sluice_err inproc_register_type(sl_transport *transport, const ProtobufCMessageDescriptor *type) {
    (void)transport, (void)type; /* nothing is decoded here */
    return SLUICE_OK;
}

static void inproc_fds(const sl_transport *transport, int out[2]) {
    out[0] = sl_port_fd(((const inproc *)transport)->port);
    out[1] = -1;
}

static void lender_leave(inproc *self) {
    if (self->lender == NULL) return;
    self->lender->ops->leave(self->lender);
    sl_lender_drop(&self->lender);
}

static bool inproc_read_here(sl_transport *transport, sluice_msg *request, int64_t now_ns, sluice_msg *reply,
                             sluice_err *err, sluice_cause *cause) {
    inproc *self = self_of(transport);
    if (self->lender == NULL) return false;
    request->from = sl_port_pid(self->port);
    sl_lent lent = self->lender->ops->read(self->lender, self->home, request, now_ns, reply, err, cause);
    if (lent == SL_LENT_CLOSED) lender_leave(self);
    return lent == SL_LENT_DONE;
}

static void inproc_close(sl_transport *transport, int linger_ms) {
    (void)linger_ms;
    lender_leave(self_of(transport));
    sl_port_close(&self_of(transport)->port);
    free(transport);
}

static const sl_transport_ops inproc_ops = {
    .moves = true,
    .send = inproc_send,
    .flush = inproc_flush,
    .recv = inproc_recv,
    .state = inproc_state,
    .reachable = inproc_reachable,
    .register_type = inproc_register_type,
    .read_here = inproc_read_here,
    .fds = inproc_fds,
    .close = inproc_close,
};

sluice_err sl_transport_open_inproc(const sluice_client_options *options, const char *writer, const char *readers,
                                    sl_transport **out, sluice_cause *cause) {
    *out = NULL;
    if (options->runtime == NULL)
        return sluice_cause_set(cause, SLUICE_INVALID, "inproc:// needs options.runtime");
    sluice_pid pid = sluice_whereis(options->runtime, writer);
    if (pid == 0) return sluice_cause_set(cause, SLUICE_NO_ACTOR, "no actor \"%s\" in this runtime", writer);
    inproc *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a client");
    self->base.ops = &inproc_ops;
    self->runtime = options->runtime;
    self->writer_pid = pid;
    strncpy(self->writer, writer, sizeof self->writer - 1);
    sluice_err err = sl_port_open(options->runtime, &self->port, cause);
    if (err != SLUICE_OK) {
        free(self);
        return err;
    }
    if (options->local_lease) self->lender = sl_lend_find(options->runtime, readers);
    /* If no further connection can be opened, others may be free, and if not there is the message. */
    if (self->lender != NULL) (void)!self->lender->ops->join(self->lender, &self->home, NULL);
    *out = &self->base;
    return SLUICE_OK;
}
