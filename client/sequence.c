/* SPDX-License-Identifier: MIT */
/* The settled sequences of a client: ack_upto moves as far as there is no gap.
 *
 * A sequence is open from when it is given out until its outcome is known or nobody can ask for it any more. The server
 * forgets receipts up to ack_upto, so ack_upto must stay below every open one.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

void sl_sequences_init(sl_sequences *self) { *self = (sl_sequences){.next = 1}; }

void sl_sequences_fini(sl_sequences *self) {
    free(self->bits);
    sl_sequences_init(self);
}

static bool is_settled(const sl_sequences *self, uint64_t sequence) {
    size_t bit = (size_t)sequence & (self->n_bits - 1);
    return (self->bits[bit / 64] >> (bit % 64) & 1) != 0;
}

static void mark(sl_sequences *self, uint64_t sequence, bool settled) {
    size_t bit = (size_t)sequence & (self->n_bits - 1);
    uint64_t mask = (uint64_t)1 << (bit % 64);
    if (settled) self->bits[bit / 64] |= mask;
    else self->bits[bit / 64] &= ~mask;
}

static sluice_err grow(sl_sequences *self) {
    sl_sequences bigger = *self;
    bigger.n_bits = self->n_bits != 0 ? self->n_bits * 2 : 256;
    bigger.bits = calloc(bigger.n_bits / 64, sizeof *bigger.bits);
    if (bigger.bits == NULL) return SLUICE_NOMEM;
    for (uint64_t s = self->ack_upto + 1; s < self->next; s++)
        if (is_settled(self, s)) mark(&bigger, s, true);
    free(self->bits);
    *self = bigger;
    return SLUICE_OK;
}

sluice_err sl_sequences_take(sl_sequences *self, uint64_t *out) {
    if (self->next - self->ack_upto >= self->n_bits) {
        sluice_err err = grow(self);
        if (err != SLUICE_OK) return err;
    }
    *out = self->next++;
    mark(self, *out, false);
    return SLUICE_OK;
}

void sl_sequences_settle(sl_sequences *self, uint64_t sequence) {
    if (sequence <= self->ack_upto || sequence >= self->next) return;
    mark(self, sequence, true);
    while (self->ack_upto + 1 < self->next && is_settled(self, self->ack_upto + 1)) self->ack_upto++;
}
