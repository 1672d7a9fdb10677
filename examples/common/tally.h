/* SPDX-License-Identifier: MIT */
/* The counters every load program keeps, and the line on stdout by which the show hears of them.
 *
 * One X-macro makes the struct, the line "progress requests=12 acknowledged=11 ..." and its reader. A program prints a
 * progress line each second and one "done" line at its end.
 */
#ifndef EXAMPLE_TALLY_H
#define EXAMPLE_TALLY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TALLY_MAP(X)                                                                                                   \
    X(requests, "writes sent, each with a number of its own")                                                          \
    X(acknowledged, "writes acknowledged, and so logged")                                                              \
    X(refused, "writes refused with a definite no that may pass later (overload, sold out)")                          \
    X(failed, "writes refused for any other reason")                                                                   \
    X(unknown, "writes whose answer was lost")                                                                         \
    X(busy, "SQLITE_BUSY seen")                                                                                        \
    X(replayed, "writes sent twice on purpose and answered as one")                                                    \
    X(reads, "reads answered")                                                                                         \
    X(bad_reads, "reads that failed, or saw half a write")                                                             \
    X(rounds, "rounds of the catalog that are complete")                                                               \
    X(slowest_us, "slowest write, from sending to acknowledgement, microseconds")

typedef struct tally {
#define TALLY_FIELD(name, meaning) uint64_t name;
    TALLY_MAP(TALLY_FIELD)
#undef TALLY_FIELD
} tally;

/* Counts an acknowledged write that took so long. */
void tally_acknowledge(tally *self, uint64_t took_us);
/* Prints one line, beginning with word, and flushes. */
void tally_print(FILE *file, const char *word, const tally *self);
/* Reads such a line. False if it does not begin with "progress" or "done". */
bool tally_parse(const char *line, tally *out);
/* Adds: sums, but the maximum of rounds and slowest_us. */
void tally_add(tally *self, const tally *other);

#endif
