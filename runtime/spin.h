/* SPDX-License-Identifier: MIT */
/* Spinning before blocking: a thread that will have its next message in a moment looks for it a while before it sleeps.
 *
 * To wake a thread on another CPU costs more than a small request; one that still looks needs no waking. But a CPU that
 * spins is taken from others, so each spinner judges by itself whether it pays: one that ended empty-handed, or whose
 * sched_yield let somebody else run (the CPU is not to spare), skips the next occasions, twice as many each time.
 * Nobody spins while several ports wait (then there is work for every CPU, and who is woken first finds the others'
 * answers there too), nor with a single CPU.
 * Threads: each spinner belongs to one thread.
 */
#ifndef SL_SPIN_H
#define SL_SPIN_H

#include "exchange.h"

typedef struct sl_spin {
    uint32_t skip;    /* occasions left out yet */
    uint32_t penalty; /* as many are left out after the next failure, at least */
} sl_spin;

/* Looks for a batch for at most the runtime's spin_us. NULL: none came, or spinning does not pay now. */
sluice_msg *sl_spin_receive(sl_spin *spin, sl_exchange *exchange);

#endif
