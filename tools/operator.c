/* SPDX-License-Identifier: MIT */
/* `sluice checkpoint`: what an operator has a running server do. */
#include "cli.h"
#include "sluice/v1/control.pb-c.h"

#include <inttypes.h>
#include <stdio.h>

#define WRITER_NAME "app/writer"

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
