/* SPDX-License-Identifier: MIT */
/* `sluice keygen PATH`: a CURVE key pair as two ZPL files, as CZMQ and pyzmq read and write them.
 *
 * PATH.key holds the public key and, if --rights says so, what a server that lists it lets it do; PATH.key_secret both
 * keys. The secret file is made 0600 from its first byte on, and neither replaces a file that is there. Source:
 * rfc.zeromq.org/spec/4 (ZPL), czmq zcert(3).
 */
#include "cli.h"
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Prints the error itself. */
static bool write_new_file(const char *path, mode_t mode, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    bool made = fd >= 0;
    /* fchmod, because the umask may have taken bits away. */
    bool ok = made && fchmod(fd, mode) == 0 && sl_tool_write(fd, text, strlen(text)) && fsync(fd) == 0;
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok) return true;
    if (made) unlink(path);
    sl_tool_error(path, strerror(why), why == EEXIST ? "keys are never overwritten; move it away first" : NULL);
    return false;
}

int sl_keygen(const char *path, const char *rights, char public_key[SL_KEY_TEXT_SIZE]) {
    char secret_key[SL_KEY_TEXT_SIZE];
    sluice_cause cause = {0};
    if (sl_keypair(public_key, secret_key, &cause)) {
        sl_tool_error("keygen", cause.text, NULL);
        return SL_EXIT_ERROR;
    }
    char public_path[PATH_MAX], secret_path[PATH_MAX];
    int n = snprintf(secret_path, sizeof secret_path, "%s.key_secret", path);
    if (n >= (int)sizeof secret_path || !*path) {
        sl_tool_error("keygen", "the path is empty or too long", NULL);
        return SL_EXIT_USAGE;
    }
    snprintf(public_path, sizeof public_path, "%s.key", path);

    char public_text[512], secret_text[512], rights_text[64] = "";
    if (rights) snprintf(rights_text, sizeof rights_text, "    rights = \"%s\"\n", rights);
    snprintf(public_text, sizeof public_text,
             "#   ZeroMQ CURVE public key, made by sluice keygen. Give it to those who shall know this peer.\n"
             "metadata\n"
             "%s"
             "curve\n"
             "    public-key = \"%s\"\n",
             rights_text, public_key);
    snprintf(secret_text, sizeof secret_text,
             "#   ZeroMQ CURVE **secret** key, made by sluice keygen. Keep it to yourself.\n"
             "metadata\n"
             "curve\n"
             "    public-key = \"%s\"\n"
             "    secret-key = \"%s\"\n",
             public_key, secret_key);
    int code = SL_EXIT_ERROR;
    if (write_new_file(secret_path, 0600, secret_text)) {
        if (write_new_file(public_path, 0644, public_text))
            code = SL_EXIT_OK;
        else
            unlink(secret_path); /* half a pair helps nobody */
    }
    explicit_bzero(secret_key, sizeof secret_key);
    explicit_bzero(secret_text, sizeof secret_text);
    return code;
}

typedef struct line {
    const char *path, *rights;
} line;

enum { KEY_RIGHTS = 0x100 };

static const struct argp_option options[] = {
    {"rights", KEY_RIGHTS, "read|write|admin", 0,
     "What a server that lists the key lets it do: read; write, which reads too; or admin, which also changes the "
     "schema. "
     "The line stands in PATH.key and can be edited there. Without it: admin",
     0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    line *self = state->input;
    switch (key) {
    case KEY_RIGHTS:
        if (strcmp(arg, "read") != 0 && strcmp(arg, "write") != 0 && strcmp(arg, "admin") != 0)
            argp_error(state, "--rights %s: neither read, write nor admin", arg);
        self->rights = arg;
        break;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0) argp_error(state, "%s: one PATH is expected", arg);
        self->path = arg;
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "PATH is needed"); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int sl_command_keygen(sl_cli *cli, int argc, char **argv) {
    (void)cli; /* no connection is made */
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "PATH",
        .doc = "Makes a CURVE key pair: PATH.key (public) and PATH.key_secret (mode 0600). Prints the public key on "
               "stdout and "
               "its fingerprint on stderr, to be compared by people.",
    };
    line self = {NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, &self);
    char public_key[SL_KEY_TEXT_SIZE], text[SL_FINGERPRINT_TEXT_SIZE];
    int code = sl_keygen(self.path, self.rights, public_key);
    if (code != SL_EXIT_OK) return code;
    uint8_t fingerprint[SL_USER_SIZE];
    sl_key_fingerprint(public_key, fingerprint);
    sl_fingerprint_text(fingerprint, text);
    printf("%s\n", public_key);
    fprintf(stderr, "fingerprint %s\n", text);
    return SL_EXIT_OK;
}
