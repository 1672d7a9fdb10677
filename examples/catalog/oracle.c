/* SPDX-License-Identifier: MIT */
/* One run of dpkg-query gives all packages with all their files: ${db-fsys:Files} prints one path per line after a
 * blank, so a path cannot be taken for one of our own lines, which begin with a letter. */
#include "catalog/oracle.h"
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends the program: a checker without memory has nothing to say. */
static void *checked(void *memory)
{
    if (memory == NULL) {
        fputs("catalog-check: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* ---- text sets ---- */

void text_set_add(text_set *self, const char *text, size_t size)
{
    if (self->n == self->room) {
        self->room = self->room == 0 ? 16 : self->room * 2;
        self->texts = checked(realloc(self->texts, self->room * sizeof *self->texts));
    }
    self->texts[self->n++] = checked(strndup(text, size));
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void text_set_close(text_set *self)
{
    size_t n = 0;
    if (self->n > 0) qsort(self->texts, self->n, sizeof *self->texts, by_text);
    for (size_t i = 0; i < self->n; i++) {
        if (n > 0 && strcmp(self->texts[i], self->texts[n - 1]) == 0)
            free(self->texts[i]);
        else
            self->texts[n++] = self->texts[i];
    }
    self->n = n;
}

void text_set_fini(text_set *self)
{
    for (size_t i = 0; i < self->n; i++) free(self->texts[i]);
    free(self->texts);
    memset(self, 0, sizeof *self);
}

bool text_set_equal(const text_set *a, const text_set *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->texts[i], b->texts[i]) != 0) return false;
    return true;
}

/* ---- running dpkg-query ---- */

/* Runs argv in the C locale and hands over its output line by line. Gives its exit code, or -1. */
static int run_lines(char *const *argv, void (*each)(void *context, char *line), void *context)
{
    char *environment[] = {"LC_ALL=C", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", NULL};
    int pipes[2], status = 0;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe(pipes) != 0) return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, pipes[0]);
    posix_spawn_file_actions_addclose(&actions, pipes[1]);
    int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    close(pipes[1]);
    FILE *output = failed == 0 ? fdopen(pipes[0], "r") : NULL;
    if (output == NULL) {
        fprintf(stderr, "catalog-check: %s: %s\n", argv[0], strerror(failed != 0 ? failed : errno));
        close(pipes[0]);
        return -1;
    }
    char *line = NULL;
    size_t room = 0;
    for (ssize_t size; (size = getline(&line, &room, output)) > 0;) {
        if (line[size - 1] == '\n') line[size - 1] = '\0';
        each(context, line);
    }
    free(line);
    fclose(output);
    if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

/* ---- all packages ---- */

typedef struct loading {
    oracle *oracle;
    size_t room;
    text_set files; /* of the latest package */
} loading;

static void end_package(loading *self)
{
    if (self->oracle->n_packages == 0) return;
    oracle_package *package = &self->oracle->packages[self->oracle->n_packages - 1];
    text_set_close(&self->files);
    package->files = self->files.texts;
    package->n_files = self->files.n;
    memset(&self->files, 0, sizeof self->files);
}

static void on_package_line(void *context, char *line)
{
    loading *self = context;
    oracle_package *package =
        self->oracle->n_packages > 0 ? &self->oracle->packages[self->oracle->n_packages - 1] : NULL;
    if (line[0] == ' ' && package != NULL) {
        text_set_add(&self->files, line + 1, strlen(line + 1));
        return;
    }
    if (line[0] == '\0' || line[1] != '\t') return;
    char *value = line + 2;
    switch (line[0]) {
    case 'P':
        end_package(self);
        if (self->oracle->n_packages == self->room) {
            self->room = self->room == 0 ? 1024 : self->room * 2;
            self->oracle->packages =
                checked(realloc(self->oracle->packages, self->room * sizeof *self->oracle->packages));
        }
        self->oracle->packages[self->oracle->n_packages++] = (oracle_package){.name = checked(strdup(value))};
        break;
    case 'S': package->status = checked(strdup(value)); break;
    case 'V': package->version = checked(strdup(value)); break;
    case 'A': package->architecture = checked(strdup(value)); break;
    case 'D': package->depends = checked(strdup(value)); break;
    case 'R': package->pre_depends = checked(strdup(value)); break;
    default: break;
    }
}

bool oracle_load(oracle *self, const char *root)
{
    char directory[4096];
    memset(self, 0, sizeof *self);
    snprintf(directory, sizeof directory, "--admindir=%s", root);
    char *argv[] = {"dpkg-query", directory, "-W", "-f",
                    "P\\t${binary:Package}\\nS\\t${db:Status-Status}\\nV\\t${Version}\\nA\\t${Architecture}\\n"
                    "D\\t${Depends}\\nR\\t${Pre-Depends}\\n${db-fsys:Files}\\n",
                    NULL};
    loading state = {.oracle = self};
    int code = run_lines(argv, on_package_line, &state);
    end_package(&state);
    if (code != 0) {
        fprintf(stderr, "catalog-check: dpkg-query -W ended with %d\n", code);
        return false;
    }
    for (size_t i = 0; i < self->n_packages; i++) {
        const oracle_package *p = &self->packages[i];
        if (p->status == NULL || p->version == NULL || p->architecture == NULL || p->depends == NULL ||
            p->pre_depends == NULL) {
            fprintf(stderr, "catalog-check: dpkg-query -W printed half of package %s\n", p->name);
            return false;
        }
    }
    return true;
}

void oracle_fini(oracle *self)
{
    for (size_t i = 0; i < self->n_packages; i++) {
        oracle_package *package = &self->packages[i];
        for (size_t k = 0; k < package->n_files; k++) free(package->files[k]);
        free(package->files);
        free(package->name);
        free(package->status);
        free(package->version);
        free(package->architecture);
        free(package->depends);
        free(package->pre_depends);
    }
    free(self->packages);
    memset(self, 0, sizeof *self);
}

/* ---- owners ---- */

typedef struct owning {
    const char *const *paths;
    size_t n;
    text_set *owners;
} owning;

/* "one, two:amd64: /path". Lines about diversions come besides and say nothing about owners. */
static void on_owner_line(void *context, char *line)
{
    owning *self = context;
    if (strncmp(line, "diversion by ", 13) == 0 || strncmp(line, "local diversion ", 16) == 0) return;
    char *path = strstr(line, ": /");
    if (path == NULL) return;
    *path = '\0';
    path += 2;
    for (size_t i = 0; i < self->n; i++) {
        if (strcmp(self->paths[i], path) != 0) continue;
        for (const char *name = line; *name != '\0';) {
            size_t length = strcspn(name, ",");
            text_set_add(&self->owners[i], name, length);
            name += length;
            name += strspn(name, ", ");
        }
    }
}

bool oracle_owners(const char *root, const char *const *paths, size_t n, text_set *owners)
{
    char directory[4096];
    char **argv = checked(calloc(n + 4, sizeof *argv));
    owning state = {.paths = paths, .n = n, .owners = owners};
    snprintf(directory, sizeof directory, "--admindir=%s", root);
    argv[0] = "dpkg-query";
    argv[1] = directory;
    argv[2] = "-S";
    for (size_t i = 0; i < n; i++) argv[3 + i] = (char *)paths[i];
    int code = n > 0 ? run_lines(argv, on_owner_line, &state) : 0;
    free(argv);
    for (size_t i = 0; i < n; i++) text_set_close(&owners[i]);
    if (code != 0) fprintf(stderr, "catalog-check: dpkg-query -S ended with %d\n", code);
    return code == 0;
}

/* ---- dependencies ---- */

/* Steps through "a (>= 1) | b:any, c": gives the next name in *at, and moves on. */
static bool next_dependency(const char **at, const char **name, size_t *length)
{
    *at += strspn(*at, " ,|");
    if (**at == '\0') return false;
    *name = *at;
    *length = strcspn(*at, " ,|:(");
    *at += strcspn(*at, ",|");
    return true;
}

void oracle_needed_by(const oracle *self, const char *target, text_set *out)
{
    size_t size = strlen(target);
    for (size_t i = 0; i < self->n_packages; i++) {
        const char *fields[] = {self->packages[i].depends, self->packages[i].pre_depends};
        for (size_t f = 0; f < 2; f++) {
            const char *name;
            size_t length;
            for (const char *at = fields[f]; next_dependency(&at, &name, &length);)
                if (length == size && strncmp(name, target, size) == 0)
                    text_set_add(out, self->packages[i].name, strlen(self->packages[i].name));
        }
    }
    text_set_close(out);
}

bool oracle_dependency(const oracle_package *package, size_t k, char *out, size_t out_size)
{
    const char *fields[] = {package->depends, package->pre_depends};
    for (size_t f = 0; f < 2; f++) {
        const char *name;
        size_t length;
        for (const char *at = fields[f]; next_dependency(&at, &name, &length);) {
            if (k-- > 0) continue;
            snprintf(out, out_size, "%.*s", (int)length, name);
            return true;
        }
    }
    return false;
}
