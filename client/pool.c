/* SPDX-License-Identifier: MIT */
/* Message and request objects kept for reuse. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { KEPT_MESSAGES = 256, KEPT_REQUESTS = 256 };

sl_pool *sl_pool_new(void) {
    sl_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return NULL;
    pool->holds = 1;
    sl_sequences_init(&pool->sequences);
    return pool;
}

sl_pool *sl_pool_hold(sl_pool *pool) {
    pool->holds++;
    return pool;
}

static void free_kept(sl_pool *pool) {
    while (pool->free != NULL) {
        sluice_msg *msg = pool->free;
        pool->free = msg->next;
        msg->next = NULL;
        sluice_msg_destroy(&msg);
    }
    while (pool->free_requests != NULL) {
        sluice_request *request = pool->free_requests;
        pool->free_requests = request->next_free;
        free(request);
    }
    pool->n_free = pool->n_free_requests = 0;
}

void sl_pool_drop(sl_pool **pool) {
    sl_pool *self = *pool;
    *pool = NULL;
    if (self == NULL || --self->holds != 0) return;
    free_kept(self);
    sl_sequences_fini(&self->sequences);
    free(self);
}

void sl_pool_close(sl_pool **pool) {
    if (*pool == NULL) return;
    (*pool)->closed = true;
    free_kept(*pool);
    sl_pool_drop(pool);
}

sluice_msg *sl_pool_take(sl_pool *pool, const ProtobufCMessageDescriptor *type) {
    sluice_msg *msg = pool->free;
    if (msg != NULL) {
        pool->free = msg->next;
        pool->n_free--;
        msg->next = NULL;
    } else {
        msg = sl_msg_alloc(SIZE_MAX);
        if (msg == NULL) return NULL;
    }
    if (sl_msg_set_body(msg, type) != SLUICE_OK) sluice_msg_destroy(&msg);
    return msg;
}

void sl_pool_give(sl_pool *pool, sluice_msg **msg) {
    sluice_msg *self = *msg;
    if (self == NULL) return;
    if (pool->closed || pool->n_free >= KEPT_MESSAGES) {
        sluice_msg_destroy(msg);
        return;
    }
    *msg = NULL;
    sl_arena_reset(&self->arena); /* large blocks are not kept */
    self->arena.budget = SIZE_MAX;
    self->type = NULL;
    self->body = NULL;
    self->from = self->to = 0;
    self->correlation = 0;
    self->deadline_ns = self->arrived_ns = 0;
    self->flags = self->system = 0;
    self->argument = 0;
    self->charge = 0;
    self->source = 0;
    self->shared = self->followed = false;
    self->rights = SLUICE_RIGHT_ALL; /* it may have come back from a request of somebody with less */
    self->identity = (sl_identity){.sequence = 0};
    self->trace = (sl_trace){.flags = 0};
    self->next = pool->free;
    pool->free = self;
    pool->n_free++;
}

sluice_request *sl_pool_take_request(sl_pool *pool) {
    sluice_request *request = pool->free_requests;
    if (request == NULL) return calloc(1, sizeof *request);
    pool->free_requests = request->next_free;
    pool->n_free_requests--;
    memset(request, 0, sizeof *request);
    return request;
}

void sl_pool_give_request(sl_pool *pool, sluice_request **request) {
    sluice_request *self = *request;
    *request = NULL;
    if (pool->closed || pool->n_free_requests >= KEPT_REQUESTS) {
        free(self);
        return;
    }
    self->next_free = pool->free_requests;
    pool->free_requests = self;
    pool->n_free_requests++;
}
