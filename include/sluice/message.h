/* SPDX-License-Identifier: MIT */
/* Messages: protobuf objects with one owner at a time.
 *
 * A message is a body of a protobuf type plus a header (who sent it, to whom, what it answers, until when it is
 * wanted). Body and all the body points at live in the message's own arena, so destroying the message frees
 * everything at once. Inside the process the object itself moves; it is packed only when it leaves the process.
 *
 * Threads: a message belongs to one thread at a time. Handing it over (tell, ask, reply) nulls the caller's pointer.
 */
#ifndef SLUICE_MESSAGE_H
#define SLUICE_MESSAGE_H

#include <sluice/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As in <protobuf-c/protobuf-c.h>, which Sluice's headers do not include. */
struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

typedef struct sluice_msg sluice_msg;

/* Makes a message with an initialised, empty body of `type`. Keeps: type (generated code, static).
 * Gives: *out. Errors: NOMEM. Threads: any. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_msg_new(const struct ProtobufCMessageDescriptor *type, sluice_msg **out);
/* Frees a message with its body. Takes NULL and pointer to NULL; nulls the pointer. */
SLUICE_API void sluice_msg_destroy(sluice_msg **msg);

/* The body, to be cast to the generated struct. Valid as long as the message. */
SLUICE_API void *sluice_msg_body(const sluice_msg *msg);
/* Tells whether the body is of `type`. */
SLUICE_API bool sluice_msg_is(const sluice_msg *msg, const struct ProtobufCMessageDescriptor *type);
/* The full protobuf name of the body's type, e.g. "sluice.v1.WriteRequest". */
SLUICE_API const char *sluice_msg_type_name(const sluice_msg *msg);
/* The sender's pid, 0 if it has none. */
SLUICE_API sluice_pid sluice_msg_from(const sluice_msg *msg);
/* Tells whether the sender waits for a reply. */
SLUICE_API bool sluice_msg_is_ask(const sluice_msg *msg);

/* What the sender of a message may do. All rights within the process, and for clients of the same user by ipc; for
 * clients with a key what that key was given. An actor that acts for others asks before it does. */
enum {
    SLUICE_RIGHT_READ = 1u << 0,
    SLUICE_RIGHT_WRITE = 1u << 1,
    SLUICE_RIGHT_ADMIN = 1u << 2, /* tables, indexes, views, triggers; ANALYZE, REINDEX */
    SLUICE_RIGHT_ALL = SLUICE_RIGHT_READ | SLUICE_RIGHT_WRITE | SLUICE_RIGHT_ADMIN,
};
/* The sender's rights, a SLUICE_RIGHT_ mask. */
SLUICE_API unsigned sluice_msg_rights(const sluice_msg *msg);

/* Allocates in the message's arena, aligned for any type, not zeroed; freed with the message. NULL if out of memory. */
SLUICE_API void *sluice_msg_alloc(sluice_msg *msg, size_t size);
/* Copies a string, or `size` bytes, into the message's arena. NULL if out of memory. */
SLUICE_API char *sluice_msg_strdup(sluice_msg *msg, const char *text);
SLUICE_API void *sluice_msg_memdup(sluice_msg *msg, const void *data, size_t size);

#ifdef __cplusplus
}
#endif
#endif
