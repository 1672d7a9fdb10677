/* SPDX-License-Identifier: MIT */
/* Lending: how a store lets clients of its process run reads on their own threads, with no message in between.
 *
 * The store offers a lender under the name of its pool of readers; a client that asks for local leases finds it there.
 * A lender is a function table with a count of holders, so it outlives its store while clients hold it; from then on
 * every read of it says CLOSED.
 */
#ifndef SL_LEND_H
#define SL_LEND_H

#include <sluice/runtime.h>
#include "msg.h"

typedef struct sl_lender sl_lender;

typedef enum sl_lent {
    SL_LENT_DONE,   /* it ran; *err tells how it ended */
    SL_LENT_NONE,   /* no connection is free now: nothing was run, send a message instead */
    SL_LENT_CLOSED, /* the store has closed; the lender is of no use any more */
} sl_lent;

typedef struct sl_lender_ops {
    /* A client begins, and ends, to read. *home is where its reads look for a free connection first. Blocks while a
     * connection is opened. join's errors: those of opening; the client may still read what others left free. */
    sluice_err (*join)(sl_lender *self, unsigned *home, sluice_cause *cause);
    void (*leave)(sl_lender *self);
    /* Runs a QueryRequest on the calling thread; its `from` says who asks, its deadline is kept. now_ns: the time.
     * Borrows: request. Fills: reply, which has an empty QueryReply as its body; on an error what is in it is of no use.
     * When it returns no snapshot is open and no statement busy. Threads: any number. */
    sl_lent (*read)(sl_lender *self, unsigned home, const sluice_msg *request, int64_t now_ns, sluice_msg *reply,
                    sluice_err *err, sluice_cause *cause);
    /* Frees it; nobody holds it. */
    void (*destroy)(sl_lender *self);
} sl_lender_ops;

struct sl_lender {
    const sl_lender_ops *ops;
    _Atomic unsigned holds;
};

/* Offers a lender under a name. Keeps: one hold, until sl_lend_end or the runtime's end. Errors: EXISTS, NOMEM. */
SLUICE_NODISCARD sluice_err sl_lend_offer(sluice_runtime *runtime, const char *name, sl_lender *lender);
void sl_lend_end(sluice_runtime *runtime, const char *name);
/* Gives a hold on the lender of that name; NULL: nobody lends. Threads: any. */
sl_lender *sl_lend_find(sluice_runtime *runtime, const char *name);
sl_lender *sl_lender_hold(sl_lender *lender);
/* NULL-safe, nulls the pointer. */
void sl_lender_drop(sl_lender **lender);

#endif
