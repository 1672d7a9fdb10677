/* SPDX-License-Identifier: MIT */
/* `sluice report readers`: what each reading connection of the server runs now. */
#include "cli.h"
#include "sluice/v1/control.pb-c.h"

#include <inttypes.h>
#include <jansson.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GATEWAY_NAME "gateway"

typedef struct report_line {
    sl_cli *cli;
    bool has_subject;
} report_line;

static error_t parse(int key, char *arg, struct argp_state *state) {
    report_line *line = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = line->cli; break;
    case ARGP_KEY_ARG:
        if (line->has_subject || strcmp(arg, "readers") != 0) argp_error(state, "%s: the report is `readers'", arg);
        line->has_subject = true;
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "say of what: readers"); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- printing ---- */

static json_t *json_reading(const Sluice__V1__Reading *reading) {
    const char *kind = reading->leased ? "lease" : "reader";
    if (!reading->busy)
        return json_pack("{s:I, s:s, s:b}", "number", (json_int_t)reading->number, "kind", kind, "busy", 0);
    json_t *object = json_pack("{s:I, s:s, s:b, s:f, s:I, s:I, s:s, s:I, s:I}", "number", (json_int_t)reading->number,
                               "kind", kind, "busy", 1, "age_ms", (double)reading->age_us / 1000, "commit_number",
                               (json_int_t)reading->commit_number, "asker", (json_int_t)reading->asker, "asker_name",
                               reading->asker_name, "request", (json_int_t)reading->request, "statement_size",
                               (json_int_t)reading->statement_size);
    json_t *text = json_stringn((const char *)reading->statement.data, reading->statement.len);
    if (text == NULL) text = json_string(""); /* two statements were mixed: not UTF-8 */
    if (object != NULL && json_object_set_new(object, "statement", text) == 0) return object;
    json_decref(object);
    return NULL;
}

static bool print_json(const Sluice__V1__ReadersReply *reply) {
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < reply->n_readings; i++)
        ok = json_array_append_new(list, json_reading(reply->readings[i])) == 0;
    json_t *document =
        ok ? json_pack("{s:I, s:O}", "commit_number", (json_int_t)reply->commit_number, "readers", list) : NULL;
    ok = document != NULL && json_dumpf(document, stdout, JSON_COMPACT) == 0;
    if (ok) putchar('\n');
    json_decref(document);
    json_decref(list);
    return ok;
}

/* One cell; NULL text is an empty one. */
static bool put(struct libscols_line *line, size_t column, const char *format, ...) {
    char text[192];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return n >= 0 && scols_line_set_data(line, column, text) == 0;
}

static bool put_reading(struct libscols_line *line, const Sluice__V1__Reading *reading, uint64_t commit_number) {
    bool ok = put(line, 0, "%u", reading->number) && put(line, 1, "%s", reading->leased ? "lease" : "reader");
    if (!reading->busy) return ok && put(line, 2, "idle");
    uint64_t behind = commit_number > reading->commit_number ? commit_number - reading->commit_number : 0;
    ok = ok && put(line, 2, "%.1f", (double)reading->age_us / 1000) && put(line, 3, "%" PRIu64, reading->commit_number) &&
         put(line, 4, "%" PRIu64, behind);
    if (reading->asker == 0) return ok;
    ok = ok && (reading->asker_name[0] != '\0' ? put(line, 5, "%s %" PRIu64, reading->asker_name, reading->request)
                                               : put(line, 5, "in process %" PRIx64, reading->asker));
    bool cut = reading->statement_size > reading->statement.len;
    return ok && put(line, 6, "%.*s%s", (int)reading->statement.len, (const char *)reading->statement.data,
                     cut ? "..." : "");
}

static bool print_table(const Sluice__V1__ReadersReply *reply) {
    static const char *const heads[] = {"NO", "KIND", "AGE_MS", "COMMIT", "BEHIND", "ASKED_BY", "STATEMENT"};
    struct libscols_table *table = scols_new_table();
    bool ok = table != NULL;
    for (size_t i = 0; ok && i < sizeof heads / sizeof heads[0]; i++)
        ok = scols_table_new_column(table, heads[i], 0, i < 5 && i != 1 ? SCOLS_FL_RIGHT : 0) != NULL;
    for (size_t i = 0; ok && i < reply->n_readings; i++) {
        struct libscols_line *line = scols_table_new_line(table, NULL);
        ok = line != NULL && put_reading(line, reply->readings[i], reply->commit_number);
    }
    ok = ok && scols_print_table(table) == 0;
    scols_unref_table(table);
    return ok;
}

/* ---- the command ---- */

int sl_command_report(sl_cli *cli, int argc, char **argv) {
    const struct argp_child children[] = {{&sl_cli_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.parser = parse,
                              .args_doc = "readers",
                              .doc = "Shows what each reading connection of the server runs, since when (its "
                                     "snapshot's age), on which commit, and who asked.",
                              .children = children};
    report_line line = {.cli = cli};
    argp_parse(&argp, argc, argv, 0, NULL, &line);
    sluice_client *client = NULL;
    int code = sl_cli_open(cli, &client);
    if (code) return code;
    sluice_cause cause = {0};
    sluice_msg *request = NULL, *reply = NULL;
    sluice_err err = sluice_msg_new(&sluice__v1__readers_request__descriptor, &request);
    if (!err) err = sluice_client_ask(client, GATEWAY_NAME, &request, &reply, &cause);
    if (!err && !sluice_msg_is(reply, &sluice__v1__readers_reply__descriptor))
        err = sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "answered by %s, not a ReadersReply",
                               sluice_msg_type_name(reply));
    if (err) {
        cause.code = err;
        code = sl_cli_failed(cli, cli->url, &cause, false);
    } else if (!(cli->json ? print_json : print_table)(sluice_msg_body(reply))) {
        sl_tool_error("report", "out of memory, or stdout could not be written", NULL);
        code = SL_EXIT_ERROR;
    }
    sluice_msg_destroy(&request);
    sluice_msg_destroy(&reply);
    sluice_client_close(&client);
    return code;
}
