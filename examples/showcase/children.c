/* SPDX-License-Identifier: MIT */
#include "showcase/children.h"
#include "common/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Starts argv with its stdout in a pipe, in a process group of its own: a Ctrl-C at the terminal reaches the show, and
 * the show ends its children in their order. Gives the pid, 0 on error. */
static pid_t start_piped(const char *const *argv, int *output)
{
    int pipes[2];
    pid_t pid = 0;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    if (pipe2(pipes, O_CLOEXEC) != 0) return 0;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    int failed = posix_spawn(&pid, argv[0], &actions, &attributes, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(pipes[1]);
    if (failed != 0) {
        fprintf(stderr, "showcase: %s: %s\n", argv[0], strerror(failed));
        close(pipes[0]);
        return 0;
    }
    *output = pipes[0];
    return pid;
}

child *children_start(children *self, child_role role, const char *name, const char *const *argv)
{
    if (self->n == MAX_CHILDREN) return NULL;
    child *one = &self->list[self->n];
    *one = (child){.role = role, .output = -1};
    snprintf(one->name, sizeof one->name, "%s", name);
    one->pid = start_piped(argv, &one->output);
    if (one->pid == 0) return NULL;
    self->n++;
    return one;
}

static void on_line(child *self, const char *line)
{
    if (tally_parse(line, &self->tally))
        self->done = strncmp(line, "done", 4) == 0;
    else if (strncmp(line, "ready ", 6) == 0)
        snprintf(self->ready, sizeof self->ready, "%s", line);
    else
        printf("%s: %s\n", self->name, line);
}

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Reads what is there; the end of the output is the end of the process. */
static void on_readable(child *self)
{
    ssize_t n = read(self->output, self->line + self->line_size, sizeof self->line - 1 - self->line_size);
    if (n < 0 && errno == EINTR) return;
    if (n <= 0) {
        int status = 0;
        close(self->output);
        self->output = -1;
        waitpid(self->pid, &status, 0);
        self->pid = 0;
        self->code = exit_code(status);
        return;
    }
    self->line_size += (size_t)n;
    self->line[self->line_size] = '\0';
    char *begin = self->line;
    for (char *end; (end = strchr(begin, '\n')) != NULL; begin = end + 1) {
        *end = '\0';
        on_line(self, begin);
    }
    self->line_size -= (size_t)(begin - self->line);
    memmove(self->line, begin, self->line_size + 1);
    if (self->line_size == sizeof self->line - 1) self->line_size = 0; /* a line without end is no line of ours */
}

void children_listen(children *self, int timeout_ms)
{
    struct pollfd fds[MAX_CHILDREN];
    for (size_t i = 0; i < self->n; i++) fds[i] = (struct pollfd){.fd = self->list[i].output, .events = POLLIN};
    if (poll(fds, self->n, timeout_ms) <= 0) return;
    for (size_t i = 0; i < self->n; i++)
        if (fds[i].revents != 0) on_readable(&self->list[i]);
}

void children_signal(children *self, child_role role, int number)
{
    for (size_t i = 0; i < self->n; i++)
        if (self->list[i].role == role && self->list[i].pid > 0) kill(self->list[i].pid, number);
}

static bool all_ended(const children *self, child_role role)
{
    for (size_t i = 0; i < self->n; i++)
        if (self->list[i].role == role && self->list[i].pid > 0) return false;
    return true;
}

bool children_await(children *self, child_role role, int timeout_ms)
{
    uint64_t end = clock_us() + (uint64_t)timeout_ms * 1000;
    while (!all_ended(self, role)) {
        uint64_t now = clock_us();
        if (now >= end) return false;
        children_listen(self, (int)((end - now) / 1000) + 1);
    }
    return true;
}

void children_end(children *self)
{
    static const child_role order[] = {CONTROL, BUYERS, READER, WORKER, OWNER};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) children_signal(self, order[i], SIGTERM);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        if (children_await(self, order[i], 5000)) continue;
        children_signal(self, order[i], SIGKILL);
        children_await(self, order[i], 5000);
    }
}

tally children_tally(const children *self, child_role role)
{
    tally sum = {0};
    for (size_t i = 0; i < self->n; i++)
        if (self->list[i].role == role) tally_add(&sum, &self->list[i].tally);
    return sum;
}

bool children_any_ended(const children *self, child_role role)
{
    for (size_t i = 0; i < self->n; i++)
        if (self->list[i].role == role && self->list[i].pid == 0) return true;
    return false;
}

bool children_any_failed(const children *self, child_role role)
{
    for (size_t i = 0; i < self->n; i++)
        if (self->list[i].role == role && self->list[i].pid == 0 && self->list[i].code != 0) return true;
    return false;
}

int run_to_end(const char *const *argv, bool show, char *last_line, size_t last_line_size)
{
    int output, status = 0;
    pid_t pid = start_piped(argv, &output);
    if (pid == 0) return 127;
    FILE *file = fdopen(output, "r");
    char *line = NULL;
    size_t room = 0;
    if (file == NULL) {
        close(output);
        waitpid(pid, &status, 0);
        return 127;
    }
    while (getline(&line, &room, file) > 0) {
        if (show) printf("  %s", line);
        if (last_line != NULL) snprintf(last_line, last_line_size, "%s", line);
    }
    free(line);
    fclose(file);
    waitpid(pid, &status, 0);
    return exit_code(status);
}
