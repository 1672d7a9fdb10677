/* SPDX-License-Identifier: MIT */
/* Supervision: one-for-one restart of failed actors, with back-off, jitter and a bound on intensity.
 *
 * A supervised child that fails is restarted in place: it keeps its pid, its name and the messages that wait for it;
 * the message that failed it is gone, and its asker was told ACTOR_DOWN. Those who monitor the child get down() at each
 * failure, because the state they relied on is lost. When a child fails more than max_restarts times within
 * within_ms, the supervisor gives up: it stops its children in reverse order and fails itself (escalation).
 */
#ifndef SLUICE_SUPERVISOR_H
#define SLUICE_SUPERVISOR_H

#include <sluice/base.h>
#include <sluice/runtime.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sluice_restart {
    SLUICE_PERMANENT = 0, /* restarted whenever it ends, also after a normal stop of its own */
    SLUICE_TRANSIENT,     /* restarted when it failed */
    SLUICE_TEMPORARY,     /* never restarted */
} sluice_restart;

typedef struct sluice_child {
    sluice_spec spec; /* arg must be usable for every restart */
    sluice_restart restart;
} sluice_child;

typedef struct sluice_supervisor_options {
    const char *name;
    uint32_t max_restarts;   /* default 3 */
    uint32_t within_ms;      /* default 5000 */
    uint32_t backoff_min_ms; /* wait before the first restart; doubles each time; default 10 */
    uint32_t backoff_max_ms; /* default 1000 */
    uint32_t jitter_percent; /* each wait is varied by up to so much; default 20 */
    uint64_t seed;           /* of the jitter; 0: from the clock */
} sluice_supervisor_options;

SLUICE_API void sluice_supervisor_options_init(sluice_supervisor_options *options);

/* Starts a supervisor and its children in order. Blocks until every init has returned; if one fails, those before it
 * are stopped. Gives: *out and, where children_out is not NULL, n_children pids. Borrows: all else.
 * Errors: as sluice_spawn. Threads: any but a dispatcher's. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_supervisor_spawn(sluice_runtime *runtime,
                                                               const sluice_supervisor_options *options,
                                                               const sluice_child *children, size_t n_children,
                                                               sluice_pid *out, sluice_pid *children_out,
                                                               sluice_cause *cause);

#ifdef __cplusplus
}
#endif
#endif
