/* SPDX-License-Identifier: MIT */
/* The commands of `sluice` and the connection options they share. Threads: main. */
#ifndef SL_CLI_H
#define SL_CLI_H

#include <argp.h>
#include <sluice/client.h>
#include "keys.h"
#include "tool.h"

typedef struct sl_cli {
    const char *url; /* --connect; NULL: not given */
    uint32_t timeout_ms;
    bool has_timeout; /* --timeout was given */
    bool json;
    const char *key;        /* --key; NULL: not given */
    const char *server_key; /* --server-key; likewise */
} sl_cli;

/* --connect, --timeout, --json and the key options; an argp child whose input is a sl_cli. */
extern const struct argp sl_cli_argp;

/* Opens a client by the options. Without --connect it is a usage error. Gives: *out. Returns the exit code, 0 for
 * success; the error has been printed. */
int sl_cli_open(const sl_cli *cli, sluice_client **out);

/* Prints how a request failed: one line on stderr and with --json a document {"error": ...} on stdout. Returns the exit
 * code; `write`: it could have changed the file. */
int sl_cli_failed(const sl_cli *cli, const char *what, const sluice_cause *cause, bool write);

/* Makes PATH.key and PATH.key_secret; rights NULL: says nothing of them. Returns the exit code; an error has been
 * printed. */
int sl_keygen(const char *path, const char *rights, char public_key[SL_KEY_TEXT_SIZE]);

/* Each command: argv[0] is "sluice COMMAND"; the options in front of it are already in cli. Returns the exit code. */
int sl_command_exec(sl_cli *cli, int argc, char **argv);
int sl_command_query(sl_cli *cli, int argc, char **argv);
int sl_command_status(sl_cli *cli, int argc, char **argv);
int sl_command_report(sl_cli *cli, int argc, char **argv);
int sl_command_checkpoint(sl_cli *cli, int argc, char **argv);
int sl_command_backup(sl_cli *cli, int argc, char **argv);
int sl_command_restore(sl_cli *cli, int argc, char **argv);
int sl_command_ping(sl_cli *cli, int argc, char **argv);
int sl_command_keygen(sl_cli *cli, int argc, char **argv);
int sl_command_bench(sl_cli *cli, int argc, char **argv);

#endif
