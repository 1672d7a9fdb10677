/* SPDX-License-Identifier: MIT */
/* Lesson 3: back-pressure. Every queue has an end; a full one answers OVERLOADED at once, and nothing was queued.
 * Part one fills the mailbox of a slow actor. Part two fills a client's window of requests in flight, then does what a
 * good sender does: collects an answer, and sends the refused request again. */
#include "lesson.h"
#include "hello.pb-c.h"
#include <inttypes.h>
#include <semaphore.h>
#include <sluice/sluice.h>
#include <unistd.h>

/* A pinned actor has a thread of its own, so it may block. This one waits for `go` with each message in hand. */
static sem_t begun, go;
static sluice_err slow_receive(sluice_actor *self, sluice_msg **msg)
{
    (void)self, (void)msg;
    sem_post(&begun), sem_wait(&go);
    return SLUICE_OK;
}
static const sluice_behaviour slow = {.kind = "slow", .receive = slow_receive};

static void fill_a_mailbox(sluice_runtime *runtime)
{
    int taken = 0;
    sluice_cause cause;
    sluice_pid pid;
    sluice_spec spec = {.behaviour = &slow, .placement = SLUICE_PLACE_PINNED, .mailbox_messages = 4};
    must(sluice_spawn(runtime, &spec, &pid, &cause), &cause, "spawn");
    sluice_err err;
    sluice_msg *msg;
    do {
        must(sluice_msg_new(&lesson__v1__hello__descriptor, &msg), NULL, "message");
        err = sluice_post(runtime, pid, &msg);
        if (err == SLUICE_OK && taken++ == 0) sem_wait(&begun);
    } while (err == SLUICE_OK);
    printf("mailbox of 4: refused (%s) while the actor was at its first message\n", sluice_err_name(err));
    sluice_msg_destroy(&msg); /* refused: it is still ours */
    for (int i = 0; i < taken; i++) sem_post(&go);
    for (int i = 1; i < taken; i++) sem_wait(&begun);
    printf("every message that was taken was handled\n");
    sluice_stop(runtime, pid);
}

static void collect(sluice_client *client)
{
    sluice_completion completion;
    if (!sluice_poll(client, 10000, &completion)) must(SLUICE_TIMEOUT, NULL, "poll");
    must(completion.err, &completion.cause, "insert");
    sluice_result_destroy(&completion.result);
}

static void fill_a_window(sluice_client *client)
{
    sluice_cause cause;
    sluice_err err;
    int refused = 0;
    for (int sent = 0; sent < 100; sent++) {
        sluice_request *request;
        sluice_value number = sluice_integer(sent);
        must(sluice_request_new(client, SLUICE_WRITE, &request), NULL, "request");
        must(sluice_request_add(request, "INSERT INTO number VALUES(?)", &number, 1), NULL, "add");
        while ((err = sluice_submit(client, &request, NULL, NULL, &cause)) == SLUICE_OVERLOADED) {
            if (refused++ == 0) printf("window of 8: refused after %zu in flight\n", sluice_client_inflight(client));
            collect(client);
        }
        must(err, &cause, "submit"); /* the request is no longer ours */
    }
    while (sluice_client_inflight(client) > 0) collect(client);
    sluice_result *result;
    must(sluice_query(client, "SELECT count(*) FROM number", NULL, 0, &result, &cause), &cause, "count");
    if (sluice_result_next(result)) printf("sent 100, in the file %" PRId64 "\n", sluice_result_int64(result, 0));
    sluice_result_destroy(&result);
}

int main(void)
{
    sluice_cause cause;
    sluice_runtime *runtime;
    sem_init(&begun, 0, 0), sem_init(&go, 0, 0);
    must(sluice_runtime_new(NULL, &runtime, &cause), &cause, "runtime");
    fill_a_mailbox(runtime);

    sluice_store *store;
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = "lesson.db";
    unlink(options.path);
    must(sluice_store_open(runtime, &options, &store, &cause), &cause, "open");
    sluice_client_options window;
    sluice_client_options_init(&window);
    window.runtime = runtime, window.max_inflight = 8;
    sluice_client *client;
    must(sluice_client_open("inproc://app", &window, &client, &cause), &cause, "client");
    must(sluice_exec(client, "CREATE TABLE number(n INTEGER)", NULL, 0, NULL, &cause), &cause, "create");
    fill_a_window(client);
    sluice_client_close(&client);
    sluice_store_close(&store);
    sluice_runtime_destroy(&runtime);
}
