/* SPDX-License-Identifier: MIT */
/* The slot table: correlation ids that find their slot by index, a heap of due times, and two lists in order.
 *
 * A correlation id is [0][generation][index]. The generation counts every take, so an id is never used twice in a
 * client's life, and a late reply finds a slot of another id or none.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 16 };
#define CORRELATION_MASK (UINT64_MAX >> 1) /* the top bit is the runtime's */

void sl_slots_init(sl_slots *self, uint32_t max) {
    *self = (sl_slots){.max = max, .free = SL_SLOT_NONE};
    while ((uint64_t)1 << self->bits < max) self->bits++;
    self->active = self->ready = (sl_slot_list){.first = SL_SLOT_NONE, .last = SL_SLOT_NONE};
}

void sl_slots_fini(sl_slots *self) {
    free(self->at);
    free(self->heap);
    self->at = NULL;
    self->heap = NULL;
    self->n = self->n_heap = 0;
    self->free = SL_SLOT_NONE;
    self->active = self->ready = (sl_slot_list){.first = SL_SLOT_NONE, .last = SL_SLOT_NONE};
}

/* ---- lists ---- */

static void list_append(sl_slots *self, sl_slot_list *list, uint32_t index) {
    sl_slot *slot = &self->at[index];
    slot->previous = list->last;
    slot->next = SL_SLOT_NONE;
    if (list->last != SL_SLOT_NONE) self->at[list->last].next = index;
    else list->first = index;
    list->last = index;
    list->n++;
}

static void list_remove(sl_slots *self, sl_slot_list *list, uint32_t index) {
    sl_slot *slot = &self->at[index];
    if (slot->previous != SL_SLOT_NONE) self->at[slot->previous].next = slot->next;
    else list->first = slot->next;
    if (slot->next != SL_SLOT_NONE) self->at[slot->next].previous = slot->previous;
    else list->last = slot->previous;
    list->n--;
}

/* ---- heap ---- */

static void heap_put(sl_slots *self, uint32_t position, uint32_t index) {
    self->heap[position] = index;
    self->at[index].heap_at = position;
}

static void heap_up(sl_slots *self, uint32_t position) {
    uint32_t index = self->heap[position];
    while (position > 0) {
        uint32_t parent = (position - 1) / 2;
        if (self->at[self->heap[parent]].due_ns <= self->at[index].due_ns) break;
        heap_put(self, position, self->heap[parent]);
        position = parent;
    }
    heap_put(self, position, index);
}

static void heap_down(sl_slots *self, uint32_t position) {
    uint32_t index = self->heap[position];
    for (;;) {
        uint32_t child = 2 * position + 1;
        if (child >= self->n_heap) break;
        if (child + 1 < self->n_heap && self->at[self->heap[child + 1]].due_ns < self->at[self->heap[child]].due_ns)
            child++;
        if (self->at[index].due_ns <= self->at[self->heap[child]].due_ns) break;
        heap_put(self, position, self->heap[child]);
        position = child;
    }
    heap_put(self, position, index);
}

static void heap_remove(sl_slots *self, uint32_t index) {
    uint32_t position = self->at[index].heap_at;
    uint32_t last = self->heap[--self->n_heap];
    if (position == self->n_heap) return;
    heap_put(self, position, last);
    heap_up(self, position);
    heap_down(self, self->at[last].heap_at);
}

void sl_slots_set_due(sl_slots *self, uint32_t index, int64_t due_ns) {
    self->at[index].due_ns = due_ns;
    heap_up(self, self->at[index].heap_at);
    heap_down(self, self->at[index].heap_at);
}

int64_t sl_slots_next_due(const sl_slots *self) { return self->n_heap != 0 ? self->at[self->heap[0]].due_ns : INT64_MAX; }

/* ---- slots ---- */

static sluice_err grow(sl_slots *self) {
    if (self->n >= self->max) return SLUICE_OVERLOADED;
    uint32_t n = self->n != 0 ? self->n * 2 : FIRST_SLOTS;
    if (n > self->max) n = self->max;
    sl_slot *at = realloc(self->at, n * sizeof *at);
    if (at == NULL) return SLUICE_NOMEM;
    self->at = at;
    uint32_t *heap = realloc(self->heap, n * sizeof *heap);
    if (heap == NULL) return SLUICE_NOMEM;
    self->heap = heap;
    memset(self->at + self->n, 0, (n - self->n) * sizeof *at);
    for (uint32_t i = n; i-- > self->n;) {
        self->at[i].next = self->free;
        self->free = i;
    }
    self->n = n;
    return SLUICE_OK;
}

sluice_err sl_slots_take(sl_slots *self, int64_t deadline_ns, uint32_t *out) {
    if (self->free == SL_SLOT_NONE) {
        sluice_err err = grow(self);
        if (err != SLUICE_OK) return err;
    }
    uint32_t index = self->free;
    sl_slot *slot = &self->at[index];
    self->free = slot->next;
    *slot = (sl_slot){.deadline_ns = deadline_ns, .due_ns = deadline_ns, .state = SL_SLOT_WAITING};
    slot->correlation = (++self->generation << self->bits | index) & CORRELATION_MASK;
    list_append(self, &self->active, index);
    self->heap[self->n_heap] = index;
    heap_up(self, self->n_heap++);
    *out = index;
    return SLUICE_OK;
}

void sl_slots_release(sl_slots *self, uint32_t index) {
    sl_slot *slot = &self->at[index];
    if (slot->state == SL_SLOT_FREE) return;
    if (slot->state == SL_SLOT_READY) {
        list_remove(self, &self->ready, index);
    } else {
        list_remove(self, &self->active, index);
        heap_remove(self, index);
    }
    slot->state = SL_SLOT_FREE;
    slot->correlation = 0;
    slot->next = self->free;
    self->free = index;
}

void sl_slots_make_ready(sl_slots *self, uint32_t index) {
    list_remove(self, &self->active, index);
    heap_remove(self, index);
    self->at[index].state = SL_SLOT_READY;
    list_append(self, &self->ready, index);
}

uint32_t sl_slots_find(const sl_slots *self, uint64_t correlation) {
    uint64_t index = correlation & (((uint64_t)1 << self->bits) - 1);
    if (index >= self->n || correlation == 0 || self->at[index].correlation != correlation) return SL_SLOT_NONE;
    return (uint32_t)index;
}
