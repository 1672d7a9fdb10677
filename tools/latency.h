/* SPDX-License-Identifier: MIT */
/* A histogram of durations with buckets that widen with the value: about 1.6 % wide from 128 ns to over an hour.
 *
 * It is plain memory of fixed size, so that one process can write it to a pipe and another merge it. Quantiles are the
 * upper edge of their bucket, so they never flatter.
 * Units: nanoseconds. Threads: one at a time.
 */
#ifndef SL_LATENCY_H
#define SL_LATENCY_H

#include <stdint.h>

#define SL_LATENCY_LINEAR  128u /* below this, one bucket per value */
#define SL_LATENCY_HALF    64u  /* buckets per power of two above */
#define SL_LATENCY_TOP     41u  /* values of 2^42 and more count in the last bucket */
#define SL_LATENCY_BUCKETS (SL_LATENCY_LINEAR + (SL_LATENCY_TOP - 6u) * SL_LATENCY_HALF)

typedef struct sl_latency {
    uint64_t count;
    uint64_t max; /* exact */
    uint64_t buckets[SL_LATENCY_BUCKETS];
} sl_latency;

void sl_latency_init(sl_latency *self);
void sl_latency_add(sl_latency *self, uint64_t value);
/* Adds all of `other` to self. */
void sl_latency_merge(sl_latency *self, const sl_latency *other);
/* The smallest bucket edge that at least `quantile` (0..1) of the values do not exceed; the exact maximum for 1; 0 when
 * empty. */
uint64_t sl_latency_quantile(const sl_latency *self, double quantile);

#endif
