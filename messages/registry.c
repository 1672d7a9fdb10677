/* SPDX-License-Identifier: MIT */
/* The registry: message types by full protobuf name.
 *
 * A hash table of lists that only ever grow at their heads. A reader loads a head with acquire and walks; an adder
 * publishes by compare-and-swap of the head, and looks again when it lost the race, so a name never enters twice.
 */
#include "codec.h"

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/table.pb-c.h"
#include "sluice/v1/write.pb-c.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define N_LISTS 256u

typedef struct entry entry;
struct entry {
    const ProtobufCMessageDescriptor *type;
    entry *next;
};

struct sl_registry {
    _Atomic(entry *) lists[N_LISTS];
};

static const ProtobufCMessageDescriptor *const own_types[] = {
    &sluice__v1__error__descriptor,
    &sluice__v1__value__descriptor,
    &sluice__v1__table__descriptor,
    &sluice__v1__write_request__descriptor,
    &sluice__v1__write_reply__descriptor,
    &sluice__v1__transaction_begin__descriptor,
    &sluice__v1__transaction_begun__descriptor,
    &sluice__v1__transaction_end__descriptor,
    &sluice__v1__query_request__descriptor,
    &sluice__v1__query_reply__descriptor,
    &sluice__v1__ping__descriptor,
    &sluice__v1__pong__descriptor,
    &sluice__v1__goodbye__descriptor,
    &sluice__v1__goodbye_reply__descriptor,
    &sluice__v1__status_request__descriptor,
    &sluice__v1__status_reply__descriptor,
    &sluice__v1__readers_request__descriptor,
    &sluice__v1__readers_reply__descriptor,
    &sluice__v1__checkpoint_now__descriptor,
    &sluice__v1__checkpoint_done__descriptor,
    &sluice__v1__backup_request__descriptor,
    &sluice__v1__backup_reply__descriptor,
    &sluice__v1__checkpoint_request__descriptor,
    &sluice__v1__checkpoint_reply__descriptor,
    &sluice__v1__gate_close__descriptor,
    &sluice__v1__gate_closed__descriptor,
    &sluice__v1__gate_open__descriptor,
};

/* FNV-1a. Source: Fowler, Noll, Vo, draft-eastlake-fnv. */
static unsigned list_of(const char *name) {
    uint32_t hash = 2166136261u;
    for (const unsigned char *at = (const unsigned char *)name; *at != 0; at++) hash = (hash ^ *at) * 16777619u;
    return (hash ^ (hash >> 16)) % N_LISTS;
}

static const ProtobufCMessageDescriptor *find_from(const entry *at, const entry *end, const char *name) {
    for (; at != end; at = at->next)
        if (strcmp(at->type->name, name) == 0) return at->type;
    return NULL;
}

sl_registry *sl_registry_new(void) {
    sl_registry *registry = malloc(sizeof *registry);
    if (registry == NULL) return NULL;
    for (size_t i = 0; i < N_LISTS; i++) atomic_init(&registry->lists[i], NULL);
    for (size_t i = 0; i < sizeof own_types / sizeof own_types[0]; i++)
        if (sl_registry_add(registry, own_types[i]) != SLUICE_OK) {
            sl_registry_destroy(&registry);
            return NULL;
        }
    return registry;
}

void sl_registry_destroy(sl_registry **registry) {
    if (registry == NULL || *registry == NULL) return;
    for (size_t i = 0; i < N_LISTS; i++) {
        entry *at = atomic_load_explicit(&(*registry)->lists[i], memory_order_acquire);
        while (at != NULL) {
            entry *next = at->next;
            free(at);
            at = next;
        }
    }
    free(*registry);
    *registry = NULL;
}

sluice_err sl_registry_add(sl_registry *registry, const ProtobufCMessageDescriptor *type) {
    if (type == NULL || type->magic != PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC || type->name == NULL ||
        type->name[0] == '\0' || strlen(type->name) > SL_WIRE_TYPE_MAX)
        return SLUICE_INVALID;
    _Atomic(entry *) *list = &registry->lists[list_of(type->name)];
    entry *fresh = malloc(sizeof *fresh);
    if (fresh == NULL) return SLUICE_NOMEM;
    fresh->type = type;
    const entry *looked_at = NULL; /* the list from here on is known not to hold the name */
    entry *head = atomic_load_explicit(list, memory_order_acquire);
    for (;;) {
        const ProtobufCMessageDescriptor *there = find_from(head, looked_at, type->name);
        if (there != NULL) {
            free(fresh);
            return there == type ? SLUICE_OK : SLUICE_EXISTS;
        }
        looked_at = head;
        fresh->next = head;
        if (atomic_compare_exchange_weak_explicit(list, &head, fresh, memory_order_acq_rel, memory_order_acquire))
            return SLUICE_OK;
    }
}

const ProtobufCMessageDescriptor *sl_registry_find(const sl_registry *registry, const char *name) {
    return find_from(atomic_load_explicit(&registry->lists[list_of(name)], memory_order_acquire), NULL, name);
}
