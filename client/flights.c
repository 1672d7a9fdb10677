/* SPDX-License-Identifier: MIT */
/* The flight table: correlation ids that find their flight by index, a heap of due times, and two lists in order.
 *
 * A correlation id is [0][generation][index]. The generation counts every take, so an id is never used twice in a
 * client's life, and a late reply finds a flight of another id or none.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 16 };
#define CORRELATION_MASK (UINT64_MAX >> 1) /* the top bit is the runtime's */

void sl_flights_init(sl_flights *self, uint32_t max) {
    *self = (sl_flights){.max = max, .free = SL_FLIGHT_NONE};
    while ((uint64_t)1 << self->bits < max) self->bits++;
    self->active = self->ready = (sl_flight_list){.first = SL_FLIGHT_NONE, .last = SL_FLIGHT_NONE};
}

void sl_flights_fini(sl_flights *self) {
    free(self->at);
    free(self->heap);
    self->at = NULL;
    self->heap = NULL;
    self->n = self->n_heap = 0;
    self->free = SL_FLIGHT_NONE;
    self->active = self->ready = (sl_flight_list){.first = SL_FLIGHT_NONE, .last = SL_FLIGHT_NONE};
}

/* ---- lists ---- */

static void list_append(sl_flights *self, sl_flight_list *list, uint32_t index) {
    sl_flight *flight = &self->at[index];
    flight->previous = list->last;
    flight->next = SL_FLIGHT_NONE;
    if (list->last != SL_FLIGHT_NONE) self->at[list->last].next = index;
    else list->first = index;
    list->last = index;
    list->n++;
}

static void list_remove(sl_flights *self, sl_flight_list *list, uint32_t index) {
    sl_flight *flight = &self->at[index];
    if (flight->previous != SL_FLIGHT_NONE) self->at[flight->previous].next = flight->next;
    else list->first = flight->next;
    if (flight->next != SL_FLIGHT_NONE) self->at[flight->next].previous = flight->previous;
    else list->last = flight->previous;
    list->n--;
}

/* ---- heap ---- */

static void heap_put(sl_flights *self, uint32_t position, uint32_t index) {
    self->heap[position] = index;
    self->at[index].heap_at = position;
}

static void heap_up(sl_flights *self, uint32_t position) {
    uint32_t index = self->heap[position];
    while (position > 0) {
        uint32_t parent = (position - 1) / 2;
        if (self->at[self->heap[parent]].due_ns <= self->at[index].due_ns) break;
        heap_put(self, position, self->heap[parent]);
        position = parent;
    }
    heap_put(self, position, index);
}

static void heap_down(sl_flights *self, uint32_t position) {
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

static void heap_remove(sl_flights *self, uint32_t index) {
    uint32_t position = self->at[index].heap_at;
    uint32_t last = self->heap[--self->n_heap];
    if (position == self->n_heap) return;
    heap_put(self, position, last);
    heap_up(self, position);
    heap_down(self, self->at[last].heap_at);
}

void sl_flights_set_due(sl_flights *self, uint32_t index, int64_t due_ns) {
    self->at[index].due_ns = due_ns;
    heap_up(self, self->at[index].heap_at);
    heap_down(self, self->at[index].heap_at);
}

int64_t sl_flights_next_due(const sl_flights *self) {
    return self->n_heap != 0 ? self->at[self->heap[0]].due_ns : INT64_MAX;
}

/* ---- taking and releasing ---- */

static sluice_err grow(sl_flights *self) {
    if (self->n >= self->max) return SLUICE_OVERLOADED;
    uint32_t n = self->n != 0 ? self->n * 2 : FIRST_ROOM;
    if (n > self->max) n = self->max;
    sl_flight *at = realloc(self->at, n * sizeof *at);
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

sluice_err sl_flights_take(sl_flights *self, int64_t deadline_ns, uint32_t *out) {
    if (self->free == SL_FLIGHT_NONE) {
        sluice_err err = grow(self);
        if (err != SLUICE_OK) return err;
    }
    uint32_t index = self->free;
    sl_flight *flight = &self->at[index];
    self->free = flight->next;
    *flight = (sl_flight){.deadline_ns = deadline_ns, .due_ns = deadline_ns, .state = SL_FLIGHT_WAITING};
    flight->correlation = (++self->generation << self->bits | index) & CORRELATION_MASK;
    list_append(self, &self->active, index);
    self->heap[self->n_heap] = index;
    heap_up(self, self->n_heap++);
    *out = index;
    return SLUICE_OK;
}

void sl_flights_release(sl_flights *self, uint32_t index) {
    sl_flight *flight = &self->at[index];
    if (flight->state == SL_FLIGHT_FREE) return;
    if (flight->state == SL_FLIGHT_READY) {
        list_remove(self, &self->ready, index);
    } else {
        list_remove(self, &self->active, index);
        heap_remove(self, index);
    }
    flight->state = SL_FLIGHT_FREE;
    flight->correlation = 0;
    flight->next = self->free;
    self->free = index;
}

void sl_flights_make_ready(sl_flights *self, uint32_t index) {
    list_remove(self, &self->active, index);
    heap_remove(self, index);
    self->at[index].state = SL_FLIGHT_READY;
    list_append(self, &self->ready, index);
}

uint32_t sl_flights_find(const sl_flights *self, uint64_t correlation) {
    uint64_t index = correlation & (((uint64_t)1 << self->bits) - 1);
    if (index >= self->n || correlation == 0 || self->at[index].correlation != correlation) return SL_FLIGHT_NONE;
    return (uint32_t)index;
}
