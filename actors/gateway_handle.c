/* SPDX-License-Identifier: MIT */
/* The host's handle of a gateway: open, listen, endpoint, statistics, close.
 *
 * Threads: the host's, any but a dispatcher's.
 *
 *     open --> (listen)* --> close
 *
 * The endpoint belongs to the actor's thread, so what the host wants is put on a list of commands and the actor is told
 * to look. The command lies on the caller's stack; the caller waits until it is done.
 *
 * Invariants
 *  1. A command on the list is ended by the actor, or by its stop; one that is put there after the actor ended is refused.
 *     So no caller waits for ever.
 *  2. The handle outlives the actor: close stops the actor first (unless the runtime's end did), then frees.
 *
 * Close order: DRAIN (stops listening, waits for what is in flight, bounded), actor, strings, lock.
 */
#include "gateway_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sluice/v1/control.pb-c.h"

#define MAX_MESSAGE_LIMIT ((uint32_t)1 << 30)
#define MAILBOX_MESSAGES 4096u /* questions of local actors and doorbells; answers are not counted by the runtime */

void sluice_gateway_options_init(sluice_gateway_options *options) {
    *options = (sluice_gateway_options){
        .name = "gateway",
        .max_message_bytes = 16u << 20,
        .max_inflight = 4096,
        .max_inflight_total = 65536,
        .max_unsent_bytes = 128u << 20,
        .handshake_ms = 3000,
    };
}

static sluice_err check_options(const sluice_gateway_options *options, sluice_cause *cause) {
    if (options->name == NULL || options->name[0] == '\0' || strlen(options->name) > SL_WIRE_NAME_MAX)
        return sluice_cause_set(cause, SLUICE_INVALID, "a gateway's name has 1 to %u bytes", SL_WIRE_NAME_MAX);
    if (options->max_message_bytes < 1024 || options->max_message_bytes > MAX_MESSAGE_LIMIT)
        return sluice_cause_set(cause, SLUICE_INVALID, "max_message_bytes is 1 KiB to 1 GiB");
    if (options->max_inflight == 0 || options->max_inflight_total == 0 || options->max_inflight_total > 1u << 24)
        return sluice_cause_set(cause, SLUICE_INVALID, "max_inflight is at least 1, max_inflight_total at most 2^24");
    if (options->max_unsent_bytes == 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "max_unsent_bytes is at least 1");
    if (options->keys_directory != NULL && options->allow_plain)
        return sluice_cause_set(cause, SLUICE_INVALID, "keys_directory and allow_plain exclude each other");
    if (options->handshake_ms == 0 || options->handshake_ms > 600000)
        return sluice_cause_set(cause, SLUICE_INVALID, "handshake_ms is 1 to 600000");
    return SLUICE_OK;
}

static void handle_free(sluice_gateway *self) {
    for (size_t i = 0; i < self->n_endpoints; i++) free(self->endpoints[i]);
    free(self->endpoints);
    free((char *)(uintptr_t)self->options.keys_directory);
    pthread_cond_destroy(&self->changed);
    pthread_mutex_destroy(&self->lock);
    free(self);
}

sluice_err sl_gateway_open_at(sluice_runtime *runtime, const sluice_gateway_options *options,
                              sluice_placement placement, sluice_pid near, sluice_gateway **out, sluice_cause *cause) {
    *out = NULL;
    sluice_gateway_options defaults;
    if (options == NULL) {
        sluice_gateway_options_init(&defaults);
        options = &defaults;
    }
    sluice_err err = check_options(options, cause);
    if (err != SLUICE_OK) return err;
    sluice_gateway *self = calloc(1, sizeof *self);
    if (self == NULL) return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a gateway");
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    self->runtime = runtime;
    self->store = options->store;
    self->options = *options;
    snprintf(self->name, sizeof self->name, "%s", options->name);
    self->options.name = self->name;
    if (options->keys_directory != NULL) {
        self->options.keys_directory = strdup(options->keys_directory);
        err = self->options.keys_directory == NULL
                  ? sluice_cause_set(cause, SLUICE_NOMEM, "out of memory for a gateway")
                  : sl_gateway_keys_load(self, cause);
        if (err != SLUICE_OK) goto fail;
    }
    sluice_spec spec = {
        .behaviour = &sl_gateway_behaviour,
        .arg = self,
        .name = self->name,
        .placement = placement,
        .near = near,
        .mailbox_messages = MAILBOX_MESSAGES,
    };
    err = sluice_spawn(runtime, &spec, &self->pid, cause);
    if (err != SLUICE_OK) goto fail;
    *out = self;
    return SLUICE_OK;
fail:
    sl_gateway_keys_drop(self);
    handle_free(self);
    return err;
}

sluice_err sluice_gateway_open(sluice_runtime *runtime, const sluice_gateway_options *options, sluice_gateway **out,
                               sluice_cause *cause) {
    return sl_gateway_open_at(runtime, options, SLUICE_PLACE_PINNED, 0, out, cause);
}

/* ---- commands ---- */

/* Puts a command on the list. False: the actor has ended. */
static bool enlist(sluice_gateway *self, sl_gateway_command *command) {
    pthread_mutex_lock(&self->lock);
    bool alive = !self->ended;
    if (alive) {
        sl_gateway_command **last = &self->commands;
        while (*last != NULL) last = &(*last)->next;
        *last = command;
    }
    pthread_mutex_unlock(&self->lock);
    return alive;
}

/* Takes a command whose doorbell could not be rung off the list. False: somebody has it in hand already. */
static bool delist(sluice_gateway *self, const sl_gateway_command *command) {
    pthread_mutex_lock(&self->lock);
    sl_gateway_command **at = &self->commands;
    while (*at != NULL && *at != command) at = &(*at)->next;
    bool found = *at != NULL;
    if (found) *at = command->next;
    pthread_mutex_unlock(&self->lock);
    return found;
}

/* Has the actor do something and waits until it is done. */
static sluice_err run(sluice_gateway *self, sl_gateway_command *command) {
    sluice_msg *doorbell = NULL;
    sluice_err err = sluice_msg_new(&sluice__v1__ping__descriptor, &doorbell);
    if (err != SLUICE_OK) return sluice_cause_set(&command->cause, err, "out of memory");
    if (!enlist(self, command)) {
        sluice_msg_destroy(&doorbell);
        return sluice_cause_set(&command->cause, SLUICE_CLOSED, "the gateway has ended");
    }
    err = sluice_post(self->runtime, self->pid, &doorbell);
    sluice_msg_destroy(&doorbell);
    if (err != SLUICE_OK && delist(self, command))
        return sluice_cause_set(&command->cause, err == SLUICE_NO_ACTOR ? SLUICE_CLOSED : err,
                                "the gateway does not listen to its host: %s", sluice_err_text(err));
    pthread_mutex_lock(&self->lock);
    while (!command->done) pthread_cond_wait(&self->changed, &self->lock);
    pthread_mutex_unlock(&self->lock);
    return command->err;
}

/* Keeps the resolved address where the host can see it. */
static sluice_err remember(sluice_gateway *self, const char *resolved, sluice_cause *cause) {
    char *copy = strdup(resolved);
    pthread_mutex_lock(&self->lock);
    char **grown = copy != NULL ? realloc(self->endpoints, (self->n_endpoints + 1) * sizeof *grown) : NULL;
    if (grown != NULL) {
        grown[self->n_endpoints++] = copy;
        self->endpoints = grown;
    }
    pthread_mutex_unlock(&self->lock);
    if (grown != NULL) return SLUICE_OK;
    free(copy);
    return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory; the gateway listens, but on an address it forgot");
}

sluice_err sluice_gateway_listen(sluice_gateway *gateway, const char *url, sluice_cause *cause) {
    sl_gateway_command command = {.verb = SL_GATEWAY_LISTEN, .url = url};
    sluice_err err = sl_gateway_admit_address(url, gateway->options.allow_plain,
                                              gateway->options.keys_directory != NULL, &command.cause);
    if (err == SLUICE_OK) err = run(gateway, &command);
    if (err == SLUICE_OK) err = remember(gateway, command.resolved, &command.cause);
    if (err != SLUICE_OK && cause != NULL) *cause = command.cause;
    return err;
}

sluice_err sluice_gateway_reload_keys(sluice_gateway *gateway, sluice_cause *cause) {
    const char *directory = gateway->options.keys_directory;
    if (directory == NULL) return sluice_cause_set(cause, SLUICE_INVALID, "the gateway was opened without keys");
    sl_gateway_command command = {.verb = SL_GATEWAY_RELOAD};
    unsigned n_refused = 0;
    sluice_cause why = {.code = SLUICE_OK};
    sluice_err err = sl_keyring_load(directory, &command.keyring, &n_refused, &why);
    if (err == SLUICE_OK) {
        err = run(gateway, &command);
        sl_keyring_destroy(&command.keyring); /* still there if the command was not carried out */
        if (err != SLUICE_OK) why = command.cause;
    }
    if (err == SLUICE_OK && n_refused > 0) {
        char context[64];
        snprintf(context, sizeof context, "left out, with %u more", n_refused - 1);
        err = sluice_cause_wrap(&why, n_refused > 1 ? context : "left out");
    }
    if (err != SLUICE_OK && cause != NULL) *cause = why;
    return err;
}

const char *sluice_gateway_endpoint(const sluice_gateway *gateway, size_t i) {
    /* The lock is no part of what the caller sees as constant. */
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&gateway->lock;
    pthread_mutex_lock(lock);
    const char *endpoint = i < gateway->n_endpoints ? gateway->endpoints[i] : NULL;
    pthread_mutex_unlock(lock);
    return endpoint;
}

void sluice_gateway_stats_read(const sluice_gateway *gateway, sluice_gateway_stats *out) {
#define READ(name, meaning) out->name = atomic_load_explicit(&gateway->counters.name, memory_order_relaxed);
    SLUICE_GATEWAY_STATS_MAP(READ)
#undef READ
}

void sluice_gateway_close(sluice_gateway **gateway) {
    if (gateway == NULL || *gateway == NULL) return;
    sluice_gateway *self = *gateway;
    *gateway = NULL;
    sl_gateway_command command = {.verb = SL_GATEWAY_DRAIN};
    (void)!run(self, &command); /* ended before, or out of memory: the stop below answers what is in flight */
    pthread_mutex_lock(&self->lock);
    bool ended = self->ended;
    pthread_mutex_unlock(&self->lock);
    /* A runtime that ended first has stopped the actor, and is not there to be asked. */
    if (!ended) sluice_stop(self->runtime, self->pid);
    handle_free(self);
}
