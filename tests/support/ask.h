/* SPDX-License-Identifier: MIT */
/* Asking a store's actors from a test, through a port: statements in, a reply or a cause out.
 *
 * Threads: as a port. Every function fails the test where the product returns an error for lack of memory, so call them
 * on the test's thread only, but for those that end in _quiet, which return what went wrong.
 */
#ifndef SUPPORT_ASK_H
#define SUPPORT_ASK_H

#include "port.h"
#include "msg.h"

/* A request with no statement yet. NULL: out of memory. */
sluice_msg *support_query_new(void);
sluice_msg *support_write_new(void);
/* Adds a statement with n integer parameters (n at most 8). False: out of memory. */
bool support_add(sluice_msg *request, const char *sql, size_t n, const int64_t *params);

/* Sends an ask that is wanted for timeout_ms; *correlation tells its reply. Takes: request (always). */
sluice_err support_send_quiet(sl_port *port, sluice_pid to, sluice_msg **request, uint32_t timeout_ms,
                              uint64_t *correlation);
/* Waits for any reply. OK with *reply (caller destroys), or the error it carries. correlation may be NULL. */
sluice_err support_wait_quiet(sl_port *port, uint32_t timeout_ms, sluice_msg **reply, uint64_t *correlation,
                              sluice_cause *cause);
/* Both; replies to others are dropped. reply may be NULL. */
sluice_err support_ask_quiet(sl_port *port, sluice_pid to, sluice_msg **request, uint32_t timeout_ms,
                             sluice_msg **reply, sluice_cause *cause);

/* One statement with n integer parameters, sent to the pool's or writer's member of the store "app". */
sluice_err support_read(sl_port *port, const char *sql, size_t n, const int64_t *params, int64_t *first,
                        sluice_cause *cause);
sluice_err support_write(sl_port *port, const char *sql, size_t n, const int64_t *params, sluice_cause *cause);

/* The integer in row 0, column 0 of result `at` of a QueryReply; INT64_MIN if there is none. */
int64_t support_result(const sluice_msg *reply, size_t at);

#endif
