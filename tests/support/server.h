/* SPDX-License-Identifier: MIT */
/* A sluiced process of a test's own, found through SLUICE_BIN: started, stopped by any signal, started again at the
 * same addresses. Threads: one. Fails the test if something does not go as it should. */
#ifndef SUPPORT_SERVER_H
#define SUPPORT_SERVER_H

#include <sys/types.h>
#include <stdint.h>

typedef struct server {
    const char *db;
    char ipc[128], tcp[128]; /* tcp: known after the first start */
    pid_t pid;               /* 0: it does not run */
    int out;
} server;

/* Keeps: db. `name` tells its ipc socket from others'. */
void server_init(server *self, const char *db, const char *name);
void server_fini(server *self);
/* Starts it without waiting. */
void server_spawn(server *self);
/* Waits for its line "ready". */
void server_await_ready(server *self);
/* Sends a signal and waits for the end; returns the status of waitpid. */
int server_end(server *self, int signal_number);
uint16_t server_tcp_port(const server *self);

#endif
