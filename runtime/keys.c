/* SPDX-License-Identifier: MIT */
/* Makes CURVE key pairs by libzmq.
 *
 * Not an actor: one plain function for any thread.
 */
#include "keys.h"

#include <errno.h>
#include <zmq.h>

sluice_err sl_keypair(char public_key[SL_KEY_TEXT_SIZE], char secret_key[SL_KEY_TEXT_SIZE], sluice_cause *cause) {
    if (zmq_curve_keypair(public_key, secret_key) == 0) return SLUICE_OK;
    int why = errno;
    sluice_err err = sluice_cause_set(cause, SLUICE_UNSUPPORTED, "no CURVE key: %s", zmq_strerror(why));
    if (cause) cause->sys_errno = why;
    return err;
}
