/* SPDX-License-Identifier: MIT */
/* `sluice checkpoint` and `sluice backup`: what an operator has a running server do. `sluice restore`: what he does himself
 * while none runs. */
#include "cli.h"
#include "sluice/v1/control.pb-c.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <sluice/store.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WRITER_NAME "app/writer"
#define BACKUP_TIMEOUT_MS 600000 /* unless --timeout says otherwise: a large file takes its time */

/* Asks the server's writer; prints what goes wrong. Takes: *request, always. Gives: *reply of type `wanted`, or NULL.
 * Returns the exit code. */
static int ask_writer(const sl_cli *cli, const char *what, sluice_msg **request,
                      const ProtobufCMessageDescriptor *wanted, sluice_msg **reply) {
    sluice_client *client = NULL;
    sluice_cause cause = {0};
    int code = sl_cli_open(cli, &client);
    if (code == SL_EXIT_OK) {
        sluice_err err = sluice_client_ask(client, WRITER_NAME, request, reply, &cause);
        if (!err && !sluice_msg_is(*reply, wanted))
            err = sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "answered by %s, not a %s", sluice_msg_type_name(*reply),
                                   wanted->name);
        if (err) {
            cause.code = err;
            code = sl_cli_failed(cli, what, &cause, false);
            sluice_msg_destroy(reply);
        }
    }
    sluice_msg_destroy(request);
    sluice_client_close(&client);
    return code;
}

static int no_memory(const char *what) {
    sl_tool_error(what, "out of memory", NULL);
    return SL_EXIT_ERROR;
}

/* ---- checkpoint ---- */

typedef struct checkpoint_line {
    sl_cli *cli;
    bool truncate;
} checkpoint_line;

static error_t parse_checkpoint(int key, char *arg, struct argp_state *state) {
    checkpoint_line *line = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = line->cli; break;
    case 'T': line->truncate = true; break;
    case ARGP_KEY_ARG: argp_error(state, "%s: no argument is expected", arg); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int sl_command_checkpoint(sl_cli *cli, int argc, char **argv) {
    static const struct argp_option options[] = {
        {"truncate", 'T', NULL, 0, "Also cut the log's file to nothing; writes wait meanwhile", 0}, {0}};
    const struct argp_child children[] = {{&sl_cli_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.options = options,
                              .parser = parse_checkpoint,
                              .doc = "Has the server copy its whole log into the database file now. Fails with "
                                     "`overloaded' if readers stand in the way for a second.",
                              .children = children};
    checkpoint_line line = {.cli = cli};
    argp_parse(&argp, argc, argv, 0, NULL, &line);
    sluice_msg *request = NULL, *reply = NULL;
    if (sluice_msg_new(&sluice__v1__checkpoint_now__descriptor, &request)) return no_memory("checkpoint");
    ((Sluice__V1__CheckpointNow *)sluice_msg_body(request))->truncate = line.truncate;
    int code = ask_writer(cli, "checkpoint", &request, &sluice__v1__checkpoint_done__descriptor, &reply);
    if (code) return code;
    const Sluice__V1__CheckpointDone *done = sluice_msg_body(reply);
    printf(cli->json ? "{\"frames\":%" PRIu64 ",\"wal_file_bytes\":%" PRIu64 "}\n"
                     : "copied the log of %" PRIu64 " frames; its file has %" PRIu64 " bytes\n",
           done->frames, done->wal_file_bytes);
    sluice_msg_destroy(&reply);
    return SL_EXIT_OK;
}

/* ---- backup ---- */

typedef struct backup_line {
    sl_cli *cli;
    const char *path;
} backup_line;

static error_t parse_backup(int key, char *arg, struct argp_state *state) {
    backup_line *line = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = line->cli; break;
    case ARGP_KEY_ARG:
        if (line->path) argp_error(state, "%s: one file at a time", arg);
        line->path = arg;
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "a FILE to copy to is needed"); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* The server has another working directory. */
static bool make_absolute(const char *path, char out[PATH_MAX]) {
    char here[PATH_MAX] = "";
    if (*path != '/' && !getcwd(here, sizeof here)) return false;
    int n = snprintf(out, PATH_MAX, "%s%s%s", here, *here ? "/" : "", path);
    return n > 0 && n < PATH_MAX;
}

static bool print_backup(const sl_cli *cli, const char *path, const Sluice__V1__BackupReply *done) {
    if (!cli->json)
        return printf("copied %" PRIu64 " pages, %" PRIu64 " bytes, as of commit %" PRIu64 ", to %s; checked: ok\n",
                      done->pages, done->bytes, done->commit_number, path) > 0;
    json_t *document = json_pack("{s:s, s:I, s:I, s:I, s:I}", "path", path, "pages", (json_int_t)done->pages, "bytes",
                                 (json_int_t)done->bytes, "commit_number", (json_int_t)done->commit_number, "restarts",
                                 (json_int_t)done->restarts);
    bool ok = document && json_dumpf(document, stdout, JSON_COMPACT) == 0 && putchar('\n') == '\n';
    json_decref(document);
    return ok;
}

int sl_command_backup(sl_cli *cli, int argc, char **argv) {
    const struct argp_child children[] = {{&sl_cli_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.parser = parse_backup,
                              .args_doc = "FILE",
                              .doc = "Has the server copy its database to FILE, on the server's machine, while it works "
                                     "on. The copy is checked before it appears under that name, which is replaced. "
                                     "Without --timeout it may take ten minutes.",
                              .children = children};
    backup_line line = {.cli = cli};
    argp_parse(&argp, argc, argv, 0, NULL, &line);
    if (!cli->has_timeout) cli->timeout_ms = BACKUP_TIMEOUT_MS;
    char path[PATH_MAX];
    if (!make_absolute(line.path, path)) {
        sl_tool_error(line.path, errno ? strerror(errno) : "the path is too long", NULL);
        return SL_EXIT_USAGE;
    }
    sluice_msg *request = NULL, *reply = NULL;
    if (sluice_msg_new(&sluice__v1__backup_request__descriptor, &request)) return no_memory("backup");
    Sluice__V1__BackupRequest *body = sluice_msg_body(request);
    body->path.len = strlen(path);
    body->path.data = sluice_msg_memdup(request, path, body->path.len);
    if (!body->path.data) {
        sluice_msg_destroy(&request);
        return no_memory("backup");
    }
    int code = ask_writer(cli, path, &request, &sluice__v1__backup_reply__descriptor, &reply);
    if (code) return code;
    if (!print_backup(cli, path, sluice_msg_body(reply))) code = no_memory("backup");
    sluice_msg_destroy(&reply);
    return code;
}

/* ---- restore ---- */

typedef struct restore_line {
    sl_cli *cli;
    const char *from, *to;
} restore_line;

static error_t parse_restore(int key, char *arg, struct argp_state *state) {
    restore_line *line = state->input;
    switch (key) {
    case 'd': line->to = arg; break;
    case 'j': line->cli->json = true; break;
    case ARGP_KEY_ARG:
        if (line->from) argp_error(state, "%s: one copy at a time", arg);
        line->from = arg;
        break;
    case ARGP_KEY_END:
        if (!line->from || !line->to || !*line->to) argp_error(state, "FROM and --db TO are needed");
        if (line->cli->url) argp_error(state, "restore works on files, with no server: no --connect");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int sl_command_restore(sl_cli *cli, int argc, char **argv) {
    static const struct argp_option options[] = {
        {"db", 'd', "TO", 0, "The database to replace; no server may have it open", 0},
        {"json", 'j', NULL, 0, "Print one JSON document", 0},
        {0}};
    const struct argp argp = {.options = options,
                              .parser = parse_restore,
                              .args_doc = "FROM",
                              .doc = "Checks the copy FROM and puts it in the place of the database TO. What TO was "
                                     "before is gone afterwards."};
    restore_line line = {.cli = cli};
    argp_parse(&argp, argc, argv, 0, NULL, &line);
    sluice_cause cause = {0};
    uint64_t pages = 0;
    sluice_err err = sluice_restore(line.from, line.to, &pages, &cause);
    if (err) {
        cause.code = err;
        return sl_cli_failed(cli, line.to, &cause, false);
    }
    if (cli->json)
        printf("{\"pages\":%" PRIu64 "}\n", pages);
    else
        printf("restored %" PRIu64 " pages from %s to %s\n", pages, line.from, line.to);
    return SL_EXIT_OK;
}
