/* SPDX-License-Identifier: MIT */
/* Key files: one pass over the text, line by line, without memory of its own; then a few checks of the file itself.
 *
 * Not an actor: plain functions for any thread.
 *
 *     line    =  indent [ name [ "=" value ] ] [ "#" comment ]
 *     indent  =  four blanks for each level; at most one level deeper than the line before
 *     name    =  one or more of A-Z a-z 0-9 $ - _ @ . & + /
 *     value   =  "text" or 'text' (no quote of the same kind, no escapes), or a word to the end of the line or a "#"
 *
 * Invariants
 *  1. Nothing is taken from a text that is not ZPL to its last byte: no NUL and no control character, no half line.
 *  2. A key is 40 letters of Z85 that stand for 32 bytes. A name that we read is said at most once.
 *  3. Secrets are wiped from every buffer that held them, also when reading fails.
 */
#include "zpl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INDENT 4u
#define DEPTH_MAX 8u
#define NAME_MAX_SIZE 64u

typedef struct span {
    const char *at;
    size_t size;
} span;

typedef struct parser {
    unsigned line, depth; /* of the line before; deeper lines belong to it */
    bool any;             /* a line with a name was there */
    span section;         /* the latest name of depth 0 */
    sl_cert *cert;
    sluice_cause *cause;
} parser;

static sluice_err refuse(const parser *self, const char *why) {
    return sluice_cause_set(self->cause, SLUICE_INVALID, "line %u: %s", self->line, why);
}

static bool is_name_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("$-_@.&+/", c) != NULL);
}

static bool equals(span text, const char *word) {
    return text.size == strlen(word) && memcmp(text.at, word, text.size) == 0;
}

static size_t skip_blanks(span line, size_t at) {
    while (at < line.size && line.at[at] == ' ') at++;
    return at;
}

/* ---- what we read ---- */

static sluice_err keep(parser *self, span name, span value) {
    struct {
        const char *section, *name;
        char *out;
        size_t room;
        bool key;
    } known[] = {
        {"curve", "public-key", self->cert->public_key, sizeof self->cert->public_key, true},
        {"curve", "secret-key", self->cert->secret_key, sizeof self->cert->secret_key, true},
        {"metadata", "rights", self->cert->rights, sizeof self->cert->rights, false},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (!equals(self->section, known[i].section) || !equals(name, known[i].name)) continue;
        if (known[i].out[0] != '\0') return refuse(self, "this was said before");
        if (value.size == 0 || value.size >= known[i].room)
            return refuse(self,
                          known[i].key ? "a key has 40 letters of Z85, in quotes" : "the value is empty or too long");
        memcpy(known[i].out, value.at, value.size);
        known[i].out[value.size] = '\0';
        if (known[i].key && !sl_key_is_valid(known[i].out))
            return refuse(self, "a key has 40 letters of Z85, in quotes");
    }
    return SLUICE_OK;
}

/* ---- lines ---- */

/* Reads what stands behind "=". */
static sluice_err read_value(const parser *self, span line, size_t at, span *out) {
    at = skip_blanks(line, at);
    char quote = at < line.size ? line.at[at] : '#';
    size_t begin = at, end;
    if (quote == '"' || quote == '\'') {
        begin = ++at;
        while (at < line.size && line.at[at] != quote) at++;
        if (at == line.size) return refuse(self, "the quote is not closed");
        end = at;
        at = skip_blanks(line, at + 1);
        if (at < line.size && line.at[at] != '#') return refuse(self, "something stands behind the quote");
    } else {
        while (at < line.size && line.at[at] != '#') at++;
        for (end = at; end > begin && line.at[end - 1] == ' ';) end--;
        if (end == begin) return refuse(self, "a value is missing");
    }
    *out = (span){line.at + begin, end - begin};
    return SLUICE_OK;
}

static sluice_err read_line(parser *self, span line) {
    for (size_t i = 0; i < line.size; i++)
        if ((unsigned char)line.at[i] < ' ' || line.at[i] == 0x7f) return refuse(self, "a control character or a tab");
    size_t at = skip_blanks(line, 0), blanks = at;
    if (at == line.size || line.at[at] == '#') return SLUICE_OK;
    span name = {line.at + at, 0};
    while (at < line.size && is_name_letter(line.at[at])) at++;
    name.size = (size_t)(line.at + at - name.at);
    if (name.size == 0 || name.size > NAME_MAX_SIZE) return refuse(self, "a name is expected, of at most 64 letters");
    if (blanks % INDENT != 0 || blanks / INDENT > (self->any ? self->depth + 1 : 0) || blanks / INDENT > DEPTH_MAX)
        return refuse(self, "lines are indented by four blanks for each level");
    self->any = true;
    self->depth = (unsigned)(blanks / INDENT);
    at = skip_blanks(line, at);
    span value = {NULL, 0};
    bool has_value = at < line.size && line.at[at] == '=';
    if (has_value) {
        sluice_err err = read_value(self, line, at + 1, &value);
        if (err != SLUICE_OK) return err;
    } else if (at < line.size && line.at[at] != '#') {
        return refuse(self, "a name is followed by = or by nothing");
    }
    if (self->depth == 0) self->section = name;
    return self->depth == 1 && has_value ? keep(self, name, value) : SLUICE_OK;
}

sluice_err sl_cert_parse(const char *text, size_t size, sl_cert *out, sluice_cause *cause) {
    memset(out, 0, sizeof *out);
    if (size > SL_ZPL_MAX)
        return sluice_cause_set(cause, SLUICE_TOO_BIG, "a key file has at most %u bytes", SL_ZPL_MAX);
    parser self = {.cert = out, .cause = cause};
    sluice_err err = SLUICE_OK;
    for (size_t at = 0; at < size && err == SLUICE_OK;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - text) - at : size - at;
        self.line++;
        span line = {text + at, length};
        if (length > 0 && line.at[length - 1] == '\r') line.size--;
        err = read_line(&self, line);
        at += length + 1;
    }
    if (err == SLUICE_OK && out->public_key[0] == '\0')
        err = sluice_cause_set(cause, SLUICE_INVALID, "it holds no curve/public-key");
    if (err != SLUICE_OK) sl_cert_wipe(out);
    return err;
}

void sl_cert_wipe(sl_cert *cert) { explicit_bzero(cert, sizeof *cert); }

/* ---- files ---- */

static sluice_err system_error(sluice_cause *cause, const char *path, int code) {
    (void)sluice_cause_set(cause, SLUICE_SYSTEM, "%s: %s", path, strerror(code));
    if (cause != NULL) cause->sys_errno = code;
    return SLUICE_SYSTEM;
}

/* Who may read and write the file that was opened. */
static sluice_err check_file(const char *path, const struct stat *st, bool secret, sluice_cause *cause) {
    uid_t self = geteuid();
    if (st->st_uid != self && st->st_uid != 0 && self != 0)
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s belongs to another user", path);
    mode_t others = st->st_mode & (secret ? 077 : 022);
    if (others == 0) return SLUICE_OK;
    return sluice_cause_set(cause, SLUICE_FORBIDDEN,
                            secret ? "%s holds a secret key and is open to other users (mode %03o); "
                                     "chmod 600 it, or make a new pair"
                                   : "%s can be written by other users (mode %03o); chmod go-w it",
                            path, (unsigned)st->st_mode & 0777u);
}

static sluice_err read_all(int fd, const char *path, char *text, size_t *size, sluice_cause *cause) {
    *size = 0;
    while (*size <= SL_ZPL_MAX) {
        ssize_t n = read(fd, text + *size, SL_ZPL_MAX + 1 - *size);
        if (n == 0) return SLUICE_OK;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return system_error(cause, path, errno);
        *size += (size_t)n;
    }
    return SLUICE_OK; /* too big, as parse will say */
}

sluice_err sl_cert_load(const char *path, sl_cert *out, sluice_cause *cause) {
    memset(out, 0, sizeof *out);
    char text[SL_ZPL_MAX + 1];
    size_t size = 0;
    struct stat st;
    /* NONBLOCK: a FIFO in its place must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return system_error(cause, path, errno);
    sluice_err err;
    if (fstat(fd, &st) != 0)
        err = system_error(cause, path, errno);
    else if (!S_ISREG(st.st_mode))
        err = sluice_cause_set(cause, SLUICE_INVALID, "%s is not a file", path);
    else
        err = read_all(fd, path, text, &size, cause);
    close(fd);
    if (err == SLUICE_OK) {
        err = sl_cert_parse(text, size, out, cause);
        if (err != SLUICE_OK) (void)sluice_cause_wrap(cause, path);
    }
    explicit_bzero(text, sizeof text);
    bool secret = err == SLUICE_OK && out->secret_key[0] != '\0';
    if (err == SLUICE_OK) err = check_file(path, &st, secret, cause);
    if (err == SLUICE_OK && secret && !sl_key_is_pair(out->public_key, out->secret_key))
        err = sluice_cause_set(cause, SLUICE_INVALID, "%s: its public and its secret key are no pair", path);
    if (err != SLUICE_OK) sl_cert_wipe(out);
    return err;
}

sluice_err sl_cert_load_secret(const char *path, sl_cert *out, sluice_cause *cause) {
    sluice_err err = sl_cert_load(path, out, cause);
    if (err != SLUICE_OK || out->secret_key[0] != '\0') return err;
    char other[PATH_MAX];
    int n = snprintf(other, sizeof other, "%s_secret", path);
    if (n > 0 && (size_t)n < sizeof other && access(other, F_OK) == 0) {
        err = sl_cert_load(other, out, cause);
        if (err != SLUICE_OK || out->secret_key[0] != '\0') return err;
    }
    sl_cert_wipe(out);
    return sluice_cause_set(cause, SLUICE_INVALID, "%s holds no secret key; give the .key_secret file", path);
}

sluice_err sl_public_key_read(const char *text_or_path, char out[SL_KEY_TEXT_SIZE], sluice_cause *cause) {
    out[0] = '\0';
    if (sl_key_is_valid(text_or_path)) {
        memcpy(out, text_or_path, SL_KEY_TEXT_SIZE);
        return SLUICE_OK;
    }
    sl_cert cert;
    sluice_err err = sl_cert_load(text_or_path, &cert, cause);
    if (err == SLUICE_OK)
        memcpy(out, cert.public_key, sizeof cert.public_key);
    else
        (void)sluice_cause_wrap(cause, "neither 40 letters of Z85 nor a key file");
    sl_cert_wipe(&cert);
    return err;
}
