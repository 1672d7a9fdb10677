/* SPDX-License-Identifier: MIT */
/* A sluiced process of a test's own; see server.h. */
#include "support/support.h"
#include "support/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 60000

void server_init(server *self, const char *db, const char *name) {
    *self = (server){.db = db, .out = -1};
    /* The build's folder may be too deep for a socket. */
    snprintf(self->ipc, sizeof self->ipc, "ipc:///tmp/sluice-%s-%ld/s", name, (long)getpid());
}

void server_fini(server *self) {
    if (self->pid != 0) (void)server_end(self, SIGKILL);
    char *directory = self->ipc + strlen("ipc://");
    unlink(directory);
    *strrchr(directory, '/') = '\0';
    rmdir(directory);
}

void server_spawn(server *self) {
    char binary[4096];
    const char *bin = getenv("SLUICE_BIN");
    snprintf(binary, sizeof binary, "%s/sluiced", bin ? bin : "../bin");
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    fflush(stdout);
    self->pid = fork();
    if (self->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out[1], STDOUT_FILENO);
        execl(binary, "sluiced", "--db", self->db, "--allow-plain", "--listen", self->ipc, "--listen",
              *self->tcp ? self->tcp : "tcp://127.0.0.1:*", (char *)NULL);
        _exit(127);
    }
    assert_true(self->pid > 0);
    close(out[1]);
    self->out = out[0];
}

void server_await_ready(server *self) {
    char line[1024];
    size_t size = 0;
    while (size == 0 || line[size - 1] != '\n') {
        struct pollfd wait = {.fd = self->out, .events = POLLIN};
        int ready;
        while ((ready = poll(&wait, 1, READY_MS)) < 0 && errno == EINTR) continue;
        if (ready == 0) fail_msg("sluiced was not ready within %d ms", READY_MS);
        ssize_t n = read(self->out, line + size, sizeof line - size - 1);
        if (n <= 0) fail_msg("sluiced ended before it served");
        size += (size_t)n;
    }
    line[size - 1] = '\0';
    const char *tcp = strstr(line, "endpoint=tcp://");
    assert_non_null(tcp);
    if (!*self->tcp) snprintf(self->tcp, sizeof self->tcp, "%.*s", (int)strcspn(tcp + 9, " "), tcp + 9);
}

int server_end(server *self, int signal_number) {
    int status = 0;
    kill(self->pid, signal_number);
    assert_int_equal(waitpid(self->pid, &status, 0), self->pid);
    self->pid = 0;
    close(self->out);
    return status;
}

uint16_t server_tcp_port(const server *self) {
    return (uint16_t)strtoul(strrchr(self->tcp, ':') + 1, NULL, 10);
}
