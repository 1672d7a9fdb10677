/* SPDX-License-Identifier: MIT */
/* Lanes: one short queue for each sender that has something waiting, in a ring, found by a hash table.
 *
 * Owning thread: the dispatcher of the actor whose mailbox it is.
 *
 *   push: the sender's lane, or a fresh one at the ring's end     pop: first message of the ring's first lane, which
 *                                                                      goes to the end, or away if it is empty now
 *
 * Invariants
 *  1. A lane in the ring is not empty, and is in the table exactly if it is not `common`.
 *  2. While `common` holds anything everything goes there, so that no sender's later message overtakes an earlier one.
 */
#include "lanes.h"

#include <stdlib.h>

typedef struct sl_lane {
    struct sl_lane *next;    /* in the ring, or among the free ones */
    struct sl_lane *chained; /* in the same place of the table */
    sluice_pid from;
    uint64_t source;
    sluice_msg *head, *tail;
} sl_lane;

enum { FIRST_PLACES = 64, KEPT_LANES = 1024 };

struct sl_lanes {
    sl_lane **places;
    uint32_t n_places; /* power of two */
    uint32_t n_lanes;  /* in the table */
    uint32_t n_free;
    sl_lane *first, *last; /* the ring, open: turns begin at first */
    sl_lane *free;
    sl_lane common;
};

static uint32_t place_of(const sl_lanes *self, sluice_pid from, uint64_t source) {
    uint64_t hash = (from ^ source * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(hash >> 32) & (self->n_places - 1);
}

sl_lanes *sl_lanes_new(void) {
    sl_lanes *self = calloc(1, sizeof *self);
    if (self == NULL) return NULL;
    self->n_places = FIRST_PLACES;
    self->places = calloc(self->n_places, sizeof(sl_lane *));
    if (self->places == NULL) {
        free(self);
        return NULL;
    }
    return self;
}

void sl_lanes_destroy(sl_lanes **lanes) {
    sl_lanes *self = *lanes;
    if (self == NULL) return;
    *lanes = NULL;
    while (self->free != NULL) {
        sl_lane *lane = self->free;
        self->free = lane->next;
        free(lane);
    }
    free(self->places);
    free(self);
}

/* More places for many senders; without memory the chains get longer. */
static void grow(sl_lanes *self) {
    uint32_t n_old = self->n_places;
    sl_lane **old = self->places, **places = calloc((size_t)n_old * 2, sizeof(sl_lane *));
    if (places == NULL) return;
    self->places = places;
    self->n_places = n_old * 2;
    for (uint32_t i = 0; i < n_old; i++) {
        for (sl_lane *lane = old[i], *chained; lane != NULL; lane = chained) {
            chained = lane->chained;
            sl_lane **place = &places[place_of(self, lane->from, lane->source)];
            lane->chained = *place;
            *place = lane;
        }
    }
    free(old);
}

static void ring_add(sl_lanes *self, sl_lane *lane) {
    lane->next = NULL;
    if (self->last != NULL)
        self->last->next = lane;
    else
        self->first = lane;
    self->last = lane;
}

static sl_lane *lane_new(sl_lanes *self, const sluice_msg *msg) {
    if (self->n_lanes >= self->n_places) grow(self);
    sl_lane *lane = self->free;
    if (lane != NULL) {
        self->free = lane->next;
        self->n_free--;
    } else if ((lane = malloc(sizeof *lane)) == NULL) {
        return &self->common;
    }
    sl_lane **place = &self->places[place_of(self, msg->from, msg->source)];
    *lane = (sl_lane){.chained = *place, .from = msg->from, .source = msg->source};
    *place = lane;
    self->n_lanes++;
    return lane;
}

static sl_lane *lane_for(sl_lanes *self, const sluice_msg *msg) {
    if (self->common.head != NULL) return &self->common;
    sl_lane *lane = self->places[place_of(self, msg->from, msg->source)];
    while (lane != NULL && (lane->from != msg->from || lane->source != msg->source)) lane = lane->chained;
    return lane != NULL ? lane : lane_new(self, msg);
}

static void lane_end(sl_lanes *self, sl_lane *lane) {
    if (lane == &self->common) return;
    sl_lane **at = &self->places[place_of(self, lane->from, lane->source)];
    while (*at != lane) at = &(*at)->chained;
    *at = lane->chained;
    self->n_lanes--;
    if (self->n_free >= KEPT_LANES) {
        free(lane);
        return;
    }
    lane->next = self->free;
    self->free = lane;
    self->n_free++;
}

void sl_lanes_push(sl_lanes *self, sluice_msg *msg) {
    sl_lane *lane = lane_for(self, msg);
    msg->next = NULL;
    if (lane->head != NULL) {
        lane->tail->next = msg;
    } else {
        lane->head = msg;
        ring_add(self, lane);
    }
    lane->tail = msg;
}

sluice_msg *sl_lanes_pop(sl_lanes *self) {
    sl_lane *lane = self->first;
    if (lane == NULL) return NULL;
    sluice_msg *msg = lane->head;
    lane->head = msg->next;
    self->first = lane->next;
    if (self->first == NULL) self->last = NULL;
    msg->followed = lane->head != NULL;
    if (msg->followed)
        ring_add(self, lane);
    else
        lane_end(self, lane);
    return msg;
}
