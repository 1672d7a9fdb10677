/* SPDX-License-Identifier: MIT */
/* `sluice keygen PATH`: a CURVE key pair as two ZPL files, as CZMQ and pyzmq read and write them.
 *
 * PATH.key holds the public key, PATH.key_secret both. The secret file is made 0600 from its first byte on, and neither
 * replaces a file that is there. Source: rfc.zeromq.org/spec/4 (ZPL), czmq zcert(3).
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

static int make_keys(const char *path) {
    char public_key[SL_KEY_TEXT_SIZE], secret_key[SL_KEY_TEXT_SIZE];
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

    char public_text[512], secret_text[512];
    snprintf(public_text, sizeof public_text,
             "#   ZeroMQ CURVE public key, made by sluice keygen. Give it to those who shall know this peer.\n"
             "metadata\n"
             "curve\n"
             "    public-key = \"%s\"\n",
             public_key);
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
    if (code == SL_EXIT_OK) printf("%s\n", public_key);
    return code;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    const char **path = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (state->arg_num > 0) argp_error(state, "%s: one PATH is expected", arg);
        *path = arg;
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "PATH is needed"); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int sl_command_keygen(sl_cli *cli, int argc, char **argv) {
    (void)cli; /* no connection is made */
    const struct argp argp = {
        .parser = parse,
        .args_doc = "PATH",
        .doc = "Makes a CURVE key pair: PATH.key (public) and PATH.key_secret (mode 0600). Prints the public key.",
    };
    const char *path = NULL;
    argp_parse(&argp, argc, argv, 0, NULL, &path);
    return make_keys(path);
}
