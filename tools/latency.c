/* SPDX-License-Identifier: MIT */
#include "latency.h"

#include <string.h>

static unsigned bucket_of(uint64_t value) {
    if (value < SL_LATENCY_LINEAR) return (unsigned)value;
    unsigned exponent = 63u - (unsigned)__builtin_clzll(value);
    if (exponent > SL_LATENCY_TOP) return SL_LATENCY_BUCKETS - 1;
    unsigned shift = exponent - 6u; /* leaves 64..127 */
    return SL_LATENCY_LINEAR + (shift - 1u) * SL_LATENCY_HALF + (unsigned)(value >> shift) - SL_LATENCY_HALF;
}

static uint64_t upper_edge(unsigned bucket) {
    if (bucket < SL_LATENCY_LINEAR) return bucket;
    unsigned shift = (bucket - SL_LATENCY_LINEAR) / SL_LATENCY_HALF + 1u;
    uint64_t sub = (bucket - SL_LATENCY_LINEAR) % SL_LATENCY_HALF + SL_LATENCY_HALF;
    return ((sub + 1u) << shift) - 1u;
}

void sl_latency_init(sl_latency *self) { memset(self, 0, sizeof *self); }

void sl_latency_add(sl_latency *self, uint64_t value) {
    self->count++;
    if (value > self->max) self->max = value;
    self->buckets[bucket_of(value)]++;
}

void sl_latency_merge(sl_latency *self, const sl_latency *other) {
    self->count += other->count;
    if (other->max > self->max) self->max = other->max;
    for (unsigned i = 0; i < SL_LATENCY_BUCKETS; i++) self->buckets[i] += other->buckets[i];
}

uint64_t sl_latency_quantile(const sl_latency *self, double quantile) {
    if (self->count == 0) return 0;
    double wanted = quantile * (double)self->count;
    uint64_t seen = 0;
    for (unsigned i = 0; i < SL_LATENCY_BUCKETS; i++) {
        seen += self->buckets[i];
        if (seen == 0 || (double)seen < wanted) continue;
        /* The last bucket has no edge; and no edge may exceed what was really seen. */
        uint64_t edge = upper_edge(i);
        return i == SL_LATENCY_BUCKETS - 1 || edge > self->max ? self->max : edge;
    }
    return self->max;
}
