/* SPDX-License-Identifier: MIT */
/* The line of requests that wait for the writer, in order of arrival, bounded by number and bytes, in all and for each
 * sender: who floods must not keep others out.
 * Threads: the writer's. */
#ifndef SL_LINE_H
#define SL_LINE_H

#include "msg.h"

#define SL_LINE_PLACES 512u

typedef struct sl_line {
    sluice_msg *first, **end;
    uint32_t n, max, max_each;
    size_t bytes, max_bytes, max_each_bytes;
    struct {
        uint32_t n;
        size_t bytes;
    } places[SL_LINE_PLACES]; /* by sender; those who clash share */
} sl_line;

/* share: percent of both that one sender may have; at least one request. */
void sl_line_init(sl_line *line, uint32_t max, size_t max_bytes, uint32_t share);
/* Takes: msg; false: the line, or the sender's part of it, is full, and msg untouched. */
bool sl_line_push(sl_line *line, sluice_msg **msg);
/* Puts what was just popped back in front. Takes: msg. */
void sl_line_push_front(sl_line *line, sluice_msg **msg);
/* Gives: the first; NULL: nobody waits. */
sluice_msg *sl_line_pop(sl_line *line);
/* Takes out the first that `wanted` picks; NULL: none. */
sluice_msg *sl_line_take(sl_line *line, bool (*wanted)(const sluice_msg *msg, const void *context),
                         const void *context);

#endif
