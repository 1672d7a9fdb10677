/* SPDX-License-Identifier: MIT */
/* Turns: who has had how much of the running group, so that a sender with much to say does not hold up the answers of
 * those who wait for this group's commit.
 *
 * The writer's mailbox is fair: senders take turns. What is left to decide is when a group ends. It ends before a
 * request whose sender has had SL_TURNS_MAX requests in it already, if it holds the last request of some other sender,
 * who therefore has nothing better to do than wait. Senders who all have more waiting do not stop each other, for they
 * lose nothing by a large group.
 * Threads: the writer's.
 */
#ifndef SL_TURNS_H
#define SL_TURNS_H

#include "msg.h"

#define SL_TURNS_MAX 32u
#define SL_TURNS_PLACES 512u

typedef struct sl_turns {
    uint64_t group; /* counts the groups; from 1 */
    uint64_t idle[2]; /* two senders whose last request is in the group; 0: none */
    struct {
        uint64_t sender, group;
        uint32_t n;
    } places[SL_TURNS_PLACES]; /* by sender; a clash forgets the earlier one, which then gets more than its turns */
} sl_turns;

/* A new group begins. */
void sl_turns_begin(sl_turns *self);
/* Should the group be committed before this request is added? */
bool sl_turns_over(const sl_turns *self, const sluice_msg *request);
/* The request is added. */
void sl_turns_take(sl_turns *self, const sluice_msg *request);

#endif
