/* SPDX-License-Identifier: MIT */
/* Timers of one dispatcher: a binary heap by due time. Threads: the dispatcher's. */
#ifndef SL_TIMERS_H
#define SL_TIMERS_H

#include <sluice/actor.h>

typedef struct sl_timer sl_timer;
struct sl_timer {
    int64_t due_ns;
    uint64_t id;   /* never used twice; also orders equal due times */
    size_t place;  /* in the heap */
    sluice_actor *actor;
    uint64_t correlation; /* of an ask's deadline; else 0 */
    int64_t period_ns;    /* 0: once */
    sluice_timer_fn fn;
    void *context;
    sl_timer *previous, *next; /* of the same actor */
};

typedef struct sl_timer_heap {
    sl_timer **items;
    size_t n, capacity;
    uint64_t next_id;
} sl_timer_heap;

/* Adds a timer of `actor`, linked into its list. NULL: out of memory. */
sl_timer *sl_timer_add(sl_timer_heap *heap, sluice_actor *actor, int64_t due_ns);
/* Takes a timer out of heap and list and frees it. */
void sl_timer_remove(sl_timer_heap *heap, sl_timer *timer);
/* Moves a timer to another due time. */
void sl_timer_move(sl_timer_heap *heap, sl_timer *timer, int64_t due_ns);
/* The earliest, NULL if none. */
sl_timer *sl_timer_first(const sl_timer_heap *heap);
void sl_timer_heap_fini(sl_timer_heap *heap);

#endif
