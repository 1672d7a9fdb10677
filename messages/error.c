/* SPDX-License-Identifier: MIT */
/* Error names, texts and causes, all from the one X-macro in <sluice/base.h>. */
#include <sluice/base.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct err_row {
    sluice_err err;
    const char *name, *text;
    bool retryable;
    sluice_applied applied;
} err_row;

static const err_row rows[] = {
#define ROW(NAME, number, name, retryable, applied, text) \
    {SLUICE_##NAME, name, text, retryable, SLUICE_APPLIED_##applied},
    SLUICE_ERR_MAP(ROW)
#undef ROW
};

static const err_row *row_of(sluice_err err) {
    /* Numbers run from 0 without a gap, so the number is the index; the check keeps that true. */
    size_t i = (size_t)err;
    return i < sizeof rows / sizeof rows[0] && rows[i].err == err ? &rows[i] : NULL;
}

const char *sluice_err_name(sluice_err err) {
    const err_row *row = row_of(err);
    return row != NULL ? row->name : "unlisted";
}

const char *sluice_err_text(sluice_err err) {
    const err_row *row = row_of(err);
    return row != NULL ? row->text : "an error this version does not know";
}

bool sluice_err_retryable(sluice_err err) {
    const err_row *row = row_of(err);
    return row != NULL && row->retryable;
}

sluice_applied sluice_err_applied(sluice_err err) {
    const err_row *row = row_of(err);
    return row != NULL ? row->applied : SLUICE_APPLIED_UNKNOWN;
}

sluice_err sluice_cause_set(sluice_cause *cause, sluice_err code, const char *format, ...) {
    if (cause == NULL) return code;
    memset(cause, 0, offsetof(sluice_cause, text));
    cause->code = code;
    cause->statement = -1;
    va_list args;
    va_start(args, format);
    vsnprintf(cause->text, sizeof cause->text, format, args);
    va_end(args);
    return code;
}

sluice_err sluice_cause_wrap(sluice_cause *cause, const char *context) {
    if (cause == NULL) return SLUICE_FAILED;
    char inner[SLUICE_CAUSE_TEXT_SIZE];
    memcpy(inner, cause->text, sizeof inner);
    size_t used = 0;
    int n = snprintf(cause->text, sizeof cause->text, "%s: ", context);
    if (n > 0) used = (size_t)n < sizeof cause->text ? (size_t)n : sizeof cause->text - 1;
    snprintf(cause->text + used, sizeof cause->text - used, "%s", inner);
    return cause->code;
}

const char *sluice_version(void) { return SLUICE_VERSION; }
