/* SPDX-License-Identifier: MIT */
/* Key files: a small and strict reader of ZPL, as CZMQ, pyzmq and `sluice keygen` write it.
 *
 *     metadata
 *         rights = "write"
 *     curve
 *         public-key = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
 *         secret-key = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
 *
 * Source: rfc.zeromq.org/spec/4 (ZPL), czmq zcert(3). Threads: any.
 */
#ifndef SL_ZPL_H
#define SL_ZPL_H

#include "keys.h"

#define SL_ZPL_MAX 16384u /* bytes of a file */

/* What a key file says. A text that it does not say is "". */
typedef struct sl_cert {
    char public_key[SL_KEY_TEXT_SIZE];
    char secret_key[SL_KEY_TEXT_SIZE];
    char rights[16]; /* metadata/rights, as it stands */
} sl_cert;

/* Reads one whole text. Other names than those above are passed over, but must be ZPL.
 * Errors: INVALID (with the line: not ZPL, no public key, something said twice or no key), TOO_BIG. */
SLUICE_NODISCARD sluice_err sl_cert_parse(const char *text, size_t size, sl_cert *out, sluice_cause *cause);
/* Reads a file, and checks that its two keys are a pair. A file with a secret in it must be readable by its owner
 * alone, any other writable by its owner alone; the owner is we ourselves or root (root itself may read anybody's).
 * Errors: as parse; SYSTEM (cannot be read), FORBIDDEN (mode or owner). */
SLUICE_NODISCARD sluice_err sl_cert_load(const char *path, sl_cert *out, sluice_cause *cause);
/* As load, for a secret: tries path, then path with "_secret" behind it, so that PATH.key stands for the pair.
 * Errors: as load; INVALID (neither holds a secret key). */
SLUICE_NODISCARD sluice_err sl_cert_load_secret(const char *path, sl_cert *out, sluice_cause *cause);
/* Reads a public key that is given as 40 letters of Z85 or as the path of a key file. */
SLUICE_NODISCARD sluice_err sl_public_key_read(const char *text_or_path, char out[SL_KEY_TEXT_SIZE],
                                               sluice_cause *cause);
/* Wipes what is secret. */
void sl_cert_wipe(sl_cert *cert);

#endif
