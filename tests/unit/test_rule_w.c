/* SPDX-License-Identifier: MIT */
/* Rule W against a model of SQLite's WAL: every interleaving of a writer, a checkpointer, a reader and the messages
 * between them, within bounds, with the real rule_w.c taking the decisions. And the same with planted wrong rules,
 * which must lose frames, so that the model is known to see what it looks for.
 *
 * The model has one step per shared-memory access or lock of wal.c. A log is a generation (salts), a length `logged`
 * and `published` (nBackfill). `copied` is the truth: frames of this generation that are in the database file. A commit
 * restarts the log when everything is published as copied, so `published > copied` means lost rows.
 */
#include "support/support.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "rule_w.h"

enum { MAX_FRAMES = 6, MAX_GENERATION = 6, MAX_EPOCH = 3 };

typedef enum policy {
    RULE_AS_IT_IS,
    KEEP_SINCE_AFTER_OWN_PASS,   /* half of W3 missing */
    COUNT_COMMITS_IN_FLIGHT,     /* the other half */
    ANY_TIME,                    /* the checkpointer starts when it likes */
    GO_ON_AFTER_RESTART          /* W6 missing */
} planted;

enum { NO_LOCK = 0, LOCK_ZERO, LOCK_SLOT };                      /* read locks */
enum { W_IDLE = 0, W_BEGUN, W_WRITING, W_OWN_PASS };             /* the writer */
enum { C_OFF = 0, C_BEGUN, C_HEADER, C_SAFE, C_LOCKED, C_EMPTY }; /* a checkpoint */
enum { M_NONE = 0, M_WAITING, M_RUNNING, M_ANSWERED };           /* a request on its way */

typedef struct pass {
    uint8_t at, seen, generation, safe;
} pass;

typedef struct world {
    uint8_t generation, logged, published, copied;
    uint8_t writer, writer_lock, writer_mark;
    uint8_t reader_lock, reader_mark;
    pass theirs, own; /* of the checkpointer, of the writer */
    uint8_t request, request_empties, request_epoch;
    uint8_t stale; /* a request of an older epoch that still waits in the checkpointer's mailbox */
    uint8_t answer_ok;
    int8_t answer_log, answer_copied;
    uint8_t in_flight; /* planted: a commit happened while the request was out */
    /* the rule, packed */
    uint8_t state, since, must_empty, epoch, frames, frames_asked;
} world;

typedef struct node {
    world world;
    uint32_t parent;
    const char *step;
} node;

typedef struct search {
    planted policy;
    node *nodes;
    size_t n, room;
    uint32_t *table; /* index + 1 */
    size_t table_size;
    uint32_t from; /* being expanded */
    const char *broken;
    bool saw_restart, saw_own_complete, saw_emptied, saw_answer;
} search;

static uint64_t hash(const world *w) {
    const unsigned char *p = (const unsigned char *)w;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *w; i++) h = (h ^ p[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static void table_put(search *s, uint32_t index) {
    size_t at = hash(&s->nodes[index].world) & (s->table_size - 1);
    while (s->table[at] != 0) at = (at + 1) & (s->table_size - 1);
    s->table[at] = index + 1;
}

static void add(search *s, const world *w, const char *step) {
    size_t at = hash(w) & (s->table_size - 1);
    for (; s->table[at] != 0; at = (at + 1) & (s->table_size - 1))
        if (memcmp(&s->nodes[s->table[at] - 1].world, w, sizeof *w) == 0) return;
    if (s->n == s->room) {
        s->room = s->room != 0 ? s->room * 2 : 1u << 16;
        s->nodes = realloc(s->nodes, s->room * sizeof *s->nodes);
        assert(s->nodes != NULL);
    }
    s->nodes[s->n] = (node){*w, s->from, step};
    s->n++;
    if (s->n * 2 > s->table_size) {
        free(s->table);
        s->table_size *= 2;
        s->table = calloc(s->table_size, sizeof *s->table);
        assert(s->table != NULL);
        for (uint32_t i = 0; i < s->n; i++) table_put(s, i);
    } else {
        s->table[at] = (uint32_t)s->n;
    }
}

static sl_rule_w rule_of(const world *w) {
    return (sl_rule_w){.state = (sl_rule_w_state)w->state, .since = w->since, .must_empty = w->must_empty,
                       .epoch = w->epoch, .frames = w->frames, .frames_asked = w->frames_asked};
}

static void rule_store(search *s, world *w, const sl_rule_w *rule) {
    w->state = (uint8_t)rule->state;
    w->since = rule->since;
    w->must_empty = rule->must_empty;
    w->epoch = (uint8_t)rule->epoch;
    w->frames = (uint8_t)rule->frames;
    /* Of no meaning once the answer is there; forgotten, so that equal states are seen as equal. */
    w->frames_asked = rule->state == SL_RULE_W_ASKED ? (uint8_t)rule->frames_asked : 0;
    if (rule->state == SL_RULE_W_BROKEN && s->broken == NULL) s->broken = rule->broken;
}

static bool lock_zero_exclusive(const world *w) { return w->theirs.at == C_LOCKED || w->own.at == C_LOCKED; }
/* Paused for TRUNCATE, the checkpointer holds the write lock. */
static bool write_lock_held(const world *w) { return w->theirs.at != C_OFF && w->request_empties; }

static void writer_steps(search *s, const world *w) {
    world next = *w;
    sl_rule_w rule = rule_of(w);
    if (w->writer == W_IDLE && !write_lock_held(w) && sl_rule_w_may(&rule, SL_RULE_W_COMMIT)) {
        next.writer = W_BEGUN;
        if (w->published == w->logged && !lock_zero_exclusive(w)) {
            next.writer_lock = LOCK_ZERO, next.writer_mark = 0;
            add(s, &next, "writer begins on read lock 0");
        } else {
            next.writer_lock = LOCK_SLOT, next.writer_mark = w->logged;
            add(s, &next, "writer begins on a slot");
        }
    }
    if (w->writer == W_BEGUN) {
        next = *w, next.writer = W_WRITING;
        if (w->writer_lock == LOCK_ZERO && w->published > 0 && w->reader_lock != LOCK_SLOT) {
            if (w->generation < MAX_GENERATION) {
                next.generation++, next.logged = next.published = next.copied = 0;
                next.writer_lock = LOCK_SLOT, next.writer_mark = 0;
                s->saw_restart = true;
                add(s, &next, "writer restarts the log");
            }
        } else {
            if (w->writer_lock == LOCK_ZERO) next.writer_lock = LOCK_SLOT, next.writer_mark = w->logged;
            add(s, &next, "writer appends");
        }
    }
    if (w->writer == W_BEGUN || w->writer == W_WRITING) {
        next = *w, next.writer = W_IDLE, next.writer_lock = NO_LOCK, next.writer_mark = 0;
        add(s, &next, "writer rolls back");
    }
    for (uint8_t n = 1; w->writer == W_WRITING && n <= 2 && w->logged + n <= MAX_FRAMES; n++) {
        next = *w, next.writer = W_IDLE, next.writer_lock = NO_LOCK, next.writer_mark = 0;
        next.logged = (uint8_t)(next.logged + n);
        rule = rule_of(w);
        if (w->state == SL_RULE_W_ASKED) next.in_flight = s->policy == COUNT_COMMITS_IN_FLIGHT;
        sl_rule_w_commit(&rule, next.logged);
        rule_store(s, &next, &rule);
        add(s, &next, "writer commits");
    }
}

static void rule_steps(search *s, const world *w) {
    world next;
    sl_rule_w rule = rule_of(w);
    if (w->writer != W_IDLE) return;
    bool mailbox_free = w->request == M_NONE;
    if (mailbox_free && sl_rule_w_may(&rule, SL_RULE_W_ASK)) {
        next = *w, sl_rule_w_ask(&rule), rule_store(s, &next, &rule);
        next.request = M_WAITING, next.request_empties = 0, next.request_epoch = w->epoch;
        add(s, &next, "writer asks for a pass");
    }
    rule = rule_of(w);
    if (w->own.at == C_OFF && sl_rule_w_may(&rule, SL_RULE_W_OWN_BEGIN) && w->theirs.at == C_OFF) {
        next = *w, sl_rule_w_own_begin(&rule), rule_store(s, &next, &rule);
        next.writer = W_OWN_PASS, next.own.at = C_BEGUN;
        add(s, &next, "writer begins its own pass");
    }
    rule = rule_of(w);
    if (sl_rule_w_may(&rule, SL_RULE_W_PAUSE)) {
        next = *w, sl_rule_w_pause(&rule), rule_store(s, &next, &rule);
        add(s, &next, "writer pauses");
    }
    rule = rule_of(w);
    if (sl_rule_w_may(&rule, SL_RULE_W_RESUME)) {
        next = *w, sl_rule_w_resume(&rule), rule_store(s, &next, &rule);
        add(s, &next, "writer resumes");
    }
    rule = rule_of(w);
    if (mailbox_free && sl_rule_w_may(&rule, SL_RULE_W_ASK_EMPTY)) {
        next = *w, sl_rule_w_ask_empty(&rule), rule_store(s, &next, &rule);
        next.request = M_WAITING, next.request_empties = 1, next.request_epoch = w->epoch;
        add(s, &next, "writer asks for TRUNCATE");
    }
    if (w->request == M_ANSWERED) {
        sl_rule_w_pass answer = {w->answer_ok, w->answer_log, w->answer_copied};
        rule = rule_of(w), next = *w;
        if (w->request_empties) {
            sl_rule_w_answer_empty(&rule, w->request_epoch, &answer);
            s->saw_emptied |= w->answer_ok;
        } else {
            sl_rule_w_answer(&rule, w->request_epoch, &answer);
            s->saw_answer = true;
            if (w->in_flight) rule.since = true; /* planted */
        }
        rule_store(s, &next, &rule);
        next.request = M_NONE, next.request_empties = next.request_epoch = next.in_flight = next.answer_ok = 0;
        next.answer_log = next.answer_copied = 0;
        add(s, &next, "the answer arrives");
    }
}

/* The checkpointer's actor ends, and is started again; the writer hears of it in the same step, or the message would
 * still be handled as if the pass ran. What waits in the mailbox survives. */
static void restart_step(search *s, const world *w) {
    sl_rule_w rule = rule_of(w);
    if (w->epoch >= MAX_EPOCH || w->writer == W_OWN_PASS || !sl_rule_w_may(&rule, SL_RULE_W_RESTART)) return;
    if (w->writer != W_IDLE) return; /* the writer handles no message inside a group */
    world next = *w;
    sl_rule_w_restart(&rule);
    if (s->policy == GO_ON_AFTER_RESTART) rule.state = SL_RULE_W_IDLE, rule.must_empty = false;
    rule_store(s, &next, &rule);
    if (w->request == M_WAITING && !w->request_empties) next.stale = 1;
    next.theirs = (pass){0};
    next.request = M_NONE, next.request_empties = next.request_epoch = next.answer_ok = next.in_flight = 0;
    next.answer_log = next.answer_copied = 0;
    add(s, &next, "the checkpointer restarts");
}

static void reader_steps(search *s, const world *w) {
    world next = *w;
    if (w->reader_lock != NO_LOCK) {
        next.reader_lock = NO_LOCK, next.reader_mark = 0;
        add(s, &next, "reader ends");
    } else if (w->published == w->logged && !lock_zero_exclusive(w)) {
        next.reader_lock = LOCK_ZERO;
        add(s, &next, "reader begins on read lock 0");
    } else {
        next.reader_lock = LOCK_SLOT, next.reader_mark = w->logged;
        add(s, &next, "reader begins on a slot");
    }
}

/* The pass is over. log and copied as SQLite reports them. */
static void pass_ends(search *s, const world *w, world next, bool own, bool ok, const char *step) {
    int8_t log = (int8_t)(own ? w->own.seen : w->theirs.seen), copied = (int8_t)next.published;
    if (own) {
        sl_rule_w rule = rule_of(&next);
        sl_rule_w_pass result = {ok, log, copied};
        bool since = rule.since;
        next.own = (pass){0}, next.writer = W_IDLE;
        sl_rule_w_own_end(&rule, &result);
        if (s->policy == KEEP_SINCE_AFTER_OWN_PASS) rule.since = since;
        s->saw_own_complete |= log > 0 && log == copied;
        rule_store(s, &next, &rule);
    } else {
        next.theirs = (pass){0};
        if (next.stale && next.request != M_RUNNING) next.stale = 0; /* its answer goes to nobody */
        if (next.request == M_RUNNING) {
            next.request = M_ANSWERED, next.answer_ok = ok;
            next.answer_log = next.request_empties && ok ? 0 : log;
            next.answer_copied = next.request_empties && ok ? 0 : copied;
        }
    }
    add(s, &next, step);
}

static void pass_steps(search *s, const world *w, bool own) {
    const pass *p = own ? &w->own : &w->theirs;
    world next = *w;
    pass *q = own ? &next.own : &next.theirs;
    bool empties = !own && w->request == M_RUNNING && w->request_empties;
    switch (p->at) {
    case C_BEGUN:
        q->at = C_HEADER, q->seen = w->logged, q->generation = w->generation;
        add(s, &next, own ? "own pass reads the header" : "checkpointer reads the header");
        break;
    case C_HEADER:
        if (w->published < p->seen) {
            uint8_t safe = p->seen;
            if (w->reader_lock == LOCK_SLOT && w->reader_mark < safe) safe = w->reader_mark;
            if (w->writer_lock == LOCK_SLOT && w->writer_mark < safe) safe = w->writer_mark;
            if (w->published < safe) {
                q->at = C_SAFE, q->safe = safe;
                add(s, &next, "finds what is safe to copy");
            } else {
                pass_ends(s, w, next, own, !empties, "a reader blocks the pass");
            }
        } else if (empties) {
            q->at = C_EMPTY;
            add(s, &next, "has nothing left to copy");
        } else {
            pass_ends(s, w, next, own, true, "has nothing to copy");
        }
        break;
    case C_SAFE:
        if (w->reader_lock == LOCK_ZERO || w->writer_lock == LOCK_ZERO || lock_zero_exclusive(w)) {
            pass_ends(s, w, next, own, !empties, "read lock 0 is taken");
        } else {
            q->at = C_LOCKED;
            add(s, &next, "takes read lock 0");
        }
        break;
    case C_LOCKED:
        next.published = p->safe;
        if (p->generation == w->generation && next.copied < p->safe) next.copied = p->safe;
        if (empties && p->safe == p->seen) {
            q->at = C_EMPTY;
            add(s, &next, "publishes what it copied");
        } else {
            pass_ends(s, w, next, own, !empties, "publishes what it copied, and ends");
        }
        break;
    case C_EMPTY:
        if (w->reader_lock == LOCK_SLOT || w->generation >= MAX_GENERATION) {
            pass_ends(s, w, next, own, false, "a reader keeps the log from being emptied");
        } else {
            next.generation++, next.logged = next.published = next.copied = 0;
            pass_ends(s, w, next, own, true, "empties the log");
        }
        break;
    default: break;
    }
}

static void checkpointer_starts(search *s, const world *w) {
    if (w->theirs.at != C_OFF || w->own.at != C_OFF) return;
    world next = *w;
    next.theirs.at = C_BEGUN;
    if (s->policy == ANY_TIME) {
        add(s, &next, "checkpointer starts when it likes");
    } else if (w->stale && w->request != M_RUNNING) {
        add(s, &next, "checkpointer starts on a request of an older epoch");
    } else if (w->request == M_WAITING && !(w->request_empties && w->writer != W_IDLE)) {
        next.request = M_RUNNING;
        add(s, &next, "checkpointer starts on the request");
    }
}

static void expand(search *s, const world *w) {
    writer_steps(s, w);
    rule_steps(s, w);
    restart_step(s, w);
    reader_steps(s, w);
    checkpointer_starts(s, w);
    pass_steps(s, w, false);
    pass_steps(s, w, true);
}

static void print_schedule(const search *s, uint32_t index) {
    const char *steps[256];
    size_t n = 0;
    for (; index != 0 && n < 256; index = s->nodes[index].parent) steps[n++] = s->nodes[index].step;
    while (n > 0) print_message("    %s\n", steps[--n]);
}

/* Explores; returns the index of the first world that lost frames, 0 if there is none. */
static uint32_t explore(search *s, planted policy) {
    *s = (search){.policy = policy, .table_size = 1u << 17};
    s->table = calloc(s->table_size, sizeof *s->table);
    assert_non_null(s->table);
    sl_rule_w rule;
    sl_rule_w_init(&rule, true);
    world first;
    memset(&first, 0, sizeof first);
    rule_store(s, &first, &rule);
    add(s, &first, "start");
    for (uint32_t i = 0; i < s->n; i++) {
        world w = s->nodes[i].world;
        if (w.published > w.copied) return i;
        /* After a tripwire the process ends. */
        if (w.state == SL_RULE_W_BROKEN) continue;
        s->from = i;
        expand(s, &w);
    }
    return 0;
}

static void search_fini(search *s) {
    free(s->nodes);
    free(s->table);
}

static void rule_w_never_loses_a_frame_and_never_cries_wolf(void **unused) {
    (void)unused;
    search s;
    uint32_t lost = explore(&s, RULE_AS_IT_IS);
    print_message("%zu states\n", s.n);
    if (lost != 0) print_schedule(&s, lost);
    assert_int_equal(lost, 0);
    if (s.broken != NULL) print_message("tripwire: %s\n", s.broken);
    assert_null(s.broken);
    /* The model went where it matters. */
    assert_true(s.saw_restart && s.saw_own_complete && s.saw_emptied && s.saw_answer);
    search_fini(&s);
}

static void must_lose(planted policy) {
    search s;
    uint32_t lost = explore(&s, policy);
    print_message("%zu states\n", s.n);
    if (lost != 0) print_schedule(&s, lost);
    assert_int_not_equal(lost, 0);
    search_fini(&s);
}

static void keeping_since_after_the_writers_own_pass_loses_frames(void **unused) {
    (void)unused;
    must_lose(KEEP_SINCE_AFTER_OWN_PASS);
}
static void counting_a_commit_made_while_a_request_is_out_loses_frames(void **unused) {
    (void)unused;
    must_lose(COUNT_COMMITS_IN_FLIGHT);
}
static void a_checkpointer_that_starts_when_it_likes_loses_frames(void **unused) {
    (void)unused;
    must_lose(ANY_TIME);
}
static void going_on_after_a_restart_without_emptying_the_log_loses_frames(void **unused) {
    (void)unused;
    must_lose(GO_ON_AFTER_RESTART);
}

/* ---- the machine by itself ---- */

static const sl_rule_w_pass complete = {true, 10, 10};

static void a_request_needs_a_commit_after_the_last_answer_and_after_the_last_own_pass(void **unused) {
    (void)unused;
    sl_rule_w rule;
    sl_rule_w_init(&rule, true);
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_ASK));
    assert_true(sl_rule_w_commit(&rule, 10));
    assert_true(sl_rule_w_ask(&rule));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_ASK));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_OWN_BEGIN));
    assert_true(sl_rule_w_commit(&rule, 12));
    assert_true(sl_rule_w_answer(&rule, rule.epoch, &(sl_rule_w_pass){true, 11, 11}));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_ASK));
    assert_true(sl_rule_w_commit(&rule, 13));
    assert_true(sl_rule_w_may(&rule, SL_RULE_W_ASK));
    assert_true(sl_rule_w_own_begin(&rule));
    assert_true(sl_rule_w_own_end(&rule, &(sl_rule_w_pass){true, 13, 13}));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_ASK));
    assert_true(sl_rule_w_commit(&rule, 1));
    assert_true(sl_rule_w_may(&rule, SL_RULE_W_ASK));
}

static void answers_that_cannot_be_trip_the_wire(void **unused) {
    (void)unused;
    static const sl_rule_w_pass bad[] = {{true, 10, 11}, {true, 9, 9}, {true, 0, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sl_rule_w rule;
        sl_rule_w_init(&rule, true);
        assert_true(sl_rule_w_commit(&rule, 10) && sl_rule_w_ask(&rule));
        assert_false(sl_rule_w_answer(&rule, rule.epoch, &bad[i]));
        assert_int_equal(rule.state, SL_RULE_W_BROKEN);
        assert_non_null(rule.broken);
        assert_false(sl_rule_w_commit(&rule, 11));
        sl_rule_w_init(&rule, true);
        assert_true(sl_rule_w_commit(&rule, 10) && sl_rule_w_own_begin(&rule));
        assert_false(sl_rule_w_own_end(&rule, &bad[i]));
    }
}

static void a_restart_pauses_until_the_log_is_emptied_in_the_new_epoch(void **unused) {
    (void)unused;
    sl_rule_w rule;
    sl_rule_w_init(&rule, true);
    assert_true(sl_rule_w_commit(&rule, 10) && sl_rule_w_ask(&rule));
    uint64_t old = rule.epoch;
    assert_true(sl_rule_w_restart(&rule));
    assert_int_equal(rule.epoch, old + 1);
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_COMMIT));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_RESUME));
    assert_true(sl_rule_w_answer(&rule, old, &complete)); /* late, of the old epoch: ignored */
    assert_true(sl_rule_w_ask_empty(&rule));
    assert_true(sl_rule_w_answer_empty(&rule, rule.epoch, &(sl_rule_w_pass){false, 10, 4})); /* busy */
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_RESUME));
    assert_true(sl_rule_w_ask_empty(&rule));
    assert_true(sl_rule_w_answer_empty(&rule, rule.epoch, &(sl_rule_w_pass){true, 0, 0}));
    assert_true(sl_rule_w_resume(&rule));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_ASK));
}

static void a_start_without_an_emptied_log_allows_no_commit(void **unused) {
    (void)unused;
    sl_rule_w rule;
    sl_rule_w_init(&rule, false);
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_COMMIT));
    assert_false(sl_rule_w_resume(&rule));
    assert_int_equal(rule.state, SL_RULE_W_BROKEN);
}

static void a_pass_that_did_not_run_empties_nothing(void **unused) {
    (void)unused;
    sl_rule_w rule;
    sl_rule_w_init(&rule, false);
    assert_true(sl_rule_w_ask_empty(&rule));
    assert_true(sl_rule_w_answer_empty(&rule, rule.epoch, &(sl_rule_w_pass){true, -1, -1}));
    assert_false(sl_rule_w_may(&rule, SL_RULE_W_RESUME));
}

/* A transaction that spilled its cache restarts the log, and is rolled back: the log is empty, and nothing is wrong. */
static void a_log_restarted_by_a_transaction_that_rolled_back_is_no_tripwire(void **unused) {
    (void)unused;
    sl_rule_w rule;
    sl_rule_w_init(&rule, true);
    assert_true(sl_rule_w_commit(&rule, 10) && sl_rule_w_own_begin(&rule));
    assert_true(sl_rule_w_own_end(&rule, &complete));
    assert_true(sl_rule_w_own_begin(&rule));
    assert_true(sl_rule_w_own_end(&rule, &(sl_rule_w_pass){true, 0, 0}));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rule_w_never_loses_a_frame_and_never_cries_wolf),
        cmocka_unit_test(keeping_since_after_the_writers_own_pass_loses_frames),
        cmocka_unit_test(counting_a_commit_made_while_a_request_is_out_loses_frames),
        cmocka_unit_test(a_checkpointer_that_starts_when_it_likes_loses_frames),
        cmocka_unit_test(going_on_after_a_restart_without_emptying_the_log_loses_frames),
        cmocka_unit_test(a_request_needs_a_commit_after_the_last_answer_and_after_the_last_own_pass),
        cmocka_unit_test(answers_that_cannot_be_trip_the_wire),
        cmocka_unit_test(a_restart_pauses_until_the_log_is_emptied_in_the_new_epoch),
        cmocka_unit_test(a_start_without_an_emptied_log_allows_no_commit),
        cmocka_unit_test(a_pass_that_did_not_run_empties_nothing),
        cmocka_unit_test(a_log_restarted_by_a_transaction_that_rolled_back_is_no_tripwire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
