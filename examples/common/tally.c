/* SPDX-License-Identifier: MIT */
#include "common/tally.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void tally_acknowledge(tally *self, uint64_t took_us)
{
    self->acknowledged++;
    if (took_us > self->slowest_us) self->slowest_us = took_us;
}

void tally_print(FILE *file, const char *word, const tally *self)
{
    fputs(word, file);
#define TALLY_PRINT(name, meaning) fprintf(file, " " #name "=%" PRIu64, self->name);
    TALLY_MAP(TALLY_PRINT)
#undef TALLY_PRINT
    fputc('\n', file);
    fflush(file);
}

/* The number after " name=" in line, 0 if it is not there. */
static uint64_t number_of(const char *line, const char *name)
{
    char key[40];
    snprintf(key, sizeof key, " %s=", name);
    const char *at = strstr(line, key);
    return at == NULL ? 0 : strtoull(at + strlen(key), NULL, 10);
}

bool tally_parse(const char *line, tally *out)
{
    if (strncmp(line, "progress ", 9) != 0 && strncmp(line, "done ", 5) != 0) return false;
#define TALLY_READ(name, meaning) out->name = number_of(line, #name);
    TALLY_MAP(TALLY_READ)
#undef TALLY_READ
    return true;
}

void tally_add(tally *self, const tally *other)
{
    uint64_t rounds = self->rounds > other->rounds ? self->rounds : other->rounds;
    uint64_t slowest = self->slowest_us > other->slowest_us ? self->slowest_us : other->slowest_us;
#define TALLY_ADD(name, meaning) self->name += other->name;
    TALLY_MAP(TALLY_ADD)
#undef TALLY_ADD
    self->rounds = rounds;
    self->slowest_us = slowest;
}
