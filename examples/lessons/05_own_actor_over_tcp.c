/* SPDX-License-Identifier: MIT */
/* Lesson 5: an actor of your own, with messages of your own (05_own_actor_over_tcp.proto), asked over TCP. The child
 * process hosts the actor; the parent tells it readings and asks it for a summary. No database is involved. */
#include "lesson.h"
#include "05_own_actor_over_tcp.pb-c.h"
#include <sluice/sluice.h>
#include <sys/wait.h>
#include <unistd.h>

static sluice_err thermometer_receive(sluice_actor *self, sluice_msg **msg)
{
    Thermometer__V1__Summary *seen = sluice_actor_state(self);
    if (sluice_msg_is(*msg, &thermometer__v1__reading__descriptor)) {
        int32_t t = ((const Thermometer__V1__Reading *)sluice_msg_body(*msg))->tenths_of_a_degree;
        if (seen->readings == 0 || t < seen->lowest) seen->lowest = t;
        if (seen->readings == 0 || t > seen->highest) seen->highest = t;
        seen->readings++;
        return SLUICE_OK;
    }
    if (!sluice_msg_is(*msg, &thermometer__v1__summary_request__descriptor)) { /* a stranger's message: a typed no */
        sluice_cause cause;
        sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "a thermometer cannot read %s", sluice_msg_type_name(*msg));
        sluice_reply_error(self, *msg, &cause);
        return SLUICE_OK;
    }
    sluice_msg *reply;
    sluice_err err = sluice_msg_new(&thermometer__v1__summary__descriptor, &reply);
    if (err != SLUICE_OK) return err;
    Thermometer__V1__Summary *summary = sluice_msg_body(reply);
    summary->readings = seen->readings, summary->lowest = seen->lowest, summary->highest = seen->highest;
    sluice_reply(self, *msg, &reply);
    return SLUICE_OK;
}

static const sluice_behaviour thermometer = {.kind = "thermometer", .receive = thermometer_receive};

static void serve(int ready, int stop)
{
    sluice_cause cause;
    sluice_runtime *runtime;
    must(sluice_runtime_new(NULL, &runtime, &cause), &cause, "runtime");
    /* Types that shall arrive from other processes are registered; answers need not be. */
    must(sluice_runtime_register_type(runtime, &thermometer__v1__reading__descriptor), NULL, "register");
    must(sluice_runtime_register_type(runtime, &thermometer__v1__summary_request__descriptor), NULL, "register");
    Thermometer__V1__Summary seen = THERMOMETER__V1__SUMMARY__INIT;
    sluice_spec spec = {.behaviour = &thermometer, .arg = &seen, .name = "kitchen"};
    sluice_pid pid;
    must(sluice_spawn(runtime, &spec, &pid, &cause), &cause, "spawn");

    sluice_gateway_options door;
    sluice_gateway_options_init(&door);
    door.allow_plain = true;
    sluice_gateway *gateway;
    must(sluice_gateway_open(runtime, &door, &gateway, &cause), &cause, "gateway");
    must(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), &cause, "listen");
    dprintf(ready, "%s", sluice_gateway_endpoint(gateway, 0));
    close(ready);
    char byte;
    while (read(stop, &byte, 1) > 0) {}
    sluice_gateway_close(&gateway);
    sluice_runtime_destroy(&runtime);
    exit(0);
}

int main(void)
{
    char url[256] = "";
    int ready[2], stop[2];
    if (pipe(ready) != 0 || pipe(stop) != 0) must(SLUICE_SYSTEM, NULL, "pipe");
    if (fork() == 0) close(stop[1]), serve(ready[1], stop[0]);
    close(ready[1]);
    if (read(ready[0], url, sizeof url - 1) <= 0) must(SLUICE_UNREACHABLE, NULL, "server");

    sluice_cause cause;
    sluice_client *client;
    sluice_msg *msg, *reply;
    must(sluice_client_open(url, NULL, &client, &cause), &cause, "client");
    must(sluice_client_register_type(client, &thermometer__v1__summary__descriptor), NULL, "register");
    const int32_t tenths[] = {215, 198, 224};
    for (size_t i = 0; i < 3; i++) {
        must(sluice_msg_new(&thermometer__v1__reading__descriptor, &msg), NULL, "message");
        ((Thermometer__V1__Reading *)sluice_msg_body(msg))->tenths_of_a_degree = tenths[i];
        must(sluice_client_tell(client, "kitchen", &msg, &cause), &cause, "tell");
    }
    must(sluice_msg_new(&thermometer__v1__summary_request__descriptor, &msg), NULL, "message");
    must(sluice_client_ask(client, "kitchen", &msg, &reply, &cause), &cause, "ask");
    const Thermometer__V1__Summary *s = sluice_msg_body(reply);
    printf("%u readings, from %.1f to %.1f degrees\n", s->readings, s->lowest / 10.0, s->highest / 10.0);
    sluice_msg_destroy(&reply);

    must(sluice_msg_new(&thermometer__v1__summary_request__descriptor, &msg), NULL, "message");
    printf("the cellar: %s\n", sluice_err_name(sluice_client_ask(client, "cellar", &msg, &reply, &cause)));
    sluice_msg_destroy(&msg); /* an ask that could not be delivered leaves the message with us; NULL is fine */
    sluice_client_close(&client);
    close(stop[1]), wait(NULL);
    return 0;
}
