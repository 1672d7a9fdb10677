/* SPDX-License-Identifier: MIT */
/* The catalog's tables and statements. The workers and the stock-SQLite control group run the same SQL. */
#ifndef CATALOG_SCHEMA_H
#define CATALOG_SCHEMA_H

/* Statements that make the tables, each harmless when repeated; ends with NULL. */
extern const char *const catalog_schema[];

/* How many parts the package list is cut into. A package's slice is a hash of its name, so it does not move when
 * another package comes or goes. */
#define CATALOG_SLICES 64
/* A worker that has not written for so long has lost its slice to whoever asks for one. */
#define CATALOG_LEASE_SECONDS 20

/* Makes a slice's row. 1: number. */
#define CATALOG_SQL_SLICE "INSERT INTO slice(number) VALUES(?1) ON CONFLICT DO NOTHING"

/* Takes the slice that is furthest behind and free, or whose holder is gone. One statement, so two workers cannot get
 * the same one. The lease is measured by the clock of the process that owns the file, not by the workers'.
 * 1: worker, 2: lease in seconds, 3: last round wanted. Returns number, round. */
#define CATALOG_SQL_CLAIM                                                                                              \
    "UPDATE slice SET owner = ?1, lease_until = unixepoch() + ?2 WHERE number = "                                      \
    "(SELECT number FROM slice WHERE round <= ?3 AND (owner IS NULL OR lease_until < unixepoch()) "                    \
    "ORDER BY round, number LIMIT 1) RETURNING number, round"

/* The fence in front of every write of a slice: renews the lease, and changes no row if the slice is another's by now.
 * 1: worker, 2: lease in seconds, 3: number, 4: round. Must change 1 row. */
#define CATALOG_SQL_FENCE                                                                                              \
    "UPDATE slice SET lease_until = unixepoch() + ?2 WHERE number = ?3 AND round = ?4 AND owner = ?1"

/* Replaces a package: its dependencies and files go with the old row. */
#define CATALOG_SQL_FORGET "DELETE FROM package WHERE name = ?1"
/* 1: name, 2: version, 3: architecture, 4: status, 5: section, 6: summary, 7: slice, 8: round, 9: number of
 * dependencies, 10: number of files. */
#define CATALOG_SQL_PACKAGE "INSERT INTO package VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
/* 1: package, 2: kind, 3: position, 4: alternative, 5: target, 6: architecture, 7: relation, 8: version. */
#define CATALOG_SQL_DEPENDENCY "INSERT INTO dependency VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
/* 1: path, 2: package. */
#define CATALOG_SQL_FILE "INSERT INTO file VALUES(?1, ?2)"
/* 1: worker, 2: sequence, 3: package, 4: round. No unique key: a write that was done twice must show. */
#define CATALOG_SQL_LEDGER "INSERT INTO ledger VALUES(?1, ?2, ?3, ?4)"

/* Forgets the packages of a slice that this round did not find. 1: slice, 2: round. */
#define CATALOG_SQL_SWEEP "DELETE FROM package WHERE slice = ?1 AND round < ?2"
/* Ends a slice's round. 1: worker, 2: number, 3: round. Must change 1 row. */
#define CATALOG_SQL_FINISH                                                                                             \
    "UPDATE slice SET owner = NULL, round = round + 1 WHERE number = ?2 AND round = ?3 AND owner = ?1"
/* Gives a slice back undone. 1: worker. */
#define CATALOG_SQL_RELEASE "UPDATE slice SET owner = NULL WHERE owner = ?1"

/* Rounds that are complete: every slice has gone on to a later one. */
#define CATALOG_SQL_ROUNDS "SELECT coalesce(min(round) - 1, 0) FROM slice"

#endif
