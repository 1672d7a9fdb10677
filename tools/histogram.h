/* SPDX-License-Identifier: MIT */
/* A histogram of durations with buckets that widen with the value: about 1.6 % wide from 128 ns to over an hour.
 *
 * It is plain memory of fixed size, so that one process can write it to a pipe and another merge it. Quantiles are the
 * upper edge of their bucket, so they never flatter.
 * Units: nanoseconds. Threads: one at a time.
 */
#ifndef SL_HISTOGRAM_H
#define SL_HISTOGRAM_H

#include <stdint.h>

#define SL_HISTOGRAM_LINEAR 128u /* below this, one bucket per value */
#define SL_HISTOGRAM_HALF 64u    /* buckets per power of two above */
#define SL_HISTOGRAM_TOP 41u     /* values of 2^42 and more count in the last bucket */
#define SL_HISTOGRAM_BUCKETS (SL_HISTOGRAM_LINEAR + (SL_HISTOGRAM_TOP - 6u) * SL_HISTOGRAM_HALF)

typedef struct sl_histogram {
    uint64_t count;
    uint64_t max; /* exact */
    uint64_t buckets[SL_HISTOGRAM_BUCKETS];
} sl_histogram;

void sl_histogram_init(sl_histogram *self);
void sl_histogram_add(sl_histogram *self, uint64_t value);
/* Adds all of `other` to self. */
void sl_histogram_merge(sl_histogram *self, const sl_histogram *other);
/* The smallest bucket edge that at least `quantile` (0..1) of the values do not exceed; the exact maximum for 1; 0 when
 * empty. */
uint64_t sl_histogram_quantile(const sl_histogram *self, double quantile);

#endif
