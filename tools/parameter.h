/* SPDX-License-Identifier: MIT */
/* Parameters of a statement as typed on the command line.
 *
 *   int:-7  real:1e3  text:anything  blob:00ff  null:     says the type; what does not fit is refused
 *   -7  0  42                                             a whole number that fits in 64 bits: an integer
 *   1.5  -2e3  .5                                         a decimal number with a point or exponent: a real
 *   anything else                                         text, also 007, +1 and numbers too long for an integer
 *
 * Threads: any.
 */
#ifndef SL_PARAMETER_H
#define SL_PARAMETER_H

#include <sluice/value.h>

#define SL_PARAMETER_HELP                                                                                              \
    "A PARAM that looks like a whole number binds as an integer, one with a point or exponent as a real, all else as " \
    "text. int:N, real:X, text:T, blob:HEX and null: say the type."

typedef struct sl_parameter {
    sluice_value value; /* text is borrowed from the argument, a blob is in `blob` */
    unsigned char *blob;
} sl_parameter;

/* Reads one argument, which must outlive *out. Errors: INVALID (cause says why), NOMEM. */
SLUICE_NODISCARD sluice_err sl_parameter_init(sl_parameter *out, const char *argument, sluice_cause *cause);
void sl_parameter_fini(sl_parameter *parameter);

#endif
