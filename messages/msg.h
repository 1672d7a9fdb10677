/* SPDX-License-Identifier: MIT */
/* The message object behind sluice_msg: header, body, arena. The public half is in <sluice/message.h>.
 *
 * Threads: one owner at a time. `next`, `charge` and `shared` belong to whoever holds the message in a queue.
 */
#ifndef SL_MSG_H
#define SL_MSG_H

#include <sluice/message.h>
#include <protobuf-c/protobuf-c.h>
#include "arena.h"

enum {
    SL_MSG_ASK = 1u << 0,     /* the sender waits for exactly one answer */
    SL_MSG_REPLY = 1u << 1,   /* answers the ask `correlation` of `to` */
    SL_MSG_ERROR = 1u << 2,   /* with REPLY: the body is a sluice.v1.Error */
    SL_MSG_CONTROL = 1u << 3, /* goes by the control lane: never dropped, never behind data */
    SL_MSG_SYSTEM = 1u << 4,  /* with CONTROL: for the runtime itself, `system` says what; no body */
};

/* Who asks, for exactly-once. sequence 0: no receipt is wanted. */
typedef struct sl_identity {
    uint8_t client[16];
    uint64_t sequence;
    uint64_t ack_upto;
    uint32_t attempt;
} sl_identity;

/* W3C trace context, level 1. All zero: none. Source: www.w3.org/TR/trace-context */
typedef struct sl_trace {
    uint8_t trace_id[16];
    uint8_t span_id[8];
    uint8_t flags;
} sl_trace;

struct sluice_msg {
    sluice_msg *next;
    const ProtobufCMessageDescriptor *type; /* NULL for SYSTEM */
    ProtobufCMessage *body;
    sluice_pid from, to;
    uint64_t correlation;
    int64_t deadline_ns; /* CLOCK_MONOTONIC of this machine; 0: none */
    int64_t arrived_ns;  /* when the receiver's dispatcher queued it */
    uint32_t flags;
    uint32_t system;     /* runtime's own code, with SYSTEM */
    uint64_t argument;   /* runtime's own operand, with SYSTEM */
    size_t charge;       /* bytes charged to the receiver's mailbox */
    uint64_t source;     /* with `from`, whose message it is: a gateway's name for one of its peers; 0: from's own */
    sl_identity identity;
    sl_trace trace;
    bool shared;         /* charged to its sender's share of the mailbox as well */
    bool followed;       /* as taken from a fair mailbox: its sender has more waiting behind it */
    uint8_t rights;      /* of the sender: SLUICE_RIGHT_ mask; all unless a gateway says less */
    uint8_t user[16];    /* fingerprint of the sender's key; zeros: this user, on this host */
    sl_arena arena;
};

/* Header and first block together stay within 1032 bytes, the largest size glibc keeps in a thread's own cache. */
#define SL_MSG_FIRST_BLOCK 752

/* Makes a message with no body yet (type NULL) and an arena budget in bytes (SIZE_MAX: none). NULL: out of memory. */
sluice_msg *sl_msg_alloc(size_t arena_budget);
/* As alloc, with a first block of at least `first_size` bytes: one allocation when the need is known beforehand. */
sluice_msg *sl_msg_alloc_sized(size_t first_size, size_t arena_budget);
/* Empties the arena and gives the message a fresh body of `type`; header fields stay. Errors: NOMEM (type and body
 * are NULL then). */
SLUICE_NODISCARD sluice_err sl_msg_set_body(sluice_msg *msg, const ProtobufCMessageDescriptor *type);
/* Makes the request `msg` the reply to itself: from and to change places, flags REPLY, no deadline (an answer does not
 * expire on its way), empty body of `type`, arena reused, so that a request and its answer cost one allocation. All the
 * request's data is gone. Errors: NOMEM (msg unchanged but without type and body). */
SLUICE_NODISCARD sluice_err sl_msg_turn(sluice_msg *msg, const ProtobufCMessageDescriptor *type);
/* As turn, with a sluice.v1.Error made from cause. Never fails: an Error fits the first block. With UNSUPPORTED it
 * names the wire versions we speak. */
void sl_msg_turn_error(sluice_msg *msg, const sluice_cause *cause);
/* Reads the sluice.v1.Error of an ERROR message back into a cause (may be NULL); returns its code. An Error that says
 * OK breaks the contract and is read as UNKNOWN. With UNSUPPORTED the text ends with the versions the peer speaks. */
sluice_err sl_msg_cause(const sluice_msg *msg, sluice_cause *cause);
/* Bytes a mailbox should charge for the message: header and the blocks its arena holds. */
size_t sl_msg_size(const sluice_msg *msg);

#endif
