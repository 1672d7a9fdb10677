/* SPDX-License-Identifier: MIT */
/* Waiters: a thread outside waits for one event on a dispatcher. The waiter lives on the waiting thread's stack.
 *
 * Rule: signal holds the lock to its end and touches nothing of the waiter after unlocking; wait destroys only after
 * it has had the lock, so the signaller is out by then.
 */
#include "runtime_internal.h"

void sl_waiter_init(sl_waiter *waiter) {
    *waiter = (sl_waiter){.err = SLUICE_OK};
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->event, NULL);
}

void sl_waiter_signal(sl_waiter *waiter, sluice_err err, const sluice_cause *cause) {
    pthread_mutex_lock(&waiter->lock);
    waiter->err = err;
    if (cause != NULL) waiter->cause = *cause;
    waiter->done = true;
    pthread_cond_signal(&waiter->event);
    pthread_mutex_unlock(&waiter->lock);
}

sluice_err sl_waiter_wait(sl_waiter *waiter, sluice_cause *cause) {
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->done) pthread_cond_wait(&waiter->event, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
    if (waiter->err != SLUICE_OK && cause != NULL) *cause = waiter->cause;
    pthread_cond_destroy(&waiter->event);
    pthread_mutex_destroy(&waiter->lock);
    return waiter->err;
}
