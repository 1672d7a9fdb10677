/* SPDX-License-Identifier: MIT */
/* The line of requests that wait for the writer; see line.h.
 *
 * Owning thread: the writer's.
 * Invariants: *end is NULL and is reached from first by n steps of next; bytes is the sum of their sizes; the places
 * add up to both.
 */
#include "line.h"

void sl_line_init(sl_line *line, uint32_t max, size_t max_bytes, uint32_t share) {
    *line = (sl_line){.max = max, .max_bytes = max_bytes};
    line->max_each = (uint32_t)((uint64_t)max * share / 100);
    line->max_each_bytes = max_bytes / 100 * share;
    line->end = &line->first;
}

static size_t place_of(const sluice_msg *msg) {
    uint64_t sender = (msg->from ^ msg->source * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (sender >> 32) % SL_LINE_PLACES;
}

static void count_in(sl_line *line, const sluice_msg *msg) {
    size_t place = place_of(msg), size = sl_msg_size(msg);
    line->n++;
    line->bytes += size;
    line->places[place].n++;
    line->places[place].bytes += size;
}

static void unlink_at(sl_line *line, sluice_msg **at) {
    sluice_msg *msg = *at;
    *at = msg->next;
    if (msg->next == NULL) line->end = at;
    msg->next = NULL;
    size_t place = place_of(msg), size = sl_msg_size(msg);
    line->n--;
    line->bytes -= size;
    line->places[place].n--;
    line->places[place].bytes -= size;
}

/* Whoever has nothing there may have one request, however large. */
static bool fits(uint32_t n, size_t bytes, uint32_t max, size_t max_bytes, size_t more) {
    return n == 0 || (n < max && bytes <= max_bytes && more <= max_bytes - bytes);
}

bool sl_line_push(sl_line *line, sluice_msg **msg) {
    size_t place = place_of(*msg), size = sl_msg_size(*msg);
    if (!fits(line->n, line->bytes, line->max, line->max_bytes, size) ||
        !fits(line->places[place].n, line->places[place].bytes, line->max_each, line->max_each_bytes, size))
        return false;
    count_in(line, *msg);
    (*msg)->next = NULL;
    *line->end = *msg;
    line->end = &(*msg)->next;
    *msg = NULL;
    return true;
}

void sl_line_push_front(sl_line *line, sluice_msg **msg) {
    count_in(line, *msg);
    (*msg)->next = line->first;
    if (line->first == NULL) line->end = &(*msg)->next;
    line->first = *msg;
    *msg = NULL;
}

sluice_msg *sl_line_pop(sl_line *line) {
    sluice_msg *msg = line->first;
    if (msg != NULL) unlink_at(line, &line->first);
    return msg;
}

sluice_msg *sl_line_take(sl_line *line, bool (*wanted)(const sluice_msg *msg, const void *context),
                         const void *context) {
    for (sluice_msg **at = &line->first; *at != NULL; at = &(*at)->next) {
        sluice_msg *msg = *at;
        if (!wanted(msg, context)) continue;
        unlink_at(line, at);
        return msg;
    }
    return NULL;
}
