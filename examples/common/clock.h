/* SPDX-License-Identifier: MIT */
/* Time and random numbers for the example programs. Threads: any. */
#ifndef EXAMPLE_CLOCK_H
#define EXAMPLE_CLOCK_H

#include <stdint.h>

/* Monotonic microseconds. */
uint64_t clock_us(void);
/* Sleeps; ends early on a signal. */
void clock_sleep_ms(uint32_t ms);
/* The next number of a small generator (splitmix64); *state is any seed. */
uint64_t random_next(uint64_t *state);

#endif
