/* SPDX-License-Identifier: MIT */
/* The state machine of rule W; the rule, its reason and the diagram are in rule_w.h.
 *
 * Owning thread: the writer's. Messages: none, the checkpoint driver calls it. Invariants:
 *  1. `since` is true only if the log holds frames that no pass has been asked to copy yet: it is set by a commit in
 *     IDLE alone, and cleared whenever a pass (asked for, own, or emptying) has ended.
 *  2. At most one pass is outstanding, and while one is (ASKED, EMPTYING) no own pass runs.
 *  3. In PAUSED and EMPTYING no commit happens.
 *  4. BROKEN is final.
 */
#include "rule_w.h"

#include <stddef.h>

#define STAY(state) SL_RULE_W_##state
#define NO SL_RULE_W_BROKEN

/* The table of moves: row is the state, column the event. NO: not allowed. */
static const sl_rule_w_state moves[SL_RULE_W_N_STATES][SL_RULE_W_N_EVENTS] = {
    /*              commit         ask             answer         own begin     own end        */
    [SL_RULE_W_IDLE] = {STAY(IDLE), SL_RULE_W_ASKED, NO, SL_RULE_W_OWN, NO,
                        /* pause, resume, ask empty, answer empty, restart */
                        SL_RULE_W_PAUSED, NO, NO, NO, SL_RULE_W_PAUSED},
    [SL_RULE_W_ASKED] = {STAY(ASKED), NO, SL_RULE_W_IDLE, NO, NO,
                         /* */ NO, NO, NO, NO, SL_RULE_W_PAUSED},
    [SL_RULE_W_OWN] = {NO, NO, NO, NO, SL_RULE_W_IDLE,
                       /* */ NO, NO, NO, NO, NO},
    [SL_RULE_W_PAUSED] = {NO, NO, NO, NO, NO,
                          /* */ NO, SL_RULE_W_IDLE, SL_RULE_W_EMPTYING, NO, STAY(PAUSED)},
    [SL_RULE_W_EMPTYING] = {NO, NO, NO, NO, NO,
                            /* */ NO, NO, NO, SL_RULE_W_PAUSED, SL_RULE_W_PAUSED},
    [SL_RULE_W_BROKEN] = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
};

static const char *const event_names[SL_RULE_W_N_EVENTS] = {
    "a commit in a state that forbids it",      "a request that rule W3 forbids",
    "an answer to no request",                  "an own pass that rule W forbids",
    "the end of a pass that did not run",       "a pause that cannot be",
    "a resume before the log was emptied",      "a TRUNCATE while the writer is not paused",
    "an answer to no TRUNCATE",                 "a restart during an own pass",
};

static const char *const state_names[SL_RULE_W_N_STATES] = {"idle", "asked", "own", "paused", "emptying", "broken"};

void sl_rule_w_init(sl_rule_w *rule, bool emptied) {
    *rule = (sl_rule_w){.state = emptied ? SL_RULE_W_IDLE : SL_RULE_W_PAUSED, .must_empty = !emptied, .epoch = 1};
}

bool sl_rule_w_may(const sl_rule_w *rule, sl_rule_w_event event) {
    if (moves[rule->state][event] == SL_RULE_W_BROKEN) return false;
    if (event == SL_RULE_W_ASK) return rule->since;
    if (event == SL_RULE_W_RESUME) return !rule->must_empty;
    return true;
}

static bool trip(sl_rule_w *rule, const char *why) {
    rule->state = SL_RULE_W_BROKEN;
    if (rule->broken == NULL) rule->broken = why;
    return false;
}

static bool move(sl_rule_w *rule, sl_rule_w_event event) {
    if (!sl_rule_w_may(rule, event)) return trip(rule, event_names[event]);
    rule->state = moves[rule->state][event];
    return true;
}

/* W7: what a pass can never report while the rule is kept. `least` is what the log must hold at least. */
static bool credible(sl_rule_w *rule, const sl_rule_w_pass *pass, uint64_t least) {
    if (pass->log < 0) return true; /* no pass ran */
    if (pass->copied > pass->log) return trip(rule, "more frames were checkpointed than logged");
    if ((uint64_t)pass->log < least) return trip(rule, "the log is shorter than when the pass was asked for");
    return true;
}

bool sl_rule_w_commit(sl_rule_w *rule, uint64_t frames_in_log) {
    if (!move(rule, SL_RULE_W_COMMIT)) return false;
    rule->frames = frames_in_log;
    if (rule->state == SL_RULE_W_IDLE) rule->since = true;
    return true;
}

bool sl_rule_w_ask(sl_rule_w *rule) {
    if (!move(rule, SL_RULE_W_ASK)) return false;
    rule->frames_asked = rule->frames;
    return true;
}

bool sl_rule_w_answer(sl_rule_w *rule, uint64_t epoch, const sl_rule_w_pass *pass) {
    if (epoch != rule->epoch) return true;
    if (!move(rule, SL_RULE_W_ANSWER)) return false;
    rule->since = false;
    return credible(rule, pass, pass->ok ? rule->frames_asked : 0);
}

bool sl_rule_w_own_begin(sl_rule_w *rule) { return move(rule, SL_RULE_W_OWN_BEGIN); }

bool sl_rule_w_own_end(sl_rule_w *rule, const sl_rule_w_pass *pass) {
    if (!move(rule, SL_RULE_W_OWN_END)) return false;
    /* Without a commit since the last pass the log may be empty by now: a transaction that spilled its cache restarts
     * a fully copied log even if it is rolled back, and no hook tells. */
    uint64_t least = pass->ok && rule->since ? rule->frames : 0;
    rule->since = false;
    return credible(rule, pass, least);
}

bool sl_rule_w_pause(sl_rule_w *rule) { return move(rule, SL_RULE_W_PAUSE); }
bool sl_rule_w_resume(sl_rule_w *rule) { return move(rule, SL_RULE_W_RESUME); }
bool sl_rule_w_ask_empty(sl_rule_w *rule) { return move(rule, SL_RULE_W_ASK_EMPTY); }

bool sl_rule_w_answer_empty(sl_rule_w *rule, uint64_t epoch, const sl_rule_w_pass *pass) {
    if (epoch != rule->epoch) return true;
    if (!move(rule, SL_RULE_W_ANSWER_EMPTY)) return false;
    rule->since = false;
    if (!pass->ok) return credible(rule, pass, 0); /* busy, or no space: the log stands, ask again */
    if (pass->log > 0) return trip(rule, "a TRUNCATE left frames in the log");
    if (pass->log < 0) return true; /* no pass ran, nothing was emptied */
    rule->must_empty = false;
    rule->frames = 0;
    return true;
}

bool sl_rule_w_restart(sl_rule_w *rule) {
    if (!move(rule, SL_RULE_W_RESTART)) return false;
    rule->epoch++;
    rule->must_empty = true;
    rule->since = false;
    return true;
}

const char *sl_rule_w_state_name(sl_rule_w_state state) {
    return state < SL_RULE_W_N_STATES ? state_names[state] : "unlisted";
}
