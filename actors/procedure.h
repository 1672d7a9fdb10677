/* SPDX-License-Identifier: MIT */
/* Procedures inside the store: the table of names, and the running of one call. See <sluice/procedure.h>.
 * Threads: the table any; running: the writer's. */
#ifndef SL_PROCEDURE_H
#define SL_PROCEDURE_H

#include <sluice/procedure.h>
#include "conn.h"

typedef struct sl_procedures sl_procedures;

#define SL_PROCEDURE_NAME_MAX 63u

/* NULL: out of memory. */
sl_procedures *sl_procedures_new(void);
void sl_procedures_destroy(sl_procedures **procedures);
/* Errors: EXISTS, INVALID, NOMEM. */
SLUICE_NODISCARD sluice_err sl_procedures_add(sl_procedures *procedures, const char *name, sluice_procedure_fn fn,
                                              void *context);

/* Calls the procedure that `in` names, in the open transaction. run as for sl_conn_run, with an arena: changes are those
 * of all its statements, rows what it gave to the caller. On an error nothing is undone here; the transaction may be
 * gone (autocommit). Errors: NO_PROCEDURE, INVALID (rows; parameters), its own. */
SLUICE_NODISCARD sluice_err sl_procedure_run(sl_procedures *procedures, sl_conn *conn, size_t query_max_bytes,
                                             const Sluice__V1__Statement *in, sl_run *run, sluice_cause *cause);

#endif
