/* SPDX-License-Identifier: MIT */
/* Random messages of any type, from a seed: for properties that must hold for every message. */
#ifndef SUPPORT_RANDOM_MESSAGE_H
#define SUPPORT_RANDOM_MESSAGE_H

#include "arena.h"

/* splitmix64. Source: Steele, Lea, Flood, 2014. */
typedef struct support_random {
    uint64_t state;
} support_random;

uint64_t support_random_next(support_random *random);
/* From 0 to n - 1. */
uint64_t support_random_below(support_random *random, uint64_t n);

/* Makes a message in arena with every field set by chance, nested at most `depth` deep; repeated fields hold up to
 * `many` elements. Fails the test if memory runs out. */
ProtobufCMessage *support_random_message(support_random *random, sl_arena *arena,
                                         const ProtobufCMessageDescriptor *type, unsigned depth, unsigned many);

#endif
