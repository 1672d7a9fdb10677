/* SPDX-License-Identifier: MIT */
/* The show's figures: the live line of each second, and the table at the end. Threads: one. */
#ifndef SHOWCASE_SCORE_H
#define SHOWCASE_SCORE_H

#include "common/http.h"
#include "showcase/children.h"

/* What GET /stats says that the live line needs. */
typedef struct owner_stats {
    uint64_t writes, reads, groups, commit_p99_us, wal_bytes, begin_busy;
} owner_stats;

/* Asks the owner; false if it did not answer. */
bool owner_stats_read(http_connection *connection, owner_stats *out);

/* Prints one line for the time since `before`; with its heading every 20 lines. */
void live_line(unsigned second, uint64_t elapsed_us, const owner_stats *before, const owner_stats *now,
               const children *all);

/* What the judge found in a file. */
typedef struct verdict {
    bool judged; /* false: the judge could not do its work */
    uint64_t acknowledged, found, lost, doubled, wrong;
    bool sound; /* integrity_check */
} verdict;

/* Reads the judge's line. */
void verdict_parse(const char *line, verdict *out);
bool verdict_good(const verdict *self);

typedef struct column {
    const char *heading;
    tally tally;
    verdict verdict;
} column;

void final_table(const column *columns, size_t n);

#endif
