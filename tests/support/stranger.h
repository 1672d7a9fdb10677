/* SPDX-License-Identifier: MIT */
/* Strangers at the door, for tests: plain DEALER sockets that send any frames, and raw sockets that speak as much or as
 * little ZMTP as a test wants. Nothing of Sluice's client is used. Threads: the test's own. */
#ifndef STRANGER_H
#define STRANGER_H

#include "support/support.h"

#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"

#define STRANGER_WAIT_MS 5000

/* ---- DEALER ---- */

/* Connects a DEALER (linger 0, receives wait at most STRANGER_WAIT_MS). */
void *stranger_dealer(void *zmq_context, const char *url);
/* The same with keys (NULLs: without), with keys and a routing id of its own choice, and with name and password. */
void *stranger_curve_dealer(void *zmq_context, const char *url, const char *public_key, const char *secret_key,
                            const char *server_key);
void *stranger_curve_dealer_as(void *zmq_context, const char *url, const char *public_key, const char *secret_key,
                               const char *server_key, const char *routing_id);
void *stranger_plain_dealer(void *zmq_context, const char *url, const char *name, const char *password);
/* Closes one, and what a failed test left open. */
void stranger_close(void *dealer);
void stranger_close_all(void);
/* Sends n frames as one message. */
void stranger_send(void *dealer, const void *const *frames, const size_t *sizes, size_t n);

/* An answer, unpacked. Freed with stranger_answer_free. */
typedef struct stranger_answer {
    Sluice__V1__Envelope *envelope;
    uint8_t *body;
    size_t body_size;
    Sluice__V1__Error *error; /* NULL unless the kind is ERROR */
} stranger_answer;

/* Receives one answer of two frames; fails the test if none comes. */
stranger_answer stranger_receive(void *dealer);
void stranger_answer_free(stranger_answer *answer);
/* True if nothing comes within wait_ms. */
bool stranger_is_silent(void *dealer, int wait_ms);
/* Receives an answer and asserts that it is this error with this correlation; its text is copied to text_out (256) if
 * that is not NULL. */
void stranger_expect_error(void *dealer, uint64_t correlation, sluice_err err, char *text_out);

/* An envelope with version 1, kind ASK, and a deadline of 5 s. Set the rest by hand. */
Sluice__V1__Envelope stranger_envelope(const char *type, const char *to, uint64_t correlation);
/* Packs envelope and body (may be NULL: an empty frame) and sends both. */
void stranger_ask(void *dealer, const Sluice__V1__Envelope *envelope, const ProtobufCMessage *body);
/* The same with a body of bytes. */
void stranger_ask_bytes(void *dealer, const Sluice__V1__Envelope *envelope, const void *body, size_t size);
/* Pings and waits for the Pong: the door is open and serves. */
void stranger_ping(void *dealer);

/* ---- raw sockets ---- */

/* Connects to tcp://127.0.0.1:PORT or ipc://PATH. Returns the descriptor. */
int stranger_connect(const char *url);
/* Sends all bytes. False: the other side has closed. */
bool stranger_write(int fd, const void *data, size_t size);
/* Says a ZMTP 3 greeting and, as a DEALER with the NULL mechanism, READY; waits for the same of the other side. */
void stranger_greet(int fd);
/* Sends one ZMTP 3 frame. */
bool stranger_frame(int fd, bool more, const void *data, size_t size);
/* Sends only the head of a long frame. */
bool stranger_frame_head(int fd, bool more, uint64_t size);
/* Reads and throws away until the other side closes. False: it has not within wait_ms. */
bool stranger_closes(int fd, int wait_ms);

/* Resident memory of this process, in bytes; 0 under a sanitizer, whose own memory would be counted. */
size_t stranger_resident(void);

#endif
