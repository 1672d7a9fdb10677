/* SPDX-License-Identifier: MIT */
/* Timers: a binary heap by due time, each timer also in its actor's list so that it ends with the actor.
 *
 * Owning thread: the dispatcher's.
 * Invariants: items[t->place] == t; a parent is never due after its children; equal due times fire in order of id.
 */
#include "timers.h"

#include <stdlib.h>

#include "runtime_internal.h"

static bool before(const sl_timer *a, const sl_timer *b) {
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->id < b->id;
}

static void put(sl_timer_heap *heap, size_t place, sl_timer *timer) {
    heap->items[place] = timer;
    timer->place = place;
}

static void sift(sl_timer_heap *heap, size_t place) {
    sl_timer *timer = heap->items[place];
    while (place > 0 && before(timer, heap->items[(place - 1) / 2])) {
        put(heap, place, heap->items[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= heap->n) break;
        if (child + 1 < heap->n && before(heap->items[child + 1], heap->items[child])) child++;
        if (!before(heap->items[child], timer)) break;
        put(heap, place, heap->items[child]);
        place = child;
    }
    put(heap, place, timer);
}

sl_timer *sl_timer_add(sl_timer_heap *heap, sluice_actor *actor, int64_t due_ns) {
    if (heap->n == heap->capacity) {
        size_t capacity = heap->capacity == 0 ? 16 : heap->capacity * 2;
        sl_timer **items = realloc(heap->items, capacity * sizeof *items);
        if (items == NULL) return NULL;
        heap->items = items;
        heap->capacity = capacity;
    }
    sl_timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL) return NULL;
    timer->due_ns = due_ns;
    timer->id = ++heap->next_id;
    timer->actor = actor;
    timer->next = actor->timers;
    if (timer->next != NULL) timer->next->previous = timer;
    actor->timers = timer;
    put(heap, heap->n++, timer);
    sift(heap, timer->place);
    return timer;
}

void sl_timer_remove(sl_timer_heap *heap, sl_timer *timer) {
    if (timer->previous != NULL)
        timer->previous->next = timer->next;
    else
        timer->actor->timers = timer->next;
    if (timer->next != NULL) timer->next->previous = timer->previous;
    size_t place = timer->place;
    heap->n--;
    if (place != heap->n) {
        put(heap, place, heap->items[heap->n]);
        sift(heap, place);
    }
    free(timer);
}

void sl_timer_move(sl_timer_heap *heap, sl_timer *timer, int64_t due_ns) {
    timer->due_ns = due_ns;
    sift(heap, timer->place);
}

sl_timer *sl_timer_first(const sl_timer_heap *heap) { return heap->n > 0 ? heap->items[0] : NULL; }

void sl_timer_heap_fini(sl_timer_heap *heap) {
    free(heap->items);
    *heap = (sl_timer_heap){0};
}
