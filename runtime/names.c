/* SPDX-License-Identifier: MIT */
/* Names: a hash table from a name to one pid or to a pool of them.
 *
 * Threads: any. Lookups share a reader-writer lock; changes are as rare as actors start and end.
 * Invariants: an entry has at least one pid; a name that is not a pool's has exactly one.
 */
#include "names.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { N_BUCKETS = 256 };

typedef struct entry {
    struct entry *next;
    char name[SL_NAME_MAX + 1];
    bool pool;
    uint32_t n, capacity;
    _Atomic uint32_t turn; /* among equally loaded members, in turn */
    sluice_pid *pids;
} entry;

struct sl_names {
    pthread_rwlock_t lock;
    entry *buckets[N_BUCKETS];
};

static size_t bucket_of(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name != '\0'; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return hash % N_BUCKETS;
}

sl_names *sl_names_new(void) {
    sl_names *names = calloc(1, sizeof *names);
    if (names == NULL) return NULL;
    if (pthread_rwlock_init(&names->lock, NULL) != 0) {
        free(names);
        return NULL;
    }
    return names;
}

void sl_names_destroy(sl_names **names) {
    if (*names == NULL) return;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        for (entry *at = (*names)->buckets[i], *next; at != NULL; at = next) {
            next = at->next;
            free(at->pids);
            free(at);
        }
    }
    pthread_rwlock_destroy(&(*names)->lock);
    free(*names);
    *names = NULL;
}

static entry **find(sl_names *names, const char *name) {
    entry **at = &names->buckets[bucket_of(name)];
    while (*at != NULL && strcmp((*at)->name, name) != 0) at = &(*at)->next;
    return at;
}

static sluice_err entry_add(entry *self, sluice_pid pid) {
    if (self->n == self->capacity) {
        uint32_t capacity = self->capacity == 0 ? 1 : self->capacity * 2;
        sluice_pid *pids = realloc(self->pids, capacity * sizeof *pids);
        if (pids == NULL) return SLUICE_NOMEM;
        self->pids = pids;
        self->capacity = capacity;
    }
    self->pids[self->n++] = pid;
    return SLUICE_OK;
}

static sluice_err add_locked(sl_names *names, const char *name, bool pool, sluice_pid pid) {
    entry **at = find(names, name);
    if (*at != NULL) return (*at)->pool && pool ? entry_add(*at, pid) : SLUICE_EXISTS;
    entry *made = calloc(1, sizeof *made);
    if (made == NULL) return SLUICE_NOMEM;
    memcpy(made->name, name, strlen(name) + 1);
    made->pool = pool;
    if (entry_add(made, pid) != SLUICE_OK) {
        free(made);
        return SLUICE_NOMEM;
    }
    *at = made;
    return SLUICE_OK;
}

sluice_err sl_names_add(sl_names *names, const char *name, bool pool, sluice_pid pid) {
    if (name[0] == '\0' || strnlen(name, SL_NAME_MAX + 1) > SL_NAME_MAX) return SLUICE_INVALID;
    pthread_rwlock_wrlock(&names->lock);
    sluice_err err = add_locked(names, name, pool, pid);
    pthread_rwlock_unlock(&names->lock);
    return err;
}

void sl_names_remove(sl_names *names, const char *name, sluice_pid pid) {
    pthread_rwlock_wrlock(&names->lock);
    entry **at = find(names, name);
    entry *found = *at;
    for (uint32_t i = 0; found != NULL && i < found->n; i++) {
        if (found->pids[i] != pid) continue;
        found->pids[i] = found->pids[--found->n];
        break;
    }
    if (found != NULL && found->n == 0) {
        *at = found->next;
        free(found->pids);
        free(found);
    }
    pthread_rwlock_unlock(&names->lock);
}

sluice_pid sl_names_find(sl_names *names, const char *name, sl_load_fn load, void *context) {
    sluice_pid best = 0;
    uint32_t least = UINT32_MAX;
    pthread_rwlock_rdlock(&names->lock);
    entry *found = *find(names, name);
    if (found != NULL && found->n == 1) {
        best = found->pids[0];
    } else if (found != NULL) {
        uint32_t start = atomic_fetch_add_explicit(&found->turn, 1, memory_order_relaxed);
        for (uint32_t i = 0; i < found->n; i++) {
            sluice_pid pid = found->pids[(start + i) % found->n];
            uint32_t waiting = load(context, pid);
            if (waiting < least) {
                least = waiting;
                best = pid;
            }
        }
    }
    pthread_rwlock_unlock(&names->lock);
    return best;
}
