/* SPDX-License-Identifier: MIT */
/* A scripted server: a plain ROUTER that a test drives by hand, to see what a client sends and to answer as it likes,
 * late, wrongly or never. Threads: one at a time; most tests drive client and server on one thread.
 */
#ifndef SUPPORT_FAKE_SERVER_H
#define SUPPORT_FAKE_SERVER_H

#include "codec.h"

typedef struct fake_server fake_server;

/* One request as it came. */
typedef struct fake_request {
    uint8_t peer[255];
    size_t peer_size;
    sluice_msg *msg; /* destroyed by fake_request_fini */
    char to[64];
} fake_request;

/* Binds url (NULL: tcp://127.0.0.1:*). Fails the test if it cannot. */
fake_server *fake_server_open(const char *url);
const char *fake_server_url(const fake_server *server);
/* Ends all its connections and frees the address; open again with the same URL. Nulls the pointer. */
void fake_server_close(fake_server **server);

/* Waits at most timeout_ms for a request. */
bool fake_server_recv(fake_server *server, int timeout_ms, fake_request *out);
void fake_request_fini(fake_request *request);

/* Answers: a WriteReply with one result of `changes`, a QueryReply or Pong, an Error, any body, or raw frames. */
void fake_server_write_reply(fake_server *server, const fake_request *request, uint64_t changes, bool replayed);
void fake_server_error(fake_server *server, const fake_request *request, sluice_err code, const char *text);
void fake_server_body(fake_server *server, const fake_request *request, const ProtobufCMessage *body);
void fake_server_raw(fake_server *server, const fake_request *request, const void *envelope, size_t envelope_size,
                     const void *body, size_t body_size);

#endif
