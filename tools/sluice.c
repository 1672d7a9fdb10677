/* SPDX-License-Identifier: MIT */
/* sluice: the command line. This file reads the options in front of the command and hands over to it. */
#include "cli.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
    const char *name;
    int (*run)(sl_cli *cli, int argc, char **argv);
} commands[] = {
    {"exec", sl_command_exec}, {"query", sl_command_query},   {"status", sl_command_status},
    {"report", sl_command_report}, {"checkpoint", sl_command_checkpoint},
    {"backup", sl_command_backup}, {"restore", sl_command_restore},
    {"ping", sl_command_ping}, {"keygen", sl_command_keygen}, {"bench", sl_command_bench},
};

/* ---- options that every connecting command takes, in front of it or behind ---- */

enum { KEY_KEY = 0x100, KEY_SERVER_KEY };

static const struct argp_option connection_options[] = {
    {"connect", 'c', "URL", 0, "Where the server listens: ipc://PATH or tcp://HOST:PORT", 0},
    {"timeout", 't', "MS", 0, "Deadline of the call; default 5000", 0},
    {"json", 'j', NULL, 0, "Print one JSON document", 0},
    {"key", KEY_KEY, "FILE", 0, "The client's key pair, a .key_secret file; for TCP with keys", 0},
    {"server-key", KEY_SERVER_KEY, "KEY", 0, "The server's public key: a .key file or 40 characters", 0},
    {0},
};

static error_t parse_connection(int key, char *arg, struct argp_state *state) {
    sl_cli *cli = state->input;
    uint64_t number = 0;
    switch (key) {
    case 'c':
        if (strncmp(arg, "ipc://", 6) != 0 && strncmp(arg, "tcp://", 6) != 0)
            argp_error(state, "--connect %s: not ipc://PATH or tcp://HOST:PORT", arg);
        cli->url = arg;
        break;
    case 't':
        if (!sl_tool_number(arg, 1, INT32_MAX, &number))
            argp_error(state, "--timeout %s: not a number of milliseconds from 1 to %d", arg, INT32_MAX);
        cli->timeout_ms = (uint32_t)number;
        cli->has_timeout = true;
        break;
    case 'j': cli->json = true; break;
    case KEY_KEY: cli->key = arg; break;
    case KEY_SERVER_KEY: cli->server_key = arg; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp sl_cli_argp = {.options = connection_options, .parser = parse_connection};

int sl_cli_open(const sl_cli *cli, sluice_client **out) {
    if (!cli->url) {
        sl_tool_error("--connect", "URL is needed", "ipc://PATH or tcp://HOST:PORT, as sluiced's ready line says");
        return SL_EXIT_USAGE;
    }
    if (!cli->key != !cli->server_key) {
        sl_tool_error(cli->key ? "--server-key" : "--key", "is needed too: --key and --server-key belong together",
                      NULL);
        return SL_EXIT_USAGE;
    }
    sluice_cause cause = {0};
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.timeout_ms = cli->timeout_ms;
    options.key_file = cli->key;
    options.server_key = cli->server_key;
    if (sluice_client_open(cli->url, &options, out, &cause)) {
        sl_tool_error(cli->url, cause.text, NULL);
        return cause.code == SLUICE_INVALID ? SL_EXIT_USAGE : SL_EXIT_ERROR;
    }
    return SL_EXIT_OK;
}

static const char *applied_name(sluice_applied applied) {
    return applied == SLUICE_APPLIED_NO ? "no" : applied == SLUICE_APPLIED_YES ? "yes" : "unknown";
}

int sl_cli_failed(const sl_cli *cli, const char *what, const sluice_cause *cause, bool write) {
    int code = sl_tool_exit_code(cause->code, write);
    const char *hint = NULL;
    if (code == SL_EXIT_UNKNOWN)
        hint = "it may have been applied or not: look before you do it again";
    else if (cause->code == SLUICE_UNREACHABLE)
        hint = "is sluiced running, and is this the address of its ready line?";
    else if (cause->code == SLUICE_READ_ONLY)
        hint = "use sluice exec for statements that write";
    char why[SLUICE_CAUSE_TEXT_SIZE + 64];
    snprintf(why, sizeof why, "%s: %s", sluice_err_name(cause->code),
             *cause->text ? cause->text : sluice_err_text(cause->code));
    sl_tool_error(what, why, hint);
    if (cli->json) {
        sluice_applied applied = write ? sluice_err_applied(cause->code) : SLUICE_APPLIED_NO;
        json_t *document = json_pack("{s:{s:s, s:i, s:s, s:s, s:b}}", "error", "name", sluice_err_name(cause->code),
                                     "code", (int)cause->code, "text", cause->text, "applied", applied_name(applied),
                                     "retryable", sluice_err_retryable(cause->code));
        if (document && json_dumpf(document, stdout, 0) == 0) putchar('\n');
        json_decref(document);
    }
    return code;
}

/* ---- the command ---- */

typedef struct line {
    sl_cli cli;
    const struct command *command;
    int argc;    /* of the command */
    char **argv; /* argv[0] is a copy, see below */
} line;

static error_t parse_line(int key, char *arg, struct argp_state *state) {
    line *self = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &self->cli; break;
    case ARGP_KEY_ARG:
        for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
            if (strcmp(arg, commands[i].name) == 0) self->command = &commands[i];
        if (!self->command)
            argp_error(state, "%s: no such command; one of exec, query, status, report, checkpoint, backup, restore, ping, keygen, bench", arg);
        /* What follows is the command's. */
        self->argc = state->argc - state->next + 1;
        self->argv = state->argv + state->next - 1;
        state->next = state->argc;
        break;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a command is needed: exec, query, status, report, checkpoint, backup, restore, ping, keygen or bench");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct argp_child children[] = {{&sl_cli_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .parser = parse_line,
        .args_doc = "COMMAND [ARG...]",
        .doc = "Talks to a sluiced, or measures.\v"
               "exec SQL [PARAM...]   run one statement that writes, durably\n"
               "query SQL [PARAM...]  run one statement that reads\n"
               "status                print the server's counters\n"
               "report readers        print what each reader runs now\n"
               "checkpoint            have the server copy its log into the database file now\n"
               "backup FILE           have the server copy its database to FILE\n"
               "restore FROM --db TO  put a copy in the place of a database that no server has open\n"
               "ping                  wait until the server answers\n"
               "keygen PATH           make a CURVE key pair: PATH.key and PATH.key_secret\n"
               "bench WORK            measure: write, read, mixed, pingpong, ring or count\n\n"
               "`sluice COMMAND --help' says more. Exit codes: 0 ok, 1 the statement or the run failed, 2 usage, 3 no "
               "connection or time-out, 4 the result is unknown.",
        .children = children,
    };
    line self = {.cli = {.timeout_ms = 5000}};
    static char version[32];
    snprintf(version, sizeof version, "sluice %s", sluice_version());
    argp_program_version = version;
    argv[0] = program_invocation_short_name;
    argp_err_exit_status = SL_EXIT_USAGE;
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &self);

    char name[32];
    snprintf(name, sizeof name, "sluice %s", self.command->name);
    self.argv[0] = name; /* so that the command's own usage errors name it */
    int code = self.command->run(&self.cli, self.argc, self.argv);
    if (fflush(stdout) != 0 && code == SL_EXIT_OK) {
        sl_tool_error("stdout", "could not be written", NULL);
        return SL_EXIT_ERROR;
    }
    return code;
}
