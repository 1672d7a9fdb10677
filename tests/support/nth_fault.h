/* SPDX-License-Identifier: MIT */
/* The n-th operation fails: a VFS that counts, a scenario that uses all of a store, and what must be true afterwards.
 *
 * One iteration is two processes. The first runs the scenario with the fault armed and writes down how each request
 * ended; the second opens the file again without faults and compares. Whoever crashes, hangs or finds something wrong
 * makes the iteration fail, with the reason in `text`.
 *
 * Threads: the parent must have none, for it forks; what is shared between the processes is atomic or handed over by
 * waitpid.
 */
#ifndef NTH_FAULT_H
#define NTH_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define NTH_VFS_NAME "nth"
#define NTH_REQUESTS 64

typedef enum nth_kind {
    NTH_EIO = 0, /* read, write, sync, truncate, open, delete, size, access, shared memory: an I/O error */
    NTH_FULL,    /* write: no space */
    NTH_SHORT,   /* write: half of it, then no space */
    NTH_LATE,    /* write: all of it, and yet no space is said */
    NTH_SYNC,    /* sync: an I/O error */
    NTH_MEMORY,  /* an allocation of SQLite's gives NULL */
    NTH_OWN_MEMORY, /* an allocation of Sluice's gives NULL */
    NTH_KINDS
} nth_kind;

/* What comes after the n-th operation has failed. */
typedef enum nth_then {
    NTH_ONCE = 0, /* all goes well again */
    NTH_FOREVER,  /* every later one fails too */
    NTH_KILLED,   /* the next answer is the last thing that the process sees */
} nth_then;

typedef struct nth_fault {
    nth_kind kind;
    nth_then then;
    uint64_t n;              /* from 1 */
    _Atomic bool armed;
    _Atomic uint64_t count;  /* operations of this kind since it was armed */
    _Atomic uint64_t hits;   /* faults given */
    int results[NTH_REQUESTS]; /* sluice_err of each request; -1: never sent; UNKNOWN while it is under way */
    int open_result;
    _Atomic int fatal_calls;
    char text[300];          /* what went wrong; "" if nothing did */
} nth_fault;

/* Gives the shared state of this process and its children. */
nth_fault *nth_fault_new(void);
void nth_fault_destroy(nth_fault **fault);

/* Does an operation of this kind fail now? Counts it. For allocators; the VFS asks for itself. Threads: any. */
bool nth_fault_strikes(nth_kind kind);

/* Runs one iteration in a directory of its own. Returns true if the fault was hit; fault->text says what went wrong. */
bool nth_fault_iterate(nth_fault *fault, nth_kind kind, nth_then then, uint64_t n);

#endif
