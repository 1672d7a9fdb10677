/* SPDX-License-Identifier: MIT */
/* The runtime's list of lenders: a handful of entries, looked at when clients open.
 *
 * Owning thread: any, under the runtime's lock.
 * Messages: none. Invariant: each entry holds its lender once.
 * Stop order: a store ends its offer when it closes; what is left ends with the runtime's memory.
 */
#include "lend.h"

#include <string.h>

#include "runtime_internal.h"

struct sl_lend_entry {
    sl_lend_entry *next;
    sl_lender *lender;
    char name[SL_NAME_MAX + 1];
};

sl_lender *sl_lender_hold(sl_lender *lender) {
    atomic_fetch_add_explicit(&lender->holds, 1, memory_order_relaxed);
    return lender;
}

void sl_lender_drop(sl_lender **lender) {
    sl_lender *self = *lender;
    *lender = NULL;
    if (self != NULL && atomic_fetch_sub_explicit(&self->holds, 1, memory_order_acq_rel) == 1) self->ops->destroy(self);
}

static sl_lend_entry **find(sluice_runtime *runtime, const char *name) {
    sl_lend_entry **at = &runtime->lenders;
    while (*at != NULL && strcmp((*at)->name, name) != 0) at = &(*at)->next;
    return at;
}

sluice_err sl_lend_offer(sluice_runtime *runtime, const char *name, sl_lender *lender) {
    if (strnlen(name, SL_NAME_MAX + 1) > SL_NAME_MAX) return SLUICE_INVALID;
    sl_lend_entry *made = calloc(1, sizeof *made);
    if (made == NULL) return SLUICE_NOMEM;
    memcpy(made->name, name, strlen(name) + 1);
    pthread_mutex_lock(&runtime->lock);
    bool taken = *find(runtime, name) != NULL;
    if (!taken) {
        made->lender = sl_lender_hold(lender);
        made->next = runtime->lenders;
        runtime->lenders = made;
    }
    pthread_mutex_unlock(&runtime->lock);
    if (taken) free(made);
    return taken ? SLUICE_EXISTS : SLUICE_OK;
}

void sl_lend_end(sluice_runtime *runtime, const char *name) {
    pthread_mutex_lock(&runtime->lock);
    sl_lend_entry **at = find(runtime, name), *found = *at;
    if (found != NULL) *at = found->next;
    pthread_mutex_unlock(&runtime->lock);
    if (found == NULL) return;
    sl_lender_drop(&found->lender);
    free(found);
}

sl_lender *sl_lend_find(sluice_runtime *runtime, const char *name) {
    pthread_mutex_lock(&runtime->lock);
    sl_lend_entry *found = *find(runtime, name);
    sl_lender *lender = found != NULL ? sl_lender_hold(found->lender) : NULL;
    pthread_mutex_unlock(&runtime->lock);
    return lender;
}

void sl_lend_free(sluice_runtime *runtime) {
    while (runtime->lenders != NULL) {
        sl_lend_entry *entry = runtime->lenders;
        runtime->lenders = entry->next;
        sl_lender_drop(&entry->lender);
        free(entry);
    }
}
