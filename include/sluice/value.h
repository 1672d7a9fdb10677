/* SPDX-License-Identifier: MIT */
/* SQL values as the client, procedures and tables pass them. Threads: any; these are plain values. */
#ifndef SLUICE_VALUE_H
#define SLUICE_VALUE_H

#include <sluice/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum sluice_type {
    SLUICE_TYPE_NULL = 0,
    SLUICE_TYPE_INTEGER = 1,
    SLUICE_TYPE_REAL = 2,
    SLUICE_TYPE_TEXT = 3,
    SLUICE_TYPE_BLOB = 4
} sluice_type;

/* One SQL value; text and blob are borrowed. */
typedef struct sluice_value {
    sluice_type type;
    int64_t integer;
    double real;
    const void *data;
    size_t size;
} sluice_value;

SLUICE_API sluice_value sluice_null(void);
SLUICE_API sluice_value sluice_integer(int64_t value);
SLUICE_API sluice_value sluice_real(double value);
/* NULL makes an SQL NULL. The text must be UTF-8. */
SLUICE_API sluice_value sluice_text(const char *text);
SLUICE_API sluice_value sluice_text_n(const char *text, size_t size);
/* NULL with size 0 makes an empty blob, NULL with a size an SQL NULL. */
SLUICE_API sluice_value sluice_blob(const void *data, size_t size);

#ifdef __cplusplus
}
#endif
#endif
