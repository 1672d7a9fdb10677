/* SPDX-License-Identifier: MIT */
/* The linearizability checker; see linear.h.
 *
 * The history is a list of events in time: a call and, if it was answered, a return for each operation. The search
 * takes some operation whose call comes before the first return in the list, applies it to the register if its answer
 * allows that, and takes both its events out. Where it meets a return first, nothing fits: it goes back. A set of
 * operations done together with the register's value is tried only once.
 */
#include "support/linear.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct event {
    struct event *previous, *next;
    struct event *answer; /* of a call: its return, or NULL */
    size_t op;
    int64_t at;
    bool call;
} event;

typedef struct step {
    event *call;
    int64_t before;
} step;

typedef struct search {
    const linear_op *ops;
    size_t n, words;
    event head;
    event *events;
    uint64_t *done; /* bit per op */
    step *steps;
    size_t n_steps, n_answers_left;
    int64_t value;
    /* memo: entries of words + 1 numbers (set, value) by hash */
    uint64_t *memo;
    size_t *places; /* 1 + entry; 0: free */
    size_t n_memo, memo_room, n_places;
} search;

static void *must(void *memory) {
    if (memory == NULL) abort();
    return memory;
}

static int by_time(const void *a, const void *b) {
    const event *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    if (x->call != y->call) return x->call ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void list_events(search *self) {
    size_t n_events = 0;
    event **calls = must(calloc(self->n + 1, sizeof(event *)));
    self->events = must(calloc(2 * self->n + 1, sizeof *self->events));
    for (size_t i = 0; i < self->n; i++) {
        const linear_op *op = &self->ops[i];
        self->events[n_events++] = (event){.op = i, .at = op->call_ns, .call = true};
        if (op->unknown) continue;
        self->events[n_events++] = (event){.op = i, .at = op->return_ns};
        self->n_answers_left++;
    }
    qsort(self->events, n_events, sizeof *self->events, by_time);
    event *last = &self->head;
    for (size_t i = 0; i < n_events; i++) {
        event *it = &self->events[i];
        it->previous = last;
        last->next = it;
        last = it;
        if (it->call)
            calls[it->op] = it;
        else
            calls[it->op]->answer = it;
    }
    free(calls);
}

static void unlink_event(event *it) {
    it->previous->next = it->next;
    if (it->next != NULL) it->next->previous = it->previous;
}

static void relink_event(event *it) {
    it->previous->next = it;
    if (it->next != NULL) it->next->previous = it;
}

/* What the register holds after the operation; false if its answer was not possible. */
static bool apply(const linear_op *op, int64_t *value) {
    switch (op->kind) {
    case LINEAR_READ: return *value == op->value;
    case LINEAR_WRITE: *value = op->value; return true;
    case LINEAR_SWAP: break;
    }
    bool fits = *value == op->expected;
    if (!op->unknown && fits == op->refused) return false;
    if (fits) *value = op->value;
    return true;
}

/* ---- memo ---- */

static size_t hash_of(const uint64_t *entry, size_t n) {
    uint64_t hash = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ entry[i]) * 0xbf58476d1ce4e5b9u;
        hash ^= hash >> 29;
    }
    return (size_t)hash;
}

static size_t *find_place(const search *self, const uint64_t *entry) {
    size_t size = self->words + 1;
    for (size_t i = hash_of(entry, size);; i++) {
        size_t *place = &self->places[i & (self->n_places - 1)];
        if (*place == 0 || memcmp(&self->memo[(*place - 1) * size], entry, size * sizeof *entry) == 0) return place;
    }
}

static void memo_grow(search *self) {
    size_t size = self->words + 1;
    self->memo_room = self->memo_room != 0 ? self->memo_room * 2 : 1024;
    self->memo = must(realloc(self->memo, self->memo_room * size * sizeof *self->memo));
    free(self->places);
    self->n_places = self->memo_room * 2;
    self->places = must(calloc(self->n_places, sizeof *self->places));
    for (size_t i = 0; i < self->n_memo; i++) *find_place(self, &self->memo[i * size]) = i + 1;
}

/* Notes the present set and value. False: they were there before. */
static bool note(search *self) {
    size_t size = self->words + 1;
    if (self->n_memo == self->memo_room) memo_grow(self);
    uint64_t *entry = &self->memo[self->n_memo * size];
    memcpy(entry, self->done, self->words * sizeof *entry);
    entry[self->words] = (uint64_t)self->value;
    size_t *place = find_place(self, entry);
    if (*place != 0) return false;
    *place = ++self->n_memo;
    return true;
}

/* ---- the search ---- */

static bool advance(search *self, event *call) {
    const linear_op *op = &self->ops[call->op];
    int64_t before = self->value;
    uint64_t bit = (uint64_t)1 << (call->op % 64), *word = &self->done[call->op / 64];
    if (!apply(op, &self->value)) return false;
    *word |= bit;
    if (!note(self)) {
        *word &= ~bit;
        self->value = before;
        return false;
    }
    self->steps[self->n_steps++] = (step){call, before};
    unlink_event(call);
    if (call->answer != NULL) {
        unlink_event(call->answer);
        self->n_answers_left--;
    }
    return true;
}

static event *go_back(search *self) {
    step *last = &self->steps[--self->n_steps];
    event *call = last->call;
    self->value = last->before;
    self->done[call->op / 64] &= ~((uint64_t)1 << (call->op % 64));
    if (call->answer != NULL) {
        relink_event(call->answer);
        self->n_answers_left++;
    }
    relink_event(call);
    return call->next;
}

linear_verdict linear_check(const linear_op *ops, size_t n, int64_t initial, uint64_t max_steps) {
    search self = {.ops = ops, .n = n, .words = (n + 63) / 64, .value = initial};
    linear_verdict verdict = LINEAR_YES;
    self.done = must(calloc(self.words + 1, sizeof *self.done));
    self.steps = must(calloc(n + 1, sizeof *self.steps));
    list_events(&self);
    event *at = self.head.next;
    for (uint64_t steps = 0; self.n_answers_left > 0; steps++) {
        if (steps == max_steps) {
            verdict = LINEAR_UNDECIDED;
            break;
        }
        if (at->call) {
            at = advance(&self, at) ? self.head.next : at->next;
            continue;
        }
        if (self.n_steps == 0) {
            verdict = LINEAR_NO;
            break;
        }
        at = go_back(&self);
    }
    free(self.done);
    free(self.steps);
    free(self.events);
    free(self.memo);
    free(self.places);
    return verdict;
}

/* ---- the report ---- */

static int by_call(const void *a, const void *b) {
    const linear_op *x = a, *y = b;
    return x->call_ns < y->call_ns ? -1 : x->call_ns > y->call_ns;
}

void linear_print(const linear_op *ops, size_t n) {
    linear_op *sorted = must(malloc((n + 1) * sizeof *sorted));
    if (n != 0) memcpy(sorted, ops, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_call);
    for (size_t i = 0; i < n; i++) {
        const linear_op *op = &sorted[i];
        int64_t origin = sorted[0].call_ns;
        char to[32] = "never", from[48] = "";
        if (!op->unknown) snprintf(to, sizeof to, "%" PRId64, (op->return_ns - origin) / 1000);
        if (op->kind == LINEAR_SWAP) snprintf(from, sizeof from, " if %" PRIx64, (uint64_t)op->expected);
        printf("    %8" PRId64 " to %8s us, client %u: %s %" PRIx64 "%s%s\n", (op->call_ns - origin) / 1000, to,
               op->who, op->kind == LINEAR_READ ? "read" : "store", (uint64_t)op->value, from,
               op->unknown ? ", unknown" : op->refused ? ", refused" : "");
    }
    free(sorted);
}
