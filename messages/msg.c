/* SPDX-License-Identifier: MIT */
/* The message object: one allocation holds the header and the first block of its arena. */
#include "msg.h"

#include "codec.h"
#include "sluice/v1/error.pb-c.h"
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Header first, then the arena's first block, aligned for any type. */
#define HEADER_SIZE ((sizeof(sluice_msg) + (SL_ARENA_ALIGN - 1)) & ~(size_t)(SL_ARENA_ALIGN - 1))

_Static_assert(HEADER_SIZE + SL_MSG_FIRST_BLOCK <= 1032, "a plain message no longer fits glibc's per-thread cache");
/* turn_error never fails because of this. */
_Static_assert(sizeof(Sluice__V1__Error) + SLUICE_CAUSE_TEXT_SIZE + 2 * SL_ARENA_ALIGN <= SL_MSG_FIRST_BLOCK,
               "an Error must fit the first block");

sluice_msg *sl_msg_alloc_sized(size_t first_size, size_t arena_budget) {
    if (first_size < SL_MSG_FIRST_BLOCK) first_size = SL_MSG_FIRST_BLOCK;
    sluice_msg *msg = malloc(HEADER_SIZE + first_size);
    if (msg == NULL) return NULL;
    memset(msg, 0, sizeof *msg);
    msg->rights = SLUICE_RIGHT_ALL;
    sl_arena_init(&msg->arena, (char *)msg + HEADER_SIZE, first_size, arena_budget);
    return msg;
}

sluice_msg *sl_msg_alloc(size_t arena_budget) { return sl_msg_alloc_sized(SL_MSG_FIRST_BLOCK, arena_budget); }

sluice_err sl_msg_set_body(sluice_msg *msg, const ProtobufCMessageDescriptor *type) {
    sl_arena_reset(&msg->arena);
    msg->type = NULL;
    msg->body = NULL;
    ProtobufCMessage *body = sl_arena_alloc(&msg->arena, type->sizeof_message);
    if (body == NULL) return SLUICE_NOMEM;
    protobuf_c_message_init(type, body);
    msg->type = type;
    msg->body = body;
    return SLUICE_OK;
}

sluice_err sl_msg_turn(sluice_msg *msg, const ProtobufCMessageDescriptor *type) {
    sluice_err err = sl_msg_set_body(msg, type);
    if (err != SLUICE_OK) return err;
    sluice_pid asker = msg->from;
    msg->from = msg->to;
    msg->to = asker;
    msg->flags = SL_MSG_REPLY;
    msg->deadline_ns = 0;
    return SLUICE_OK;
}

void sl_msg_turn_error(sluice_msg *msg, const sluice_cause *cause) {
    /* The first block holds it (asserted above), so neither turn nor memdup can fail. */
    (void)!sl_msg_turn(msg, &sluice__v1__error__descriptor);
    msg->flags |= SL_MSG_ERROR;
    Sluice__V1__Error *error = (Sluice__V1__Error *)msg->body;
    error->code = (uint32_t)cause->code;
    error->retry_after_ms = cause->retry_after_ms;
    error->sqlite_code = cause->sqlite_code;
    error->sys_errno = cause->sys_errno;
    error->statement = cause->statement >= 0 ? (uint32_t)cause->statement + 1u : 0u;
    if (cause->code == SLUICE_UNSUPPORTED) {
        error->version_min = SL_WIRE_VERSION_MIN;
        error->version_max = SL_WIRE_VERSION;
    }
    size_t size = strnlen(cause->text, sizeof cause->text - 1);
    char *text = sl_arena_alloc(&msg->arena, size + 1);
    if (text == NULL) return;
    memcpy(text, cause->text, size);
    text[size] = '\0';
    /* A cause may quote a client's bytes, or be cut within a character; the wire takes valid UTF-8 only. */
    sl_utf8_clean(text, size);
    error->text = text;
}

sluice_err sl_msg_cause(const sluice_msg *msg, sluice_cause *cause) {
    if (msg->type != &sluice__v1__error__descriptor)
        return sluice_cause_set(cause, SLUICE_INVALID, "the message is no error but a %s", sluice_msg_type_name(msg));
    const Sluice__V1__Error *error = (const Sluice__V1__Error *)msg->body;
    if (error->code == SLUICE_OK || error->code > INT32_MAX)
        return sluice_cause_set(cause, SLUICE_UNKNOWN, "the peer sent an error without a valid code");
    sluice_err code = (sluice_err)error->code;
    if (cause == NULL) return code;
    if (code == SLUICE_UNSUPPORTED && error->version_max != 0) {
        (void)sluice_cause_set(cause, code, "%s (the peer speaks wire versions %u to %u)", error->text,
                               error->version_min, error->version_max);
    } else {
        (void)sluice_cause_set(cause, code, "%s", error->text);
    }
    cause->retry_after_ms = error->retry_after_ms;
    cause->sqlite_code = error->sqlite_code;
    cause->sys_errno = error->sys_errno;
    if (error->statement != 0 && error->statement <= INT32_MAX) cause->statement = (int32_t)(error->statement - 1u);
    return code;
}

size_t sl_msg_size(const sluice_msg *msg) { return HEADER_SIZE + msg->arena.reserved; }

/* ---- the public half ---- */

sluice_err sluice_msg_new(const struct ProtobufCMessageDescriptor *type, sluice_msg **out) {
    *out = NULL;
    sluice_msg *msg = sl_msg_alloc(SIZE_MAX);
    if (msg == NULL) return SLUICE_NOMEM;
    sluice_err err = sl_msg_set_body(msg, type);
    if (err != SLUICE_OK) {
        sluice_msg_destroy(&msg);
        return err;
    }
    *out = msg;
    return SLUICE_OK;
}

void sluice_msg_destroy(sluice_msg **msg) {
    if (msg == NULL || *msg == NULL) return;
    sl_arena_fini(&(*msg)->arena);
    free(*msg);
    *msg = NULL;
}

void *sluice_msg_body(const sluice_msg *msg) { return msg->body; }

bool sluice_msg_is(const sluice_msg *msg, const struct ProtobufCMessageDescriptor *type) { return msg->type == type; }

const char *sluice_msg_type_name(const sluice_msg *msg) { return msg->type != NULL ? msg->type->name : ""; }

sluice_pid sluice_msg_from(const sluice_msg *msg) { return msg->from; }

unsigned sluice_msg_rights(const sluice_msg *msg) { return msg->rights; }
bool sluice_msg_is_ask(const sluice_msg *msg) { return (msg->flags & SL_MSG_ASK) != 0; }

void *sluice_msg_alloc(sluice_msg *msg, size_t size) { return sl_arena_alloc(&msg->arena, size); }

char *sluice_msg_strdup(sluice_msg *msg, const char *text) {
    return sl_arena_memdup(&msg->arena, text, strlen(text) + 1);
}

void *sluice_msg_memdup(sluice_msg *msg, const void *data, size_t size) {
    return sl_arena_memdup(&msg->arena, data, size);
}
