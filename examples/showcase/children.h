/* SPDX-License-Identifier: MIT */
/* The processes of the show: started with a pipe on their stdout, heard through it, ended by their pid.
 *
 * Threads: one.
 */
#ifndef SHOWCASE_CHILDREN_H
#define SHOWCASE_CHILDREN_H

#include "common/tally.h"
#include <stdbool.h>
#include <sys/types.h>

typedef enum child_role { OWNER, WORKER, READER, BUYERS, CONTROL, N_ROLES } child_role;

typedef struct child {
    child_role role;
    char name[32];
    pid_t pid;   /* 0: has ended */
    int output;  /* read end of its stdout; -1: closed */
    int code;    /* exit code; 128 + signal */
    bool done;   /* its last line has come */
    tally tally; /* as in its latest line */
    char line[2048];
    size_t line_size;
    char ready[512]; /* its line that began with "ready ", if any */
} child;

#define MAX_CHILDREN 64

typedef struct children {
    child list[MAX_CHILDREN];
    size_t n;
} children;

/* Starts a program. argv[0] is its path. NULL with a text on stderr. */
child *children_start(children *self, child_role role, const char *name, const char *const *argv);
/* Reads what the children print, for at most timeout_ms. */
void children_listen(children *self, int timeout_ms);
/* Sends a signal to those of a role that live. */
void children_signal(children *self, child_role role, int number);
/* Listens until all of a role have ended. False when timeout_ms passed first. */
bool children_await(children *self, child_role role, int timeout_ms);
/* Ends what still lives: SIGTERM, then SIGKILL after five seconds. */
void children_end(children *self);
/* The sum of a role's counters. */
tally children_tally(const children *self, child_role role);
/* True if a child of this role has ended, or ended with another code than 0. */
bool children_any_ended(const children *self, child_role role);
bool children_any_failed(const children *self, child_role role);
/* Runs a program to its end and gives its exit code; its last line of output goes to last_line (may be NULL), all its
 * output to ours if `show`. */
int run_to_end(const char *const *argv, bool show, char *last_line, size_t last_line_size);

#endif
