/* SPDX-License-Identifier: MIT */
/* The log of acknowledgements, kept outside the database: what a client was promised, one line each.
 *
 * A line leaves by one write(2) with O_APPEND after the acknowledgement arrived, so several threads and processes may
 * share a file, and a killed process leaves whole lines. At the end the judge looks for every line in the database.
 */
#ifndef EXAMPLE_ACKLOG_H
#define EXAMPLE_ACKLOG_H

/* Opens (and makes) the log. Gives: a descriptor, or -1 with errno. path NULL: a log that swallows everything. */
int acklog_open(const char *path);
/* Appends one line; the newline is added. Ends the program if it cannot: a log with holes proves nothing. */
void acklog_add(int log, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
