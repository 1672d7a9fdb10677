/* SPDX-License-Identifier: MIT */
/* A scripted server; see fake_server.h. */
#include "support/fake_server.h"

#include "support/support.h"

#include "port.h"
#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/write.pb-c.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

struct fake_server {
    void *context, *socket;
    sl_registry *registry;
    char url[256];
};

fake_server *fake_server_open(const char *url) {
    fake_server *server = calloc(1, sizeof *server);
    if (server == NULL) fail_msg("out of memory");
    server->context = zmq_ctx_new();
    server->registry = sl_registry_new();
    /* The address of a server that has just gone may be taken for a moment longer. */
    for (int i = 0;; i++) {
        server->socket = zmq_socket(server->context, ZMQ_ROUTER);
        int zero = 0;
        zmq_setsockopt(server->socket, ZMQ_LINGER, &zero, sizeof zero);
        if (zmq_bind(server->socket, url != NULL ? url : "tcp://127.0.0.1:*") == 0) break;
        if (errno != EADDRINUSE || i == 200) fail_msg("bind %s: %s", url, zmq_strerror(errno));
        zmq_close(server->socket);
        zmq_poll(NULL, 0, 5);
    }
    size_t size = sizeof server->url;
    zmq_getsockopt(server->socket, ZMQ_LAST_ENDPOINT, server->url, &size);
    return server;
}

const char *fake_server_url(const fake_server *server) { return server->url; }

void fake_server_close(fake_server **server) {
    fake_server *self = *server;
    if (self == NULL) return;
    *server = NULL;
    zmq_close(self->socket);
    zmq_ctx_term(self->context);
    sl_registry_destroy(&self->registry);
    free(self);
}

bool fake_server_recv(fake_server *server, int timeout_ms, fake_request *out) {
    memset(out, 0, sizeof *out);
    zmq_setsockopt(server->socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    int peer_size = zmq_recv(server->socket, out->peer, sizeof out->peer, 0);
    if (peer_size < 0) return false;
    out->peer_size = (size_t)peer_size;
    zmq_msg_t envelope, body;
    zmq_msg_init(&envelope);
    zmq_msg_init(&body);
    if (zmq_msg_recv(&envelope, server->socket, 0) < 0 || zmq_msg_recv(&body, server->socket, 0) < 0)
        fail_msg("a message of less than two frames");
    if (zmq_msg_more(&body)) fail_msg("a message of more than two frames");
    sl_limits limits;
    sl_limits_init(&limits, 64u << 20);
    sl_address address = {.to = ""};
    uint64_t correlation = 0;
    int kind = 0;
    sluice_cause cause;
    assert_ok(sl_wire_decode(server->registry, zmq_msg_data(&envelope), zmq_msg_size(&envelope), zmq_msg_data(&body),
                             zmq_msg_size(&body), &limits, sl_now_ns(), &out->msg, &address, &correlation, &kind,
                             &cause),
              cause);
    snprintf(out->to, sizeof out->to, "%s", address.to);
    zmq_msg_close(&envelope);
    zmq_msg_close(&body);
    return true;
}

void fake_request_fini(fake_request *request) { sluice_msg_destroy(&request->msg); }

void fake_server_raw(fake_server *server, const fake_request *request, const void *envelope, size_t envelope_size,
                     const void *body, size_t body_size) {
    zmq_send(server->socket, request->peer, request->peer_size, ZMQ_SNDMORE);
    zmq_send(server->socket, envelope, envelope_size, body != NULL ? ZMQ_SNDMORE : 0);
    if (body != NULL) zmq_send(server->socket, body, body_size, 0);
}

static void send_body(fake_server *server, const fake_request *request, const ProtobufCMessage *body, bool is_error) {
    Sluice__V1__Envelope envelope = SLUICE__V1__ENVELOPE__INIT;
    envelope.version = SL_WIRE_VERSION;
    envelope.type = (char *)(uintptr_t)body->descriptor->name;
    envelope.correlation = request->msg->correlation;
    envelope.kind = is_error ? SLUICE__V1__KIND__KIND_ERROR : SLUICE__V1__KIND__KIND_REPLY;
    uint8_t head[SL_WIRE_ENVELOPE_MAX];
    size_t head_size = sluice__v1__envelope__pack(&envelope, head);
    size_t size = protobuf_c_message_get_packed_size(body);
    uint8_t *bytes = malloc(size + 1);
    protobuf_c_message_pack(body, bytes);
    fake_server_raw(server, request, head, head_size, bytes, size);
    free(bytes);
}

void fake_server_body(fake_server *server, const fake_request *request, const ProtobufCMessage *body) {
    send_body(server, request, body, false);
}

void fake_server_write_reply(fake_server *server, const fake_request *request, uint64_t changes, bool replayed) {
    Sluice__V1__StatementResult result = SLUICE__V1__STATEMENT_RESULT__INIT;
    result.changes = changes;
    Sluice__V1__StatementResult *results[] = {&result};
    Sluice__V1__WriteReply reply = SLUICE__V1__WRITE_REPLY__INIT;
    reply.commit_number = 7;
    reply.replayed = replayed;
    reply.n_results = 1;
    reply.results = results;
    send_body(server, request, &reply.base, false);
}

void fake_server_error(fake_server *server, const fake_request *request, sluice_err code, const char *text) {
    Sluice__V1__Error error = SLUICE__V1__ERROR__INIT;
    error.code = (uint32_t)code;
    error.text = (char *)(uintptr_t)text;
    error.retry_after_ms = code == SLUICE_OVERLOADED ? 20 : 0;
    send_body(server, request, &error.base, true);
}
