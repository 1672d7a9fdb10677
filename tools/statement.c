/* SPDX-License-Identifier: MIT */
/* `sluice exec` and `sluice query`: one statement, its parameters, its rows.
 *
 * Rows print as an aligned table on a terminal; else as lines of tab-separated values without a header, in which tab,
 * line feed, carriage return and backslash are \t \n \r \\, NULL is \N and a blob is x'HEX'; with --json as one
 * document.
 */
#include "cli.h"
#include "parameter.h"

#include <inttypes.h>
#include <jansson.h>
#include <libsmartcols.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct statement {
    sl_cli *cli;
    bool write;
    const char *sql;
    char **arguments;
    size_t n_params;
} statement;

/* ---- one value as text ---- */

/* "x'00FF'", to be freed; NULL: out of memory. */
static char *blob_literal(const unsigned char *data, size_t size) {
    char *text = malloc(2 * size + 4);
    if (!text) return NULL;
    char *at = text;
    *at++ = 'x';
    *at++ = '\'';
    for (size_t i = 0; i < size; i++) at += sprintf(at, "%02X", data[i]);
    *at++ = '\'';
    *at = '\0';
    return text;
}

/* A real as the shortest text that reads back as the same number, with a point or exponent so that it stays a real. */
static void real_text(double value, char out[40]) {
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 40, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    if (strspn(out, "-0123456789") == strlen(out)) strcat(out, ".0");
}

/* The value as plain text, to be freed; NULL: out of memory. */
static char *value_text(const sluice_result *result, size_t column, const char *null_text) {
    char number[40];
    size_t size = 0;
    const char *text;
    const void *blob;
    switch (sluice_result_type(result, column)) {
    case SLUICE_TYPE_INTEGER:
        snprintf(number, sizeof number, "%" PRId64, sluice_result_int64(result, column));
        return strdup(number);
    case SLUICE_TYPE_REAL: real_text(sluice_result_double(result, column), number); return strdup(number);
    case SLUICE_TYPE_TEXT:
        text = sluice_result_text(result, column, &size);
        return text ? strndup(text, size) : strdup("");
    case SLUICE_TYPE_BLOB: blob = sluice_result_blob(result, column, &size); return blob_literal(blob, size);
    case SLUICE_TYPE_NULL: break;
    }
    return strdup(null_text);
}

static void print_escaped(const char *text) {
    for (; *text; text++) {
        if (*text == '\t')
            fputs("\\t", stdout);
        else if (*text == '\n')
            fputs("\\n", stdout);
        else if (*text == '\r')
            fputs("\\r", stdout);
        else if (*text == '\\')
            fputs("\\\\", stdout);
        else
            putchar(*text);
    }
}

static bool print_lines(sluice_result *result) {
    size_t n_columns = sluice_result_columns(result);
    while (sluice_result_next(result)) {
        for (size_t i = 0; i < n_columns; i++) {
            if (i) putchar('\t');
            if (sluice_result_type(result, i) == SLUICE_TYPE_NULL) {
                fputs("\\N", stdout);
                continue;
            }
            char *text = value_text(result, i, "");
            if (!text) return false;
            print_escaped(text);
            free(text);
        }
        putchar('\n');
    }
    return true;
}

static bool fill_table(struct libscols_table *table, sluice_result *result) {
    size_t n_columns = sluice_result_columns(result);
    for (size_t i = 0; i < n_columns; i++)
        if (!scols_table_new_column(table, sluice_result_column_name(result, i), 0, 0)) return false;
    while (sluice_result_next(result)) {
        struct libscols_line *line = scols_table_new_line(table, NULL);
        if (!line) return false;
        for (size_t i = 0; i < n_columns; i++) {
            char *text = value_text(result, i, "NULL");
            if (!text) return false;
            if (scols_line_refer_data(line, i, text) != 0) {
                free(text);
                return false;
            }
        }
    }
    return true;
}

static bool print_table(sluice_result *result) {
    setlocale(LC_CTYPE, ""); /* widths of letters beyond ASCII */
    struct libscols_table *table = scols_new_table();
    bool ok = table && fill_table(table, result) && scols_print_table(table) == 0;
    if (table) scols_unref_table(table);
    return ok;
}

/* ---- JSON ---- */

/* Text that JSON cannot hold (not UTF-8) and blobs become {"hex": "..."}; reals beyond all numbers {"real": "inf"}. */
static json_t *json_hex(const void *data, size_t size) {
    char *literal = blob_literal(data, size);
    if (!literal) return NULL;
    json_t *value = json_pack("{s:s#}", "hex", literal + 2, (int)(2 * size));
    free(literal);
    return value;
}

static json_t *json_value(const sluice_result *result, size_t column) {
    size_t size = 0;
    const void *data;
    double real;
    json_t *value;
    switch (sluice_result_type(result, column)) {
    case SLUICE_TYPE_INTEGER: return json_integer(sluice_result_int64(result, column));
    case SLUICE_TYPE_REAL:
        real = sluice_result_double(result, column);
        value = json_real(real);
        return value ? value : json_pack("{s:s}", "real", real < 0 ? "-inf" : "inf");
    case SLUICE_TYPE_TEXT:
        data = sluice_result_text(result, column, &size);
        value = json_stringn(data ? data : "", size);
        return value ? value : json_hex(data, size);
    case SLUICE_TYPE_BLOB: data = sluice_result_blob(result, column, &size); return json_hex(data, size);
    case SLUICE_TYPE_NULL: break;
    }
    return json_null();
}

static json_t *json_rows(sluice_result *result) {
    json_t *rows = json_array();
    while (rows && sluice_result_next(result)) {
        json_t *row = json_array();
        for (size_t i = 0; row && i < sluice_result_columns(result); i++) {
            if (json_array_append_new(row, json_value(result, i)) == 0) continue;
            json_decref(row);
            row = NULL;
        }
        if (row && json_array_append_new(rows, row) == 0) continue;
        json_decref(rows);
        return NULL;
    }
    return rows;
}

static json_t *json_document(const statement *self, sluice_result *result) {
    json_t *columns = json_array();
    for (size_t i = 0; columns && i < sluice_result_columns(result); i++)
        if (json_array_append_new(columns, json_string(sluice_result_column_name(result, i))) != 0) {
            json_decref(columns);
            columns = NULL;
        }
    json_t *rows = columns ? json_rows(result) : NULL;
    json_int_t commit = (json_int_t)sluice_result_commit_number(result);
    json_t *document = rows ? json_pack("{s:I}", "commit_number", commit) : NULL;
    bool ok = document != NULL;
    if (ok && self->write) {
        json_t *more =
            json_pack("{s:I, s:I, s:b}", "changes", (json_int_t)sluice_result_changes(result), "last_rowid",
                      (json_int_t)sluice_result_last_rowid(result), "replayed", (int)sluice_result_replayed(result));
        ok = json_object_update(document, more) == 0;
        json_decref(more);
    }
    if (ok && (!self->write || sluice_result_columns(result)))
        ok = json_object_set(document, "columns", columns) == 0 && json_object_set(document, "rows", rows) == 0;
    json_decref(columns);
    json_decref(rows);
    if (ok) return document;
    json_decref(document);
    return NULL;
}

static bool print_json(const statement *self, sluice_result *result) {
    json_t *document = json_document(self, result);
    bool ok = document && json_dumpf(document, stdout, JSON_COMPACT | JSON_ENCODE_ANY) == 0;
    if (ok) putchar('\n');
    json_decref(document);
    return ok;
}

/* ---- the call ---- */

static bool print_result(const statement *self, sluice_result *result) {
    if (self->cli->json) return print_json(self, result);
    bool ok = true;
    if (sluice_result_columns(result)) ok = isatty(STDOUT_FILENO) ? print_table(result) : print_lines(result);
    if (ok && self->write)
        printf("changes %" PRIu64 ", last rowid %" PRId64 ", commit %" PRIu64 "\n", sluice_result_changes(result),
               sluice_result_last_rowid(result), sluice_result_commit_number(result));
    return ok;
}

static int call(const statement *self, const sluice_value *values) {
    sluice_client *client = NULL;
    int code = sl_cli_open(self->cli, &client);
    if (code) return code;
    sluice_cause cause = {0};
    sluice_result *result = NULL;
    sluice_err err = self->write ? sluice_exec(client, self->sql, values, self->n_params, &result, &cause)
                                 : sluice_query(client, self->sql, values, self->n_params, &result, &cause);
    if (err) {
        cause.code = err;
        code = sl_cli_failed(self->cli, self->cli->url, &cause, self->write);
    } else if (!print_result(self, result)) {
        sl_tool_error("result", "out of memory, or stdout could not be written",
                      self->write ? "the write is done all the same" : NULL);
        code = SL_EXIT_ERROR;
    }
    sluice_result_destroy(&result);
    sluice_client_close(&client);
    return code;
}

static int run(const statement *self) {
    sl_parameter *params = calloc(self->n_params + 1, sizeof *params);
    sluice_value *values = calloc(self->n_params + 1, sizeof *values);
    int code = SL_EXIT_OK;
    if (!params || !values) {
        sl_tool_error("parameters", "out of memory", NULL);
        code = SL_EXIT_ERROR;
    }
    size_t n = 0;
    for (; !code && n < self->n_params; n++) {
        sluice_cause cause = {0};
        if (sl_parameter_init(&params[n], self->arguments[n], &cause)) {
            sl_tool_error("parameter", cause.text, NULL);
            code = SL_EXIT_USAGE;
        }
        values[n] = params[n].value;
    }
    if (!code) code = call(self, values);
    while (n > 0) sl_parameter_fini(&params[--n]);
    free(params);
    free(values);
    return code;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    statement *self = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = self->cli; break;
    case ARGP_KEY_ARG:
        self->sql = arg;
        /* What follows is parameters as they stand: -5 is a number, not an option. */
        self->arguments = state->argv + state->next;
        self->n_params = (size_t)(state->argc - state->next);
        state->next = state->argc;
        break;
    case ARGP_KEY_NO_ARGS: argp_error(state, "an SQL statement is needed"); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int parse_and_run(sl_cli *cli, bool write, const char *doc, int argc, char **argv) {
    const struct argp_child children[] = {{&sl_cli_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.parser = parse, .args_doc = "SQL [PARAM...]", .doc = doc, .children = children};
    statement self = {.cli = cli, .write = write};
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &self);
    return run(&self);
}

int sl_command_exec(sl_cli *cli, int argc, char **argv) {
    return parse_and_run(
        cli, true, "Runs one statement that writes. Exit code 0 means: in the file and on disk.\v" SL_PARAMETER_HELP,
        argc, argv);
}

int sl_command_query(sl_cli *cli, int argc, char **argv) {
    return parse_and_run(cli, false,
                         "Runs one statement that reads, and prints its rows.\v" SL_PARAMETER_HELP
                         " Off a terminal rows are lines of tab-separated values; NULL is \\N.",
                         argc, argv);
}
