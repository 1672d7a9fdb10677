/* SPDX-License-Identifier: MIT */
/* A whole house for tests of clients; see house.h. */
#include "support/house.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void house_init(house *self) {
    sluice_cause cause;
    memset(self, 0, sizeof *self);
    self->directory = support_directory_new();
    self->path = support_path(self->directory, "house.db");
    char name[] = "/tmp/sluice-test-XXXXXX"; /* a socket's path must be short */
    if (mkdtemp(name) == NULL) fail_msg("mkdtemp failed");
    self->socket_directory = strdup(name);
    assert_ok(sluice_runtime_new(NULL, &self->runtime, &cause), cause);
    sluice_store_options_init(&self->options);
    self->options.path = self->path;
}

void house_open(house *self) {
    sluice_cause cause;
    assert_ok(sluice_store_open(self->runtime, &self->options, &self->store, &cause), cause);
    sluice_gateway_options gateway;
    sluice_gateway_options_init(&gateway);
    gateway.store = self->store;
    gateway.allow_plain = true;
    assert_ok(sluice_gateway_open(self->runtime, &gateway, &self->gateway, &cause), cause);
    snprintf(self->urls[0], sizeof self->urls[0], "inproc://app");
    snprintf(self->urls[1], sizeof self->urls[1], "ipc://%s/s", self->socket_directory);
    assert_ok(sluice_gateway_listen(self->gateway, self->urls[1], &cause), cause);
    assert_ok(sluice_gateway_listen(self->gateway, "tcp://127.0.0.1:*", &cause), cause);
    snprintf(self->urls[2], sizeof self->urls[2], "%s", sluice_gateway_endpoint(self->gateway, 1));
}

void house_close(house *self) {
    sluice_gateway_close(&self->gateway);
    sluice_store_close(&self->store);
}

void house_fini(house *self) {
    house_close(self);
    sluice_runtime_destroy(&self->runtime);
    support_directory_remove(&self->socket_directory);
    support_directory_remove(&self->directory);
    free(self->path);
}

sluice_client *house_client(house *self, const char *url, bool receipts) {
    sluice_client_options options;
    sluice_client_options_init(&options);
    options.runtime = self->runtime;
    options.timeout_ms = HOUSE_PATIENCE_MS;
    options.receipts_default = false;
    options.receipts = receipts;
    sluice_client *client = NULL;
    sluice_cause cause;
    assert_ok(sluice_client_open(url, &options, &client, &cause), cause);
    return client;
}

void house_exec(sluice_client *client, const char *sql) {
    sluice_cause cause;
    sluice_err err = sluice_exec(client, sql, NULL, 0, NULL, &cause);
    if (err != SLUICE_OK) fail_msg("%s: %s: %s", sql, sluice_err_name(err), cause.text);
}

int64_t house_integer(sluice_client *client, const char *sql) {
    sluice_result *result = NULL;
    sluice_cause cause;
    sluice_err err = sluice_query(client, sql, NULL, 0, &result, &cause);
    if (err != SLUICE_OK) fail_msg("%s: %s: %s", sql, sluice_err_name(err), cause.text);
    assert_true(sluice_result_next(result));
    int64_t value = sluice_result_int64(result, 0);
    sluice_result_destroy(&result);
    return value;
}

sluice_store_stats house_stats(const house *self) {
    sluice_store_stats stats;
    sluice_store_stats_read(self->store, &stats);
    return stats;
}
