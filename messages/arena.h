/* SPDX-License-Identifier: MIT */
/* Arena: memory that is freed all at once, under a budget.
 *
 * A message and everything it points at live in one arena. The first block is the caller's (it sits behind the message
 * header in the same allocation), further blocks double. An allocation of SL_ARENA_BIG bytes or more that the current
 * block cannot hold gets a block of its own, so that it can grow in place by realloc: several large arrays may grow
 * side by side in one arena without leaving their old copies behind. A budget makes an allocation fail, never the
 * process.
 * Threads: one at a time.
 */
#ifndef SL_ARENA_H
#define SL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <protobuf-c/protobuf-c.h>
#include <sluice/base.h>

#define SL_ARENA_ALIGN 16u
#define SL_ARENA_BIG ((size_t)32 * 1024)

typedef struct sl_arena_block sl_arena_block;

typedef struct sl_arena {
    char *at, *end;         /* free part of the current block */
    char *first, *first_end; /* the caller's block */
    sl_arena_block *blocks; /* further ones, newest first */
    size_t used;            /* bytes handed out, padding included, first block included */
    size_t reserved;        /* bytes of all blocks */
    size_t budget;          /* most bytes of further blocks; SIZE_MAX: none */
    void *last;             /* latest allocation, so that it can grow or be given back in place */
    bool refused;           /* an allocation failed since the last reset: over budget or out of memory */
} sl_arena;

/* Starts an arena in the caller's storage `first` (aligned for any type). Keeps: first. */
void sl_arena_init(sl_arena *arena, void *first, size_t first_size, size_t budget);
/* Frees all blocks but the caller's; the arena is empty and usable again. */
void sl_arena_reset(sl_arena *arena);
/* As reset, for the end of life. May run twice. */
void sl_arena_fini(sl_arena *arena);

/* Aligned to 16, not zeroed. NULL: out of memory or over budget. size 0 gives a valid pointer. */
void *sl_arena_alloc(sl_arena *arena, size_t size);
void *sl_arena_memdup(sl_arena *arena, const void *data, size_t size);
/* Grows `old` (NULL: none) of old_size to new_size, in place when it is the latest allocation or has a block of its
 * own; else copies and leaves the old bytes behind. On NULL `old` is still valid. */
void *sl_arena_grow(sl_arena *arena, void *old, size_t old_size, size_t new_size);

/* An allocator for protobuf-c that draws from the arena (free gives back only the latest allocation).
 * The result borrows arena. */
ProtobufCAllocator sl_arena_allocator(sl_arena *arena);

#endif
