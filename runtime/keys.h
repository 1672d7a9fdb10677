/* SPDX-License-Identifier: MIT */
/* Making CURVE keys. Threads: any. */
#ifndef SL_KEYS_H
#define SL_KEYS_H

#include <sluice/base.h>

#define SL_KEY_TEXT_SIZE 41 /* 40 Z85 characters and a zero byte */

/* Makes a new key pair in Z85 text. Errors: UNSUPPORTED (libzmq was built without CURVE).
 * Source: rfc.zeromq.org/spec/32 (Z85), zmq_curve_keypair(3). */
SLUICE_NODISCARD sluice_err sl_keypair(char public_key[SL_KEY_TEXT_SIZE], char secret_key[SL_KEY_TEXT_SIZE],
                                       sluice_cause *cause);

#endif
