/* SPDX-License-Identifier: MIT */
/* What all lessons share: ending the program with a clear text when a call fails. */
#ifndef LESSON_H
#define LESSON_H

#include <sluice/base.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program unless err is OK. cause may be NULL. */
static inline void must(sluice_err err, const sluice_cause *cause, const char *what)
{
    if (err == SLUICE_OK) return;
    fprintf(stderr, "%s: %s (%s)\n", what, sluice_err_name(err), cause != NULL ? cause->text : sluice_err_text(err));
    exit(1);
}

#endif
