/* SPDX-License-Identifier: MIT */
/* The actor table: from a pid to the place that holds its mailbox's load and its exchange.
 *
 * Threads: any. Chunks are added under slots_lock and never freed while the runtime lives, so a lookup is two loads.
 * A pid is generation << 32 | index. A generation is odd while somebody lives in the slot and grows with every change,
 * so an old pid never finds a new tenant.
 *
 * Load accounting: a sender charges the slot before it queues; whoever takes the message out of circulation discharges
 * the same slot, even if its tenant has changed meanwhile. So a slot's load is always the sum of what is under way to
 * it, and is never reset.
 */
#include "runtime_internal.h"

static sl_slot *slot_at(const sluice_runtime *runtime, uint32_t index) {
    uint32_t chunk = index / SL_SLOTS_PER_CHUNK;
    if (chunk >= SL_CHUNKS) return NULL;
    sl_slot *slots = atomic_load_explicit(&runtime->chunks[chunk], memory_order_acquire);
    return slots != NULL ? &slots[index % SL_SLOTS_PER_CHUNK] : NULL;
}

/* Under slots_lock. */
static bool chunk_add(sluice_runtime *runtime) {
    uint32_t chunk = runtime->n_slots / SL_SLOTS_PER_CHUNK;
    if (chunk >= SL_CHUNKS) return false;
    sl_slot *slots = calloc(SL_SLOTS_PER_CHUNK, sizeof *slots);
    if (slots == NULL) return false;
    for (uint32_t i = SL_SLOTS_PER_CHUNK; i-- > 0;) {
        slots[i].next_free = runtime->free_slot;
        runtime->free_slot = runtime->n_slots + i;
    }
    runtime->n_slots += SL_SLOTS_PER_CHUNK;
    atomic_store_explicit(&runtime->chunks[chunk], slots, memory_order_release);
    return true;
}

sluice_pid sl_slot_take(sluice_runtime *runtime, uint32_t exchange, uint32_t max_messages, uint32_t max_bytes,
                        uint32_t share) {
    sluice_pid pid = 0;
    pthread_mutex_lock(&runtime->slots_lock);
    if (runtime->free_slot != UINT32_MAX || chunk_add(runtime)) {
        uint32_t index = runtime->free_slot;
        sl_slot *slot = slot_at(runtime, index);
        runtime->free_slot = slot->next_free;
        slot->actor = NULL;
        atomic_store_explicit(&slot->exchange, exchange, memory_order_relaxed);
        atomic_store_explicit(&slot->held, 0, memory_order_relaxed);
        atomic_store_explicit(&slot->max_messages, max_messages, memory_order_relaxed);
        atomic_store_explicit(&slot->max_bytes, max_bytes, memory_order_relaxed);
        atomic_store_explicit(&slot->share, share, memory_order_relaxed);
        uint32_t generation = atomic_load_explicit(&slot->generation, memory_order_relaxed) + 1;
        atomic_store_explicit(&slot->generation, generation, memory_order_release);
        pid = (sluice_pid)generation << 32 | index;
    }
    pthread_mutex_unlock(&runtime->slots_lock);
    return pid;
}

void sl_slot_release(sluice_runtime *runtime, sluice_pid pid) {
    uint32_t index = (uint32_t)pid;
    pthread_mutex_lock(&runtime->slots_lock);
    sl_slot *slot = slot_at(runtime, index);
    SL_REQUIRE(slot != NULL && slot->generation == (uint32_t)(pid >> 32));
    slot->actor = NULL;
    atomic_store_explicit(&slot->generation, (uint32_t)(pid >> 32) + 1, memory_order_release);
    slot->next_free = runtime->free_slot;
    runtime->free_slot = index;
    pthread_mutex_unlock(&runtime->slots_lock);
}

sl_slot *sl_slot_of(const sluice_runtime *runtime, sluice_pid pid) { return slot_at(runtime, (uint32_t)pid); }

sl_slot *sl_slot_find(const sluice_runtime *runtime, sluice_pid pid) {
    sl_slot *slot = slot_at(runtime, (uint32_t)pid);
    if (slot == NULL || atomic_load_explicit(&slot->generation, memory_order_acquire) != (uint32_t)(pid >> 32))
        return NULL;
    return (pid >> 32) % 2 == 1 ? slot : NULL;
}

/* One message is always taken, so that a single large one can arrive; the codec bounds it. */
static bool overfull(uint64_t load, size_t size, uint64_t max_messages, uint64_t max_bytes) {
    return SL_LOAD_MESSAGES(load) >= max_messages ||
           (SL_LOAD_MESSAGES(load) > 0 && SL_LOAD_BYTES(load) + size > max_bytes);
}

/* Charges the sender's share of a mailbox with these bounds. */
static bool charge_sender(const sluice_runtime *runtime, sluice_msg *msg, uint64_t delta, uint64_t max_messages,
                          uint64_t max_bytes, uint32_t share) {
    if (share == 0 || msg->from == 0 || msg->source != 0) return true;
    sl_slot *sender = sl_slot_of(runtime, msg->from);
    uint64_t before = atomic_fetch_add_explicit(&sender->sent, delta, memory_order_relaxed);
    uint64_t most = max_messages * share / 100;
    if (overfull(before, (size_t)SL_LOAD_BYTES(delta), most > 0 ? most : 1, max_bytes * share / 100)) {
        atomic_fetch_sub_explicit(&sender->sent, delta, memory_order_relaxed);
        return false;
    }
    msg->shared = true;
    return true;
}

sluice_err sl_slot_charge(const sluice_runtime *runtime, sl_slot *slot, sluice_msg *msg) {
    msg->charge = 0;
    msg->shared = false;
    if (msg->flags & (SL_MSG_CONTROL | SL_MSG_REPLY)) return SLUICE_OK;
    size_t size = sl_msg_size(msg);
    uint64_t delta = SL_LOAD_MESSAGE + size;
    uint64_t before = atomic_fetch_add_explicit(&slot->load, delta, memory_order_relaxed);
    uint32_t max_messages = atomic_load_explicit(&slot->max_messages, memory_order_relaxed);
    uint32_t max_bytes = atomic_load_explicit(&slot->max_bytes, memory_order_relaxed);
    if (overfull(before, size, max_messages, max_bytes) ||
        !charge_sender(runtime, msg, delta, max_messages, max_bytes,
                       atomic_load_explicit(&slot->share, memory_order_relaxed))) {
        atomic_fetch_sub_explicit(&slot->load, delta, memory_order_relaxed);
        return SLUICE_OVERLOADED;
    }
    msg->charge = size;
    return SLUICE_OK;
}

void sl_slot_discharge(sluice_runtime *runtime, sluice_msg *msg) {
    if (msg->charge == 0) return;
    uint64_t delta = SL_LOAD_MESSAGE + msg->charge;
    atomic_fetch_sub_explicit(&sl_slot_of(runtime, msg->to)->load, delta, memory_order_relaxed);
    if (msg->shared) atomic_fetch_sub_explicit(&sl_slot_of(runtime, msg->from)->sent, delta, memory_order_relaxed);
    msg->charge = 0;
    msg->shared = false;
}

void sl_actor_set_held(sluice_actor *self, uint32_t n) {
    atomic_store_explicit(&sl_slot_of(self->runtime, self->pid)->held, n, memory_order_relaxed);
}

uint32_t sl_actor_load(sluice_runtime *runtime, sluice_pid pid) {
    sl_slot *slot = sl_slot_find(runtime, pid);
    if (slot == NULL) return 0;
    uint64_t load = atomic_load_explicit(&slot->load, memory_order_relaxed);
    return SL_LOAD_MESSAGES(load) + atomic_load_explicit(&slot->held, memory_order_relaxed);
}

uint32_t sl_mailbox_depth(sluice_runtime *runtime, sluice_pid pid) {
    sl_slot *slot = sl_slot_find(runtime, pid);
    return slot != NULL ? SL_LOAD_MESSAGES(atomic_load_explicit(&slot->load, memory_order_relaxed)) : 0;
}
