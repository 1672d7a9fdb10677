/* SPDX-License-Identifier: MIT */
/* The status file is kept as one buffer plus the offset of each stanza. A package is parsed from a copy of its stanza,
 * cut into fields in place; the file list is one buffer too. So a package has two allocations for all its texts. */
#include "catalog/dpkg.h"
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

struct catalog_status {
    const char *root;
    struct stat seen; /* of the file when it was read */
    char *text;
    size_t *stanzas; /* offsets; one more than n_stanzas */
    size_t n_stanzas;
    char native[32]; /* dpkg's own architecture */
};

/* Reads a whole file and puts a zero byte after it. NULL with errno. */
static char *read_file(const char *path, size_t *size, struct stat *seen)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    if (file == NULL) return NULL;
    if (fstat(fileno(file), seen) != 0) goto done;
    if (!S_ISREG(seen->st_mode)) {
        errno = EISDIR;
        goto done;
    }
    text = malloc((size_t)seen->st_size + 1);
    if (text == NULL) goto done;
    *size = fread(text, 1, (size_t)seen->st_size, file);
    text[*size] = '\0';
done:
    fclose(file);
    return text;
}

catalog_status *catalog_status_new(const char *root)
{
    catalog_status *self = calloc(1, sizeof *self);
    if (self != NULL) self->root = root;
    return self;
}

void catalog_status_destroy(catalog_status **self)
{
    if (*self == NULL) return;
    free((*self)->text);
    free((*self)->stanzas);
    free(*self);
    *self = NULL;
}

size_t catalog_status_stanzas(const catalog_status *self)
{
    return self->n_stanzas;
}

/* ---- fields ---- */

/* The value of a field: the rest of its first line, spaces cut. Lines that continue it are left out. `stanza` is cut
 * into lines already: each ends in a zero byte, the last is empty. */
static char *field_of(char *stanza, const char *name)
{
    size_t length = strlen(name);
    for (char *line = stanza; *line != '\0'; line += strlen(line) + 1) {
        if (strncasecmp(line, name, length) != 0 || line[length] != ':') continue;
        char *value = line + length + 1;
        value += strspn(value, " \t");
        for (char *end = value + strlen(value); end > value && strchr(" \t\r", end[-1]) != NULL;) *--end = '\0';
        return *value != '\0' ? value : NULL;
    }
    return NULL;
}

/* Copies one stanza and cuts it into lines, joining what continues a field to one line. */
static char *stanza_copy(const catalog_status *self, size_t i)
{
    size_t size = self->stanzas[i + 1] - self->stanzas[i];
    char *copy = malloc(size + 2);
    if (copy == NULL) return NULL;
    memcpy(copy, self->text + self->stanzas[i], size);
    copy[size] = copy[size + 1] = '\0';
    size_t to = 0;
    bool in_description = false;
    for (char *line = copy; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        bool more = line[length] == '\n', continued = *line == ' ' || *line == '\t';
        if (!continued) in_description = strncasecmp(line, "Description:", 12) == 0;
        if (length > 0 && !(continued && in_description)) { /* of a description the first line is enough */
            if (continued && to > 0) to--;                  /* over the zero byte of the line before */
            memmove(copy + to, line, length);
            to += length;
            copy[to++] = '\0';
        }
        line += length + (more ? 1 : 0);
    }
    copy[to] = '\0';
    return copy;
}

static bool index_stanzas(catalog_status *self, size_t size)
{
    size_t room = 1024;
    self->n_stanzas = 0;
    self->stanzas = malloc(room * sizeof *self->stanzas);
    if (self->stanzas == NULL) return false;
    for (size_t at = 0; at < size;) {
        while (at < size && self->text[at] == '\n') at++;
        if (at >= size) break;
        if (self->n_stanzas + 2 > room) {
            size_t *larger = realloc(self->stanzas, (room *= 2) * sizeof *larger);
            if (larger == NULL) return false;
            self->stanzas = larger;
        }
        self->stanzas[self->n_stanzas++] = at;
        const char *end = strstr(self->text + at, "\n\n");
        at = end == NULL ? size : (size_t)(end - self->text) + 1;
    }
    self->stanzas[self->n_stanzas] = size;
    return true;
}

/* dpkg is of its own native architecture, always. An empty machine has none: then no package is foreign. */
static void find_native(catalog_status *self)
{
    self->native[0] = '\0';
    for (size_t i = 0; i < self->n_stanzas && self->native[0] == '\0'; i++) {
        if (strncmp(self->text + self->stanzas[i], "Package: dpkg\n", 14) != 0) continue;
        char *stanza = stanza_copy(self, i);
        const char *value = stanza != NULL ? field_of(stanza, "Architecture") : NULL;
        if (value != NULL) snprintf(self->native, sizeof self->native, "%s", value);
        free(stanza);
    }
}

bool catalog_status_refresh(catalog_status *self, char *error, size_t error_size)
{
    char path[4096];
    struct stat now;
    size_t size = 0;
    snprintf(path, sizeof path, "%s/status", self->root);
    if (self->text != NULL && stat(path, &now) == 0 && now.st_ino == self->seen.st_ino &&
        now.st_size == self->seen.st_size && now.st_mtim.tv_sec == self->seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == self->seen.st_mtim.tv_nsec)
        return true;
    free(self->text);
    free(self->stanzas);
    self->stanzas = NULL;
    self->text = read_file(path, &size, &self->seen);
    if (self->text == NULL || strlen(self->text) != size) {
        snprintf(error, error_size, "%s: %s", path, self->text == NULL ? strerror(errno) : "holds a zero byte");
        return false;
    }
    if (!index_stanzas(self, size)) {
        snprintf(error, error_size, "%s: out of memory", path);
        return false;
    }
    find_native(self);
    return true;
}

/* ---- dependencies ---- */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    for (char *end = text + strlen(text); end > text && (end[-1] == ' ' || end[-1] == '\t');) *--end = '\0';
    return text;
}

/* The operator at the start of text, and how long it is. The one-character forms are old names of "<=" and ">=". */
static const char *relation_of(const char *text, size_t *length)
{
    static const char *const known[][2] = {{"<<", "<<"}, {"<=", "<="}, {">=", ">="}, {">>", ">>"},
                                           {"<", "<="},  {">", ">="},  {"=", "="}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *length = strlen(known[i][0]);
        if (strncmp(text, known[i][0], *length) == 0) return known[i][1];
    }
    *length = 0;
    return NULL;
}

/* "name:arch (>= version)" cut in place. */
static void parse_alternative(char *text, catalog_dependency *out)
{
    char *open = strchr(text, '(');
    if (open != NULL) {
        size_t length;
        *open++ = '\0';
        open[strcspn(open, ")")] = '\0';
        open += strspn(open, " \t");
        out->relation = relation_of(open, &length);
        char *version = trim(open + length);
        out->version = *version != '\0' ? version : NULL;
    }
    char *colon = strchr(text, ':');
    if (colon != NULL) {
        *colon = '\0';
        out->architecture = trim(colon + 1);
    }
    out->target = trim(text);
}

/* Adds the clauses of one field: parted by commas, alternatives by bars. */
static bool parse_dependencies(char *value, const char *kind, catalog_package *package, size_t *room)
{
    char *rest = NULL;
    int position = 0;
    for (char *clause = strtok_r(value, ",", &rest); clause != NULL; clause = strtok_r(NULL, ",", &rest), position++) {
        char *more = NULL;
        int alternative = 0;
        for (char *one = strtok_r(clause, "|", &more); one != NULL; one = strtok_r(NULL, "|", &more), alternative++) {
            if (package->n_dependencies == *room) {
                size_t wanted = *room == 0 ? 16 : *room * 2;
                catalog_dependency *larger = realloc(package->dependencies, wanted * sizeof *larger);
                if (larger == NULL) return false;
                package->dependencies = larger;
                *room = wanted;
            }
            catalog_dependency *to = &package->dependencies[package->n_dependencies];
            *to = (catalog_dependency){.kind = kind, .position = position, .alternative = alternative};
            parse_alternative(one, to);
            if (*to->target != '\0') package->n_dependencies++;
        }
    }
    return true;
}

/* ---- files ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *read_list(const char *root, const char *name, const char *architecture, bool same, size_t *size)
{
    char path[4096];
    struct stat seen;
    char *text = NULL;
    /* Since dpkg 1.16 the list of a Multi-Arch: same package carries its architecture. */
    for (int attempt = 0; attempt < 2 && text == NULL; attempt++) {
        if ((attempt == 0) == same)
            snprintf(path, sizeof path, "%s/info/%s:%s.list", root, name, architecture);
        else
            snprintf(path, sizeof path, "%s/info/%s.list", root, name);
        text = read_file(path, size, &seen);
        if (text == NULL && errno != ENOENT) return NULL;
    }
    return text != NULL ? text : calloc(1, 1); /* a package without a list has no files */
}

static bool parse_list(char *text, size_t size, catalog_package *package)
{
    size_t lines = 1, n = 0;
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    package->files = malloc(lines * sizeof *package->files);
    if (package->files == NULL) return false;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        package->files[n++] = line;
    qsort(package->files, n, sizeof *package->files, by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(package->files[i], package->files[package->n_files - 1]) != 0)
            package->files[package->n_files++] = package->files[i];
    return true;
}

/* ---- packages ---- */

static unsigned slice_of(const char *name, unsigned n_slices)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *at = name; *at != '\0'; at++) hash = (hash ^ (unsigned char)*at) * 16777619u;
    return n_slices == 0 ? 0 : hash % n_slices;
}

/* The name as dpkg prints it; the caller frees. */
static char *printed_name(const char *name, const char *architecture, bool same, const char *native)
{
    char *out = NULL;
    bool foreign = native[0] != '\0' && strcmp(architecture, native) != 0 && strcmp(architecture, "all") != 0 &&
                   architecture[0] != '\0';
    int size = same || foreign ? asprintf(&out, "%s:%s", name, architecture) : asprintf(&out, "%s", name);
    return size < 0 ? NULL : out;
}

int catalog_status_package(const catalog_status *self, size_t i, unsigned slice, unsigned n_slices,
                           catalog_package *out, char *error, size_t error_size)
{
    memset(out, 0, sizeof *out);
    char *stanza = stanza_copy(self, i);
    if (stanza == NULL) goto no_memory;
    out->memory[0] = stanza;
    const char *name = field_of(stanza, "Package"), *words = field_of(stanza, "Status");
    if (name == NULL || words == NULL) {
        snprintf(error, error_size, "%s/status: stanza %zu has no Package or no Status", self->root, i + 1);
        goto fail;
    }
    const char *last = strrchr(words, ' '); /* "install ok installed" */
    out->status = (char *)(last != NULL ? last + 1 : words);
    if (strcmp(out->status, "not-installed") == 0 || (n_slices != 0 && slice_of(name, n_slices) != slice)) {
        catalog_package_fini(out);
        return 0;
    }
    const char *multi_arch = field_of(stanza, "Multi-Arch");
    bool same = multi_arch != NULL && strcmp(multi_arch, "same") == 0;
    out->version = field_of(stanza, "Version");
    out->architecture = field_of(stanza, "Architecture");
    out->section = field_of(stanza, "Section");
    out->summary = field_of(stanza, "Description");
    const char *architecture = out->architecture != NULL ? out->architecture : "";
    out->name = printed_name(name, architecture, same, self->native);
    if (out->name == NULL) goto no_memory;

    size_t size = 0, room = 0;
    out->memory[1] = read_list(self->root, name, architecture, same, &size);
    if (out->memory[1] == NULL) {
        snprintf(error, error_size, "%s/info/%s.list: %s", self->root, name, strerror(errno));
        goto fail;
    }
    if (!parse_list(out->memory[1], size, out)) goto no_memory;
    char *needs_first = field_of(stanza, "Pre-Depends"), *needs = field_of(stanza, "Depends");
    if (needs_first != NULL && !parse_dependencies(needs_first, "Pre-Depends", out, &room)) goto no_memory;
    if (needs != NULL && !parse_dependencies(needs, "Depends", out, &room)) goto no_memory;
    return 1;

no_memory:
    snprintf(error, error_size, "out of memory");
fail:
    catalog_package_fini(out);
    return -1;
}

void catalog_package_fini(catalog_package *package)
{
    free(package->name);
    free(package->dependencies);
    free(package->files);
    free(package->memory[0]);
    free(package->memory[1]);
    memset(package, 0, sizeof *package);
}
