/* SPDX-License-Identifier: MIT */
/* `sluice status` and `sluice ping`. */
#include "cli.h"
#include "sluice/v1/control.pb-c.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

#define GATEWAY_NAME "gateway"

static error_t parse(int key, char *arg, struct argp_state *state) {
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->input; break;
    case ARGP_KEY_ARG: argp_error(state, "%s: no argument is expected", arg); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void parse_connection_only(sl_cli *cli, const char *doc, int argc, char **argv) {
    const struct argp_child children[] = {{&sl_cli_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {.parser = parse, .doc = doc, .children = children};
    argp_parse(&argp, argc, argv, 0, NULL, cli);
}

/* ---- status ---- */

static json_t *json_counters(Sluice__V1__Counter *const *counters, size_t n) {
    json_t *object = json_object();
    for (size_t i = 0; object && i < n; i++) {
        if (json_object_set_new(object, counters[i]->name, json_integer((json_int_t)counters[i]->value)) == 0) continue;
        json_decref(object);
        object = NULL;
    }
    return object;
}

static bool print_status(const sl_cli *cli, const Sluice__V1__StatusReply *reply) {
    if (!cli->json) {
        printf("path %s\n", reply->path);
        for (size_t i = 0; i < reply->n_store; i++)
            printf("store.%s %" PRIu64 "\n", reply->store[i]->name, reply->store[i]->value);
        for (size_t i = 0; i < reply->n_gateway; i++)
            printf("gateway.%s %" PRIu64 "\n", reply->gateway[i]->name, reply->gateway[i]->value);
        return true;
    }
    json_t *store = json_counters(reply->store, reply->n_store);
    json_t *gateway = json_counters(reply->gateway, reply->n_gateway);
    json_t *document =
        store && gateway ? json_pack("{s:s, s:O, s:O}", "path", reply->path, "store", store, "gateway", gateway) : NULL;
    bool ok = document && json_dumpf(document, stdout, JSON_COMPACT) == 0;
    if (ok) putchar('\n');
    json_decref(document);
    json_decref(store);
    json_decref(gateway);
    return ok;
}

int sl_command_status(sl_cli *cli, int argc, char **argv) {
    parse_connection_only(cli, "Prints the counters of the server's store and gateway.", argc, argv);
    sluice_client *client = NULL;
    int code = sl_cli_open(cli, &client);
    if (code) return code;
    sluice_cause cause = {0};
    sluice_msg *request = NULL, *reply = NULL;
    sluice_err err = sluice_msg_new(&sluice__v1__status_request__descriptor, &request);
    if (!err) err = sluice_client_ask(client, GATEWAY_NAME, &request, &reply, &cause);
    if (!err && !sluice_msg_is(reply, &sluice__v1__status_reply__descriptor))
        err = sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "answered by %s, not a StatusReply",
                               sluice_msg_type_name(reply));
    if (err) {
        cause.code = err;
        code = sl_cli_failed(cli, cli->url, &cause, false);
    } else if (!print_status(cli, sluice_msg_body(reply))) {
        sl_tool_error("status", "out of memory, or stdout could not be written", NULL);
        code = SL_EXIT_ERROR;
    }
    sluice_msg_destroy(&request);
    sluice_msg_destroy(&reply);
    sluice_client_close(&client);
    return code;
}

/* ---- ping ---- */

int sl_command_ping(sl_cli *cli, int argc, char **argv) {
    parse_connection_only(cli, "Waits until the server answers, at most --timeout, and says how long that took.", argc,
                          argv);
    sluice_client *client = NULL;
    int code = sl_cli_open(cli, &client);
    if (code) return code;
    struct timespec before, after;
    sluice_cause cause = {0};
    clock_gettime(CLOCK_MONOTONIC, &before);
    sluice_err err = sluice_client_ping(client, &cause);
    clock_gettime(CLOCK_MONOTONIC, &after);
    double us = (double)(after.tv_sec - before.tv_sec) * 1e6 + (double)(after.tv_nsec - before.tv_nsec) / 1e3;
    if (err) {
        cause.code = err;
        code = sl_cli_failed(cli, cli->url, &cause, false);
    } else if (cli->json) {
        printf("{\"us\":%.0f}\n", us);
    } else {
        printf("pong after %.0f us\n", us);
    }
    sluice_client_close(&client);
    return code;
}
