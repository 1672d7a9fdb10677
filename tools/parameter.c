/* SPDX-License-Identifier: MIT */
#include "parameter.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool read_integer(const char *text, int64_t *out) {
    const char *digits = *text == '-' ? text + 1 : text;
    if (!isdigit((unsigned char)*digits)) return false;
    char *end = NULL;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return !errno && !*end;
}

/* Decimal only: no hexadecimal, no "inf", no spaces, all of which strtod would take. */
static bool read_real(const char *text, double *out) {
    const char *at = *text == '-' ? text + 1 : text;
    if (!isdigit((unsigned char)*at) && *at != '.') return false;
    if (strspn(at, "0123456789.eE+-") != strlen(at)) return false;
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && !*end;
}

/* An integer's text is the one SQLite would print for it; 007 and -0 are text. */
static bool is_plain_integer(const char *text) {
    const char *digits = *text == '-' ? text + 1 : text;
    return digits[0] != '0' || (digits[1] == '\0' && digits == text);
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static sluice_err read_blob(sl_parameter *out, const char *hex, sluice_cause *cause) {
    size_t size = strlen(hex) / 2;
    if (strlen(hex) % 2) return sluice_cause_set(cause, SLUICE_INVALID, "blob:%s has an odd number of digits", hex);
    out->blob = malloc(size + 1);
    if (!out->blob) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        if (high < 0 || low < 0) return sluice_cause_set(cause, SLUICE_INVALID, "blob:%s is not hexadecimal", hex);
        out->blob[i] = (unsigned char)(high * 16 + low);
    }
    out->value = sluice_blob(out->blob, size);
    return SLUICE_OK;
}

static const char *after(const char *text, const char *prefix) {
    size_t size = strlen(prefix);
    return strncmp(text, prefix, size) == 0 ? text + size : NULL;
}

sluice_err sl_parameter_init(sl_parameter *out, const char *argument, sluice_cause *cause) {
    *out = (sl_parameter){.value = sluice_null(), .blob = NULL};
    int64_t integer = 0;
    double real = 0;
    const char *rest;
    if ((rest = after(argument, "text:")) != NULL) {
        out->value = sluice_text(rest);
    } else if ((rest = after(argument, "int:")) != NULL) {
        if (!read_integer(rest, &integer))
            return sluice_cause_set(cause, SLUICE_INVALID, "%s is not a 64-bit integer", argument);
        out->value = sluice_integer(integer);
    } else if ((rest = after(argument, "real:")) != NULL) {
        if (!read_real(rest, &real))
            return sluice_cause_set(cause, SLUICE_INVALID, "%s is not a decimal number", argument);
        out->value = sluice_real(real);
    } else if ((rest = after(argument, "null:")) != NULL) {
        if (*rest) return sluice_cause_set(cause, SLUICE_INVALID, "%s: nothing may follow null:", argument);
    } else if ((rest = after(argument, "blob:")) != NULL) {
        sluice_err err = read_blob(out, rest, cause);
        if (err) sl_parameter_fini(out);
        return err;
    } else if (read_integer(argument, &integer) && is_plain_integer(argument)) {
        out->value = sluice_integer(integer);
    } else if (strpbrk(argument, ".eE") && read_real(argument, &real)) {
        out->value = sluice_real(real);
    } else {
        out->value = sluice_text(argument);
    }
    return SLUICE_OK;
}

void sl_parameter_fini(sl_parameter *parameter) {
    free(parameter->blob);
    *parameter = (sl_parameter){.value = sluice_null(), .blob = NULL};
}
