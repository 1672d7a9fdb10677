/* SPDX-License-Identifier: MIT */
#include "catalog/schema.h"
#include <stddef.h>

const char *const catalog_schema[] = {
    "CREATE TABLE IF NOT EXISTS slice("
    " number INTEGER PRIMARY KEY,"
    " round INTEGER NOT NULL DEFAULT 1,"      /* the round that is to be done next, or is being done */
    " owner TEXT,"                            /* the worker that does it */
    " lease_until INTEGER NOT NULL DEFAULT 0)",

    "CREATE TABLE IF NOT EXISTS package("
    " name TEXT PRIMARY KEY,"                 /* as dpkg prints it: with :architecture where that is needed */
    " version TEXT, architecture TEXT, status TEXT NOT NULL, section TEXT, summary TEXT,"
    " slice INTEGER NOT NULL, round INTEGER NOT NULL,"
    " n_dependencies INTEGER NOT NULL, n_files INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS package_slice ON package(slice, round)",

    "CREATE TABLE IF NOT EXISTS dependency("
    " package TEXT NOT NULL REFERENCES package(name) ON DELETE CASCADE,"
    " kind TEXT NOT NULL,"                    /* Depends or Pre-Depends */
    " position INTEGER NOT NULL,"             /* which of the comma-separated clauses */
    " alternative INTEGER NOT NULL,"          /* which of those parted by | */
    " target TEXT NOT NULL, architecture TEXT, relation TEXT, version TEXT,"
    " PRIMARY KEY(package, kind, position, alternative)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS dependency_target ON dependency(target)",

    "CREATE TABLE IF NOT EXISTS file("
    " path NOT NULL,"                         /* text, or a blob where the name is not UTF-8 */
    " package TEXT NOT NULL REFERENCES package(name) ON DELETE CASCADE,"
    " PRIMARY KEY(path, package)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS file_package ON file(package)",

    "CREATE TABLE IF NOT EXISTS ledger("
    " worker TEXT NOT NULL, sequence INTEGER NOT NULL, package TEXT NOT NULL, round INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ledger_worker ON ledger(worker, sequence)",
    NULL};
