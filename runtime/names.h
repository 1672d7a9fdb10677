/* SPDX-License-Identifier: MIT */
/* Names: which pid, or pool of pids, lives under a name. Threads: any; one reader-writer lock. */
#ifndef SL_NAMES_H
#define SL_NAMES_H

#include <sluice/base.h>

typedef struct sl_names sl_names;

#define SL_NAME_MAX 63

/* NULL: out of memory. */
sl_names *sl_names_new(void);
void sl_names_destroy(sl_names **names);
/* Puts pid under name; pool: joins the pool of that name. Errors: EXISTS (taken, or a pool meets a single), NOMEM,
 * INVALID (empty or over 63 bytes). */
sluice_err sl_names_add(sl_names *names, const char *name, bool pool, sluice_pid pid);
void sl_names_remove(sl_names *names, const char *name, sluice_pid pid);
/* The pid, or the member of the pool for which load(context, pid) is least; 0 if none. */
typedef uint32_t (*sl_load_fn)(void *context, sluice_pid pid);
sluice_pid sl_names_find(sl_names *names, const char *name, sl_load_fn load, void *context);

#endif
