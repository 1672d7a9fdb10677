/* SPDX-License-Identifier: MIT */
/* What the workload's clients and its judgement agree on. */
#ifndef SUPPORT_WORKLOAD_TABLES_H
#define SUPPORT_WORKLOAD_TABLES_H

#define WORK_ACCOUNTS 8
#define WORK_BALANCE 100 /* of each account in the beginning */

/* No constraint would refuse a second copy of a transfer or a member: it has to be seen. */
#define WORK_TABLES                                                                                                    \
    "CREATE TABLE register(k INTEGER PRIMARY KEY, v INTEGER NOT NULL);"                                                \
    "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);"                                          \
    "CREATE TABLE transfer(client INTEGER, n INTEGER, source INTEGER, target INTEGER, amount INTEGER);"                \
    "CREATE TABLE member(client INTEGER, n INTEGER);"                                                                  \
    "CREATE INDEX member_by_name ON member(client, n);"                                                                \
    "CREATE TABLE counter(v INTEGER NOT NULL);"                                                                        \
    "INSERT INTO counter VALUES(0);"

#endif
