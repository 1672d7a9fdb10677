/* SPDX-License-Identifier: MIT */
/* The inside of a group: its slots, and the running of one request (request.c). Threads: the writer's. */
#ifndef SL_GROUP_INTERNAL_H
#define SL_GROUP_INTERNAL_H

#include "group.h"
#include "meta.h"

/* What one statement of a request gave. */
typedef struct sl_outcome {
    uint64_t changes;
    int64_t last_rowid;
    Sluice__V1__Table *rows; /* in the arena of slot->reply */
} sl_outcome;

#define SL_OUTCOMES_INLINE 2
#define SL_TEXT_NO_TRANSACTION "no such transaction is open: it is over, and was not committed"

/* One request of the group, from its arrival to its answer. */
typedef struct sl_slot {
    sluice_msg *request;
    sluice_msg *reply; /* made early when there are rows, or a stored answer; else the request is turned */
    bool final;        /* does not run (again): refused, replayed, same as another, or the one that destroyed a group */
    bool stored;       /* reply is a stored answer, complete */
    bool replayed;     /* to be flagged so in the answer */
    uint32_t same_as;  /* 1 + slot of the same request; 0: none */
    sluice_err err;
    sluice_cause *cause; /* of err; NULL: there was no memory for it */
    size_t n_outcomes;
    sl_outcome *many; /* heap; NULL: few. The slots move when their array grows, so no pointer to few. */
    sl_outcome few[SL_OUTCOMES_INLINE];
    /* receipt */
    sl_session *session; /* NULL: none wanted, or refused */
    int64_t receipt_id;
    uint8_t digest[16];
} sl_slot;

struct sl_group {
    sl_group_options options;
    sl_receipts *receipts;
    sl_meta meta;
    bool ready; /* the store's tables are there and were read */

    sl_slot *slots;
    uint32_t n_slots, room;
    size_t bytes;
    int64_t began_ns, now_ns; /* now: when the latest request came */
    bool in_transaction, has_same, must_commit;
    bool damaged; /* a request found the file corrupt */
    bool leased;  /* the transaction is an interactive one; there are no slots (group_lease.c) */
    sl_run lease_run; /* counts what all its steps write; the log must hold it */
    unsigned replays;
    uint32_t caution; /* so many requests more get a savepoint that would not need one */
    uint64_t number;  /* of the latest committed group */
    uint64_t frames;  /* in the log after the latest commit that wrote */
    bool wrote;       /* the wal hook fired since it was last looked at */
    uint8_t *scratch; /* packed answers for receipts */
    size_t scratch_size;
    sqlite3_stmt *begin, *commit, *rollback, *savepoint, *release, *rollback_to;
};

/* ---- group.c ---- */

/* Begins the transaction. Errors: OVERLOADED (another process has the write lock), as a statement. */
SLUICE_NODISCARD sluice_err sl_group_begin(sl_group *group, sluice_cause *cause);
/* Ends it, if it is still there, and forgets what it would have written. */
void sl_group_rollback(sl_group *group);
/* Takes: request. NULL: out of memory, and the request untouched. */
sl_slot *sl_group_new_slot(sl_group *group, sluice_msg **request);
/* Judges a request that wants a receipt. True: it is to be run; false: the slot is final. */
bool sl_group_admit_receipt(sl_group *group, sl_slot *slot, int64_t now_ns);
/* The store is to end once nothing more is at stake, if the slot's request found the file damaged. */
void sl_group_note_damage(sl_group *group, const sl_slot *slot);
/* Answers all slots; afterwards there are none. */
void sl_group_answer_all(sl_group *group);
/* Answers at once, if somebody asked. Takes: request. */
void sl_group_answer_error(sl_group *group, sluice_msg **request, const sluice_cause *cause);
/* Makes the body (WriteReply) of a reply that already holds rows in its arena. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_reply_body(sluice_msg *reply);

/* ---- request.c ---- */

typedef enum sl_ran {
    SL_RAN_OK = 0,    /* done, in the open transaction */
    SL_RAN_FAILED,    /* slot->err says why; nothing of it is left in the transaction */
    SL_RAN_DESTROYED, /* slot->err says why; the transaction is gone, or holds something that must go */
} sl_ran;

/* Runs a slot's request in the open transaction. */
sl_ran sl_request_run(sl_group *group, sl_slot *slot);
/* Runs a request of an interactive transaction: FAILED means that nothing of it is left and the transaction goes on. */
sl_ran sl_request_step(sl_group *group, sl_slot *slot);
/* What has to hold before COMMIT: no deferred key is violated. Errors: CONSTRAINT. */
SLUICE_NODISCARD sluice_err sl_request_check_keys(const sl_group *group, sluice_cause *cause);
/* Writes the receipt of a slot that has a session, in the open transaction. Errors: as a statement, TOO_BIG, NOMEM. */
SLUICE_NODISCARD sluice_err sl_request_write_receipt(sl_group *group, sl_slot *slot, sluice_cause *cause);
/* Records an error of a slot: takes over cause's content. */
void sl_slot_fail(sl_slot *slot, const sluice_cause *cause);
/* Forgets what an earlier run gave. */
void sl_slot_reset(sl_slot *slot);
static inline sl_outcome *sl_slot_outcomes(sl_slot *slot) { return slot->many != NULL ? slot->many : slot->few; }
/* Fills a WriteReply with the slot's outcomes, allocating in arena. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_slot_results(sl_slot *slot, sl_arena *arena, Sluice__V1__WriteReply *out);
/* An empty message addressed as the answer to `request`. NULL: out of memory. */
sluice_msg *sl_reply_new(const sluice_msg *request);

#endif
