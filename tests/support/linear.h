/* SPDX-License-Identifier: MIT */
/* Decides whether a history of one register is linearizable: is there an order of its operations that respects real
 * time and in which each gave what a register would have given?
 *
 * Threads: any; no state. Source: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing for
 * linearizability", 2017 (the memo of what was tried).
 */
#ifndef SUPPORT_LINEAR_H
#define SUPPORT_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum linear_kind {
    LINEAR_READ,  /* gave `value` */
    LINEAR_WRITE, /* stored `value` */
    LINEAR_SWAP,  /* stored `value` if the register held `expected`: compare and swap */
} linear_kind;

/* One operation that was done, or may have been. Those that certainly had no effect are left out. */
typedef struct linear_op {
    linear_kind kind;
    bool unknown; /* a WRITE or SWAP without an answer: done at any time after its call, or never */
    bool refused; /* a SWAP that was answered: the register held something else */
    int64_t value, expected;
    int64_t call_ns, return_ns; /* return_ns means nothing if unknown */
    unsigned who;               /* for the reader of a report */
} linear_op;

typedef enum linear_verdict { LINEAR_YES, LINEAR_NO, LINEAR_UNDECIDED /* max_steps were not enough */ } linear_verdict;

/* Operations at the same instant count as concurrent. */
linear_verdict linear_check(const linear_op *ops, size_t n, int64_t initial, uint64_t max_steps);
/* Shows a history in order of its calls. */
void linear_print(const linear_op *ops, size_t n);

#endif
