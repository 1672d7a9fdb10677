/* SPDX-License-Identifier: MIT */
/* Arena: a bump allocator over the caller's first block and further blocks, from malloc or mapped.
 *
 * Invariants
 *  1. [at, end) is the free part of the current block, the first one or the newest shared one; at is aligned.
 *  2. A block made for one allocation of SL_ARENA_BIG or more holds nothing else, so it may move.
 *  3. A block is a mapping of its own exactly if its size is MAPPED_FROM or more. malloc would give and take such
 *     memory page by page, one fault each, and copy it as it grows.
 *  4. reserved = first block + sizes of all blocks; reserved - first block <= budget.
 */
#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct sl_arena_block {
    sl_arena_block *next, *previous;
    size_t size; /* of data */
    _Alignas(SL_ARENA_ALIGN) char data[];
};

#define BLOCK_MIN ((size_t)4096 - sizeof(sl_arena_block))
#define BLOCK_MAX ((size_t)256 * 1024 - sizeof(sl_arena_block))

#define MAPPED_FROM ((size_t)4 * 1024 * 1024)

/* ---- blocks ---- */

static sl_arena_block *block_map(size_t size) {
    void *at = mmap(NULL, sizeof(sl_arena_block) + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return NULL;
    (void)madvise(at, sizeof(sl_arena_block) + size, MADV_HUGEPAGE); /* a wish; where it is not heard, small pages do */
    return at;
}

static sl_arena_block *block_new(size_t size) {
    sl_arena_block *block = size >= MAPPED_FROM ? block_map(size) : malloc(sizeof *block + size);
    if (block != NULL) block->size = size;
    return block;
}

static void block_free(sl_arena_block *block) {
    if (block->size >= MAPPED_FROM)
        (void)munmap(block, sizeof *block + block->size);
    else
        free(block);
}

/* Makes the block larger; it may move. NULL: no memory, and it is as it was. */
static sl_arena_block *block_grow(sl_arena_block *block, size_t size) {
    sl_arena_block *moved;
    if (size < MAPPED_FROM) {
        moved = realloc(block, sizeof *block + size);
    } else if (block->size >= MAPPED_FROM) {
        void *at = mremap(block, sizeof *block + block->size, sizeof *block + size, MREMAP_MAYMOVE);
        moved = at != MAP_FAILED ? at : NULL;
    } else {
        moved = block_map(size);
        if (moved == NULL) return NULL;
        memcpy(moved, block, sizeof *block + block->size);
        free(block);
    }
    if (moved != NULL) moved->size = size;
    return moved;
}

/* ---- the arena ---- */

static size_t rounded(size_t size) { return (size + (SL_ARENA_ALIGN - 1)) & ~(size_t)(SL_ARENA_ALIGN - 1); }

static size_t first_size_of(const sl_arena *arena) { return (size_t)(arena->first_end - arena->first); }

void sl_arena_init(sl_arena *arena, void *first, size_t first_size, size_t budget) {
    *arena = (sl_arena){.first = first, .first_end = (char *)first + first_size, .budget = budget};
    sl_arena_reset(arena);
}

void sl_arena_reset(sl_arena *arena) {
    for (sl_arena_block *block = arena->blocks, *next; block != NULL; block = next) {
        next = block->next;
        block_free(block);
    }
    arena->blocks = NULL;
    arena->at = arena->first;
    arena->end = arena->first_end;
    arena->used = 0;
    arena->reserved = first_size_of(arena);
    arena->last = NULL;
    arena->refused = false;
}

void sl_arena_fini(sl_arena *arena) {
    sl_arena_reset(arena);
    arena->first = arena->first_end = arena->at = arena->end = NULL;
    arena->reserved = 0;
}

static bool within_budget(const sl_arena *arena, size_t more) {
    size_t further = arena->reserved - first_size_of(arena);
    return further <= arena->budget && more <= arena->budget - further;
}

static void *refuse(sl_arena *arena) {
    arena->refused = true;
    return NULL;
}

static sl_arena_block *block_add(sl_arena *arena, size_t size) {
    if (!within_budget(arena, size)) return refuse(arena);
    sl_arena_block *block = block_new(size);
    if (block == NULL) return refuse(arena);
    block->previous = NULL;
    block->next = arena->blocks;
    if (block->next != NULL) block->next->previous = block;
    arena->blocks = block;
    arena->reserved += size;
    return block;
}

/* The current block is full: take a new one, or a block for this allocation alone if it is big. */
static void *alloc_slow(sl_arena *arena, size_t size) {
    if (size >= SL_ARENA_BIG) {
        sl_arena_block *block = block_add(arena, size);
        if (block == NULL) return NULL;
        arena->used += size;
        return block->data;
    }
    /* Double what there is, but never let the doubling itself be what breaks the budget. */
    size_t wish = arena->reserved < BLOCK_MIN ? BLOCK_MIN : arena->reserved;
    if (wish > BLOCK_MAX) wish = BLOCK_MAX;
    wish &= ~(size_t)(SL_ARENA_ALIGN - 1);
    if (wish < size || !within_budget(arena, wish)) wish = size;
    sl_arena_block *block = block_add(arena, wish);
    if (block == NULL) return NULL;
    arena->at = block->data + size;
    arena->end = block->data + wish;
    arena->used += size;
    arena->last = block->data;
    return block->data;
}

void *sl_arena_alloc(sl_arena *arena, size_t size) {
    if (size > PTRDIFF_MAX / 2) return refuse(arena);
    size = size != 0 ? rounded(size) : SL_ARENA_ALIGN;
    if (size > (size_t)(arena->end - arena->at)) return alloc_slow(arena, size);
    void *out = arena->at;
    arena->at += size;
    arena->used += size;
    arena->last = out;
    return out;
}

void *sl_arena_memdup(sl_arena *arena, const void *data, size_t size) {
    void *out = sl_arena_alloc(arena, size);
    if (out != NULL && size != 0) memcpy(out, data, size);
    return out;
}

/* The block that `data` fills alone, or NULL. The current block does not count, for at and end point into it. */
static sl_arena_block *own_block(const sl_arena *arena, void *data, size_t size) {
    char *at = data;
    if (size < SL_ARENA_BIG || (at >= arena->first && at < arena->first_end) || at + size == arena->end) return NULL;
    for (sl_arena_block *block = arena->blocks; block != NULL; block = block->next)
        if (block->data == at) return block->size == size ? block : NULL;
    return NULL;
}

static void *grow_own_block(sl_arena *arena, sl_arena_block *block, size_t new_size) {
    size_t more = new_size - block->size;
    if (!within_budget(arena, more)) return refuse(arena);
    sl_arena_block *moved = block_grow(block, new_size);
    if (moved == NULL) return refuse(arena);
    if (moved->previous != NULL) {
        moved->previous->next = moved;
    } else {
        arena->blocks = moved;
    }
    if (moved->next != NULL) moved->next->previous = moved;
    arena->reserved += more;
    arena->used += more;
    return moved->data;
}

void *sl_arena_grow(sl_arena *arena, void *old, size_t old_size, size_t new_size) {
    if (old == NULL) return sl_arena_alloc(arena, new_size);
    if (new_size > PTRDIFF_MAX / 2) return refuse(arena);
    size_t had = old_size != 0 ? rounded(old_size) : SL_ARENA_ALIGN;
    size_t want = rounded(new_size);
    if (want <= had) return old;
    if (old == arena->last && want - had <= (size_t)(arena->end - arena->at)) {
        arena->at += want - had;
        arena->used += want - had;
        return old;
    }
    sl_arena_block *own = own_block(arena, old, had);
    if (own != NULL) return grow_own_block(arena, own, want);
    void *out = sl_arena_alloc(arena, new_size);
    if (out != NULL && old_size != 0) memcpy(out, old, old_size);
    return out;
}

static void *protobuf_alloc(void *data, size_t size) { return sl_arena_alloc(data, size); }

static void protobuf_free(void *data, void *pointer) {
    sl_arena *arena = data;
    if (pointer == NULL || pointer != arena->last) return;
    arena->used -= (size_t)(arena->at - (char *)pointer);
    arena->at = pointer;
    arena->last = NULL;
}

ProtobufCAllocator sl_arena_allocator(sl_arena *arena) {
    return (ProtobufCAllocator){.alloc = protobuf_alloc, .free = protobuf_free, .allocator_data = arena};
}
