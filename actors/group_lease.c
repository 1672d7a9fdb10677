/* SPDX-License-Identifier: MIT */
/* An interactive transaction, in place of a group: begin, steps that are answered at once, and one commit.
 *
 * Owning thread: the writer's. Who may hold it, for how long and who waits is writer_lease.c's; here is what it does to the file.
 *
 *   EMPTY --begin--> LEASED --step--> LEASED (a failed step is undone)
 *                      |  `--step destroys the transaction--> EMPTY, TRANSACTION_EXPIRED
 *                      |--rollback--> EMPTY
 *                      `--commit: keys, receipt, then as any group: COMMIT, commit number, answer--> EMPTY
 *
 * Invariants
 *  1. While leased the group has no slots, so no group can be committed with it; the commit's own slot is the first.
 *  2. A step's answer promises nothing that outlives the transaction: its commit number is 0.
 *  3. TRANSACTION_EXPIRED to a commit that wants a receipt is given only when there is none: the transaction is open, so
 *     it was not committed; or it is over, and the receipts were looked at (resolve).
 *  4. The commit goes the way of every group (group.c), so that its fail-stop rules hold for it too.
 */
#include "group_internal.h"

#include "codec.h"
#include "port.h"
#include "require.h"

sluice_err sl_group_lease_begin(sl_group *self, sluice_cause *cause) {
    SL_REQUIRE(!self->leased && self->n_slots == 0 && !self->in_transaction);
    sluice_err err = sl_store_check(self->options.store, cause);
    if (err == SLUICE_OK) err = sl_group_prepare(self, cause);
    if (err == SLUICE_OK) err = sl_group_begin(self, cause);
    if (err != SLUICE_OK) return err;
    sqlite3_set_last_insert_rowid(sl_conn_db(self->options.conn), 0);
    self->lease_run = (sl_run){.begun = false};
    self->leased = true;
    return SLUICE_OK;
}

void sl_group_lease_rollback(sl_group *self) {
    if (!self->leased) return;
    self->leased = false;
    if (sl_store_check(self->options.store, NULL) == SLUICE_OK)
        sl_group_rollback(self);
    else
        self->in_transaction = false; /* the store has ended: what is open is never touched again */
}

/* ---- steps ---- */

static void answer_step(sl_group *self, sl_slot *slot) {
    sluice_cause cause;
    if (slot->reply == NULL) slot->reply = sl_reply_new(slot->request);
    sluice_err err = slot->reply != NULL ? sl_reply_body(slot->reply) : SLUICE_NOMEM;
    if (err == SLUICE_OK)
        err = sl_slot_results(slot, &slot->reply->arena, (Sluice__V1__WriteReply *)slot->reply->body);
    if (err == SLUICE_OK && sluice_msg_is_ask(slot->request)) {
        self->options.answer(self->options.context, &slot->reply);
    } else if (err != SLUICE_OK) { /* it was done, but how it went cannot be said */
        (void)sluice_cause_set(&cause, SLUICE_UNKNOWN, "out of memory for the answer");
        sl_group_answer_error(self, &slot->request, &cause);
    }
}

static void answer_failed_step(sl_group *self, sl_slot *slot, bool over) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, slot->err, "%s", sluice_err_text(slot->err));
    if (slot->cause != NULL) cause = *slot->cause;
    if (over) {
        (void)sluice_cause_wrap(&cause, "the transaction was rolled back");
        cause.code = SLUICE_TRANSACTION_EXPIRED;
    }
    sl_group_answer_error(self, &slot->request, &cause);
}

bool sl_group_lease_step(sl_group *self, sluice_msg **request) {
    sl_slot slot = {.request = *request};
    const Sluice__V1__WriteRequest *body = sluice_msg_body(slot.request);
    sluice_cause cause = {.statement = -1};
    bool over = false;
    *request = NULL;
    sluice_err err = sl_store_check(self->options.store, &cause);
    if (err != SLUICE_OK) {
        over = true;
    } else if (slot.request->deadline_ns != 0 && sl_now_ns() >= slot.request->deadline_ns) {
        err = sluice_cause_set(&cause, SLUICE_EXPIRED, "the deadline passed while the request waited");
        sl_count(self->options.store, expired, 1);
    } else if (body->n_statements == 0 || body->receipt) {
        err = sluice_cause_set(&cause, SLUICE_INVALID, body->receipt ? "a receipt is for the commit, not for a step of a "
                               "transaction" : "the request holds no statement");
    }
    if (err != SLUICE_OK) {
        sl_group_answer_error(self, &slot.request, &cause);
    } else {
        sl_ran ran = sl_request_step(self, &slot);
        if (ran != SL_RAN_OK) sl_group_note_damage(self, &slot);
        over = ran == SL_RAN_DESTROYED || self->damaged;
        if (ran == SL_RAN_OK)
            answer_step(self, &slot);
        else
            answer_failed_step(self, &slot, over);
    }
    sluice_msg_destroy(&slot.request);
    sl_slot_reset(&slot);
    if (over) sl_group_lease_rollback(self);
    self->options.flush(self->options.context);
    if (self->damaged) (void)!sl_group_commit(self); /* nothing is in it: it ends the store */
    return !over;
}

/* ---- the end ---- */

/* A slot for a request that ends a transaction. NULL: it was answered. */
static sl_slot *slot_of_end(sl_group *self, sluice_msg **request) {
    sluice_cause cause;
    if ((*request)->deadline_ns != 0 && sl_now_ns() >= (*request)->deadline_ns) {
        (void)sluice_cause_set(&cause, SLUICE_EXPIRED, "the deadline passed while the request waited");
        sl_count(self->options.store, expired, 1);
        sl_group_answer_error(self, request, &cause);
        return NULL;
    }
    sl_slot *slot = sl_group_new_slot(self, request);
    if (slot != NULL) return slot;
    (void)sluice_cause_set(&cause, SLUICE_NOMEM, "out of memory");
    sl_group_answer_error(self, request, &cause);
    return NULL;
}

bool sl_group_lease_commit(sl_group *self, sluice_msg **request, bool *committed) {
    *committed = false;
    sluice_cause cause = {.statement = -1};
    sl_slot *slot = slot_of_end(self, request);
    if (slot == NULL) return true;
    const Sluice__V1__TransactionEnd *body = sluice_msg_body(slot->request);
    if (body->receipt && !sl_group_admit_receipt(self, slot, sl_now_ns())) {
        sl_group_answer_all(self); /* refused, or not its first commit: the transaction goes on, as far as its lease */
        return true;
    }
    sluice_err err = sl_store_check(self->options.store, &cause);
    if (err == SLUICE_OK) err = sl_request_check_keys(self, &cause);
    if (err == SLUICE_OK && slot->session != NULL) err = sl_request_write_receipt(self, slot, &cause);
    if (err != SLUICE_OK) {
        if (err != SLUICE_FATAL && sluice_err_applied(err) != SLUICE_APPLIED_NO) cause.code = SLUICE_FAILED;
        sl_slot_fail(slot, &cause);
        slot->final = true;
        sl_group_lease_rollback(self);
    }
    self->leased = false;
    *committed = sl_group_commit(self) == SLUICE_OK && err == SLUICE_OK; /* everybody was told */
    return false;
}

void sl_group_lease_resolve(sl_group *self, sluice_msg **request) {
    SL_REQUIRE(!self->leased);
    sluice_cause cause = {.statement = -1};
    if (sl_store_check(self->options.store, &cause) != SLUICE_OK || sl_group_prepare(self, &cause) != SLUICE_OK) {
        sl_group_refuse(self, request, &cause);
        return;
    }
    sl_slot *slot = slot_of_end(self, request);
    if (slot == NULL) return;
    const Sluice__V1__TransactionEnd *body = sluice_msg_body(slot->request);
    if (body->receipt && !sl_group_admit_receipt(self, slot, sl_now_ns())) return;
    (void)sluice_cause_set(&cause, SLUICE_TRANSACTION_EXPIRED, "%s", SL_TEXT_NO_TRANSACTION);
    sl_slot_fail(slot, &cause);
    slot->final = true;
}
