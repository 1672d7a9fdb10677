/* SPDX-License-Identifier: MIT */
/* Fuzz target: any text is a key file, with keys that libzmq takes, or is refused with a reason and leaves nothing
 * behind. */
#include "zpl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds) {
    if (!holds) abort();
}

static bool is_empty(const char *field, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (field[i] != '\0') return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sl_cert cert;
    sluice_cause cause = {.code = SLUICE_OK};
    sluice_err err = sl_cert_parse((const char *)data, size, &cert, &cause);
    if (err != SLUICE_OK) {
        require((err == SLUICE_INVALID || err == SLUICE_TOO_BIG) && cause.code == err && cause.text[0] != '\0');
        require(is_empty((const char *)&cert, sizeof cert));
        return 0;
    }
    require(size <= SL_ZPL_MAX && sl_key_is_valid(cert.public_key));
    require(cert.secret_key[0] == '\0' || sl_key_is_valid(cert.secret_key));
    require(memchr(cert.rights, '\0', sizeof cert.rights) != NULL);
    uint8_t fingerprint[SL_USER_SIZE];
    sl_key_fingerprint(cert.public_key, fingerprint);
    /* What was read can be written and is read again. */
    bool both =
        strchr(cert.rights, '"') != NULL && strchr(cert.rights, '\'') != NULL; /* only a bare word can say that */
    char text[512], quote = both ? ' ' : strchr(cert.rights, '"') != NULL ? '\'' : '"';
    int n = snprintf(text, sizeof text, "metadata\n%s%c%s%c\ncurve\n    public-key = \"%s\"\n",
                     cert.rights[0] != '\0' ? "    rights = " : "#", quote, cert.rights, quote, cert.public_key);
    sl_cert again;
    require(n > 0 && sl_cert_parse(text, (size_t)n, &again, &cause) == SLUICE_OK);
    require(strcmp(again.public_key, cert.public_key) == 0 && strcmp(again.rights, cert.rights) == 0);
    return 0;
}
