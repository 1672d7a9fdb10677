/* SPDX-License-Identifier: MIT */
/* The gateway's table of requests in flight: who asked, under which number of his own, and until when.
 *
 * Thread: the gateway's dispatcher.
 *
 * A forwarded request carries the gateway's own correlation: slot number in the low 32 bits, the slot's generation in
 * the 31 above. An answer finds its slot without a search, and an answer that comes after its request was given up finds
 * another generation there and is dropped.
 *
 * Invariants
 *  1. n_used entries have a peer; each of them is counted in its peer's in_flight.
 *  2. A slot's generation changes whenever it is freed; it is never 0, so no key is 0.
 *  3. capacity never exceeds limit.
 */
#include "gateway_internal.h"

#include <stdlib.h>
#include <string.h>

#define NO_SLOT UINT32_MAX
#define GENERATION_MASK 0x7fffffffu

void sl_pending_init(sl_pending *self, uint32_t limit) {
    *self = (sl_pending){.limit = limit, .first_free = NO_SLOT};
}

static bool grow(sl_pending *self) {
    if (self->capacity >= self->limit) return false;
    uint32_t capacity = self->capacity == 0 ? 64 : self->capacity * 2;
    if (capacity > self->limit || capacity < self->capacity) capacity = self->limit;
    sl_pending_entry *entries = realloc(self->entries, capacity * sizeof *entries);
    if (entries == NULL) return false;
    for (uint32_t i = self->capacity; i < capacity; i++)
        entries[i] = (sl_pending_entry){.generation = 1, .next_free = i + 1 < capacity ? i + 1 : self->first_free};
    self->first_free = self->capacity;
    self->entries = entries;
    self->capacity = capacity;
    return true;
}

sluice_err sl_pending_add(sl_pending *self, sl_peer *peer, uint64_t correlation, int64_t deadline_ns, bool query,
                          uint64_t *key) {
    if (self->n_used >= self->limit) return SLUICE_OVERLOADED;
    if (self->first_free == NO_SLOT && !grow(self)) return SLUICE_NOMEM;
    uint32_t slot = self->first_free;
    sl_pending_entry *entry = &self->entries[slot];
    self->first_free = entry->next_free;
    entry->peer = sl_peer_hold(peer);
    entry->correlation = correlation;
    entry->deadline_ns = deadline_ns;
    entry->query = query;
    self->n_used++;
    ++*sl_peer_in_flight(peer);
    *key = (uint64_t)entry->generation << 32 | slot;
    return SLUICE_OK;
}

static void take(sl_pending *self, uint32_t slot, sl_pending_entry *out) {
    sl_pending_entry *entry = &self->entries[slot];
    *out = *entry;
    --*sl_peer_in_flight(entry->peer);
    entry->peer = NULL;
    entry->generation = (entry->generation + 1) & GENERATION_MASK;
    if (entry->generation == 0) entry->generation = 1;
    entry->next_free = self->first_free;
    self->first_free = slot;
    self->n_used--;
}

bool sl_pending_take(sl_pending *self, uint64_t key, sl_pending_entry *out) {
    uint32_t slot = (uint32_t)key;
    if (slot >= self->capacity || self->entries[slot].peer == NULL || self->entries[slot].generation != key >> 32)
        return false;
    take(self, slot, out);
    return true;
}

uint64_t sl_pending_original(const sl_pending *self, uint64_t key) {
    uint32_t slot = (uint32_t)key;
    bool known = slot < self->capacity && self->entries[slot].peer != NULL && self->entries[slot].generation == key >> 32;
    return known ? self->entries[slot].correlation : 0;
}

bool sl_pending_take_expired(sl_pending *self, int64_t now_ns, uint32_t *position, sl_pending_entry *out) {
    for (; *position < self->capacity; ++*position) {
        const sl_pending_entry *entry = &self->entries[*position];
        if (entry->peer == NULL || entry->deadline_ns >= now_ns) continue;
        take(self, *position, out);
        return true;
    }
    return false;
}

void sl_pending_fini(sl_pending *self) {
    uint32_t position = 0;
    sl_pending_entry entry;
    while (sl_pending_take_expired(self, INT64_MAX, &position, &entry)) sl_peer_drop(&entry.peer);
    free(self->entries);
    *self = (sl_pending){.first_free = NO_SLOT};
}
