/* SPDX-License-Identifier: MIT */
/* Rule W: when the log (the WAL) may be checkpointed, as a checked state machine without SQLite, time or messages.
 *
 * Why there is a rule. SQLite before 3.51.3 (3.50.7, 3.44.6) loses committed rows when a PASSIVE checkpoint starts on a
 * log that is already fully copied, and a commit restarts the log meanwhile: the checkpoint then publishes the length
 * of the old log for the new one, and frames that were never copied count as copied. Source: wal.c, walCheckpoint()
 * and walRestartLog(); sqlite.org/wal.html, "The WAL-Reset Bug".
 *
 *  W1 Nobody checkpoints but the checkpointer, and the writer on its own connection.
 *  W2 One CheckpointRequest is one pass.
 *  W3 The writer asks for a PASSIVE pass only when none is outstanding and a commit that wrote frames happened after
 *     the previous answer arrived and after its own last pass. So a pass always starts on a log that is not fully
 *     copied, and such a log is not restarted by any commit.
 *  W4 TRUNCATE only while the writer is paused, with no transaction.
 *  W5 At start the log is emptied before the first acknowledgement.
 *  W6 After a restart of writer or checkpointer: pause, TRUNCATE, new epoch.
 *  W7 Answers that contradict the rule (tripwires) end the store.
 *
 * States and moves (any other move is a tripwire):
 *
 *      +-- commit: since = true             +-- commit (does not count: it may have come before the pass began)
 *      v                                    v
 *    IDLE --ask, if since--------------> ASKED --answer: since = false--> IDLE
 *      |--own pass begins--> OWN --own pass ended: since = false--> IDLE       (no commit: it is the same thread)
 *      |--pause--> PAUSED --resume, if the log need not be emptied--> IDLE
 *                    |--ask to empty--> EMPTYING --answer; emptied: since, must_empty = false--> PAUSED
 *    any but OWN --peer restarted: epoch + 1, must_empty = true--> PAUSED
 *    any --tripwire--> BROKEN
 *
 * Threads: one at a time (the writer's). Proof: tests/unit/test_rule_w.c explores every interleaving within bounds.
 */
#ifndef SL_RULE_W_H
#define SL_RULE_W_H

#include <stdbool.h>
#include <stdint.h>

typedef enum sl_rule_w_state {
    SL_RULE_W_IDLE = 0,
    SL_RULE_W_ASKED,
    SL_RULE_W_OWN,
    SL_RULE_W_PAUSED,
    SL_RULE_W_EMPTYING,
    SL_RULE_W_BROKEN,
    SL_RULE_W_N_STATES
} sl_rule_w_state;

typedef enum sl_rule_w_event {
    SL_RULE_W_COMMIT = 0, /* a commit wrote frames */
    SL_RULE_W_ASK,        /* a PASSIVE request leaves */
    SL_RULE_W_ANSWER,     /* its answer arrived */
    SL_RULE_W_OWN_BEGIN,  /* the writer starts a pass on its own connection */
    SL_RULE_W_OWN_END,
    SL_RULE_W_PAUSE, /* no transaction is open, and none will begin */
    SL_RULE_W_RESUME,
    SL_RULE_W_ASK_EMPTY, /* a TRUNCATE request leaves */
    SL_RULE_W_ANSWER_EMPTY,
    SL_RULE_W_RESTART, /* the checkpointer ended; what was outstanding will never be answered */
    SL_RULE_W_N_EVENTS
} sl_rule_w_event;

typedef struct sl_rule_w {
    sl_rule_w_state state;
    bool since;            /* a commit that counts for W3 happened */
    bool must_empty;       /* W5, W6: no commit before the log was emptied */
    uint64_t epoch;        /* of the requests; starts at 1 */
    uint64_t frames;       /* in the log, after the latest commit */
    uint64_t frames_asked; /* in the log when the outstanding request left */
    const char *broken;    /* which tripwire; NULL: none */
} sl_rule_w;

/* What a pass reported. log and copied are SQLite's figures, -1: no pass ran. */
typedef struct sl_rule_w_pass {
    bool ok; /* SQLITE_OK */
    int64_t log, copied;
} sl_rule_w_pass;

/* emptied: the log was emptied before anything else ran (W5); else the rule starts PAUSED and must be emptied. */
void sl_rule_w_init(sl_rule_w *rule, bool emptied);

/* Is the event allowed now? */
bool sl_rule_w_may(const sl_rule_w *rule, sl_rule_w_event event);

/* Events. Each returns false, and the rule is BROKEN, if the event was not allowed or a tripwire fired (W7). */
bool sl_rule_w_commit(sl_rule_w *rule, uint64_t frames_in_log);
bool sl_rule_w_ask(sl_rule_w *rule);
/* An answer of another epoch changes nothing and returns true. */
bool sl_rule_w_answer(sl_rule_w *rule, uint64_t epoch, const sl_rule_w_pass *pass);
bool sl_rule_w_own_begin(sl_rule_w *rule);
bool sl_rule_w_own_end(sl_rule_w *rule, const sl_rule_w_pass *pass);
bool sl_rule_w_pause(sl_rule_w *rule);
bool sl_rule_w_resume(sl_rule_w *rule);
bool sl_rule_w_ask_empty(sl_rule_w *rule);
bool sl_rule_w_answer_empty(sl_rule_w *rule, uint64_t epoch, const sl_rule_w_pass *pass);
bool sl_rule_w_restart(sl_rule_w *rule);

const char *sl_rule_w_state_name(sl_rule_w_state state);

#endif
