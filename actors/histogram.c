/* SPDX-License-Identifier: MIT */
/* A log-linear histogram; see histogram.h. Source: the bucket layout of HdrHistogram (Tene), with three bits kept. */
#include "histogram.h"

#include <string.h>

static unsigned bucket_of(uint64_t value) {
    if (value < 8) return (unsigned)value;
    unsigned log = 63u - (unsigned)__builtin_clzll(value);
    unsigned bucket = (log - 2) * 8 + (unsigned)((value >> (log - 3)) & 7);
    return bucket < SL_HISTOGRAM_BUCKETS ? bucket : SL_HISTOGRAM_BUCKETS - 1;
}

static uint64_t upper_end(unsigned bucket) {
    if (bucket < 8) return bucket;
    unsigned log = bucket / 8 + 2;
    return (((uint64_t)8 + bucket % 8 + 1) << (log - 3)) - 1;
}

void sl_histogram_add(sl_histogram *histogram, uint64_t value) {
    histogram->counts[histogram->current][bucket_of(value)]++;
}

uint64_t sl_histogram_percentile(const sl_histogram *histogram, unsigned per_mille) {
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < SL_HISTOGRAM_BUCKETS; i++) total += histogram->counts[0][i] + histogram->counts[1][i];
    if (total == 0) return 0;
    uint64_t wanted = (total * per_mille + 999) / 1000;
    for (unsigned i = 0; i < SL_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[0][i] + histogram->counts[1][i];
        if (seen >= wanted) return upper_end(i);
    }
    return upper_end(SL_HISTOGRAM_BUCKETS - 1);
}

void sl_histogram_roll(sl_histogram *histogram) {
    histogram->current ^= 1u;
    memset(histogram->counts[histogram->current], 0, sizeof histogram->counts[0]);
}
