/* SPDX-License-Identifier: MIT */
/* A histogram of durations in buckets of growing width (8 per power of two: an error of at most 12.5 %), of which two
 * halves are kept so that percentiles speak of the last one to two periods. Threads: one at a time. */
#ifndef SL_HISTOGRAM_H
#define SL_HISTOGRAM_H

#include <stdint.h>

#define SL_HISTOGRAM_BUCKETS 320u /* up to 2^40 */

typedef struct sl_histogram {
    uint32_t counts[2][SL_HISTOGRAM_BUCKETS];
    unsigned current;
} sl_histogram;

/* Zero-initialised is empty. */
void sl_histogram_add(sl_histogram *histogram, uint64_t value);
/* The value below which `per_mille` of the values lie (upper end of its bucket); 0 if there are none. */
uint64_t sl_histogram_percentile(const sl_histogram *histogram, unsigned per_mille);
/* Forgets the older half; to be called once a period. */
void sl_histogram_roll(sl_histogram *histogram);

#endif
