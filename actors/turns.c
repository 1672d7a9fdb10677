/* SPDX-License-Identifier: MIT */
/* Turns of senders in a group; see turns.h for the rule. */
#include "turns.h"

static uint64_t sender_of(const sluice_msg *request) {
    uint64_t sender = (request->from ^ request->source * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return sender != 0 ? sender : 1;
}

static size_t place_of(uint64_t sender) { return (sender >> 32) % SL_TURNS_PLACES; }

void sl_turns_begin(sl_turns *self) {
    self->group++;
    self->idle[0] = self->idle[1] = 0;
}

bool sl_turns_over(const sl_turns *self, const sluice_msg *request) {
    uint64_t sender = sender_of(request);
    size_t at = place_of(sender);
    if (self->places[at].sender != sender || self->places[at].group != self->group ||
        self->places[at].n < SL_TURNS_MAX)
        return false;
    return (self->idle[0] != 0 && self->idle[0] != sender) || self->idle[1] != 0;
}

void sl_turns_take(sl_turns *self, const sluice_msg *request) {
    uint64_t sender = sender_of(request);
    size_t at = place_of(sender);
    if (self->places[at].sender != sender || self->places[at].group != self->group) {
        self->places[at].sender = sender;
        self->places[at].group = self->group;
        self->places[at].n = 0;
    }
    self->places[at].n++;
    if (request->followed) return;
    if (self->idle[0] == 0)
        self->idle[0] = sender;
    else if (self->idle[0] != sender)
        self->idle[1] = sender;
}
