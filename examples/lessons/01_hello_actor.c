/* SPDX-License-Identifier: MIT */
/* Lesson 1: two actors. A visitor asks, a greeter answers; each handles one message at a time.
 *
 * Nothing here is locked: `greeted` belongs to the greeter, and only the greeter's callbacks touch it.
 */
#include "lesson.h"
#include "hello.pb-c.h"
#include <semaphore.h>
#include <sluice/sluice.h>

static sem_t answered;

/* ---- the greeter: counts visitors ---- */

static sluice_err greeter_receive(sluice_actor *self, sluice_msg **msg)
{
    unsigned *greeted = sluice_actor_state(self);
    const Lesson__V1__Hello *hello = sluice_msg_body(*msg);
    char text[80];
    snprintf(text, sizeof text, "Hello, %.40s! You are visitor %u.", hello->name, ++*greeted);

    sluice_msg *reply;
    sluice_err err = sluice_msg_new(&lesson__v1__greeting__descriptor, &reply);
    if (err != SLUICE_OK) return err; /* the asker hears ACTOR_DOWN */
    Lesson__V1__Greeting *greeting = sluice_msg_body(reply);
    greeting->text = sluice_msg_strdup(reply, text); /* lives as long as the message */
    sluice_reply(self, *msg, &reply);                /* the reply is no longer ours */
    return SLUICE_OK;
}

static void greeter_stop(sluice_actor *self, sluice_err why)
{
    printf("The greeter ended (%s) after %u greetings.\n", sluice_err_name(why), *(unsigned *)sluice_actor_state(self));
}

static const sluice_behaviour greeter = {.kind = "greeter", .receive = greeter_receive, .stop = greeter_stop};

/* ---- the visitor: passes each Hello on to the greeter and prints the answer ---- */

static void on_greeting(sluice_actor *self, void *context, sluice_err err, sluice_msg **reply,
                        const sluice_cause *cause)
{
    (void)self, (void)context;
    if (err == SLUICE_OK)
        puts(((const Lesson__V1__Greeting *)sluice_msg_body(*reply))->text);
    else
        printf("no greeting: %s\n", cause->text);
    sem_post(&answered);
}

static sluice_err visitor_receive(sluice_actor *self, sluice_msg **msg)
{
    sluice_pid *greeter_pid = sluice_actor_state(self);
    /* The message itself moves on: no copy. Exactly one of a reply, an error or the deadline (1 s) comes back. */
    return sluice_ask(self, *greeter_pid, msg, 1000, on_greeting, NULL);
}

static const sluice_behaviour visitor = {.kind = "visitor", .receive = visitor_receive};

int main(void)
{
    sluice_cause cause;
    sluice_runtime *runtime;
    sem_init(&answered, 0, 0);
    must(sluice_runtime_new(NULL, &runtime, &cause), &cause, "runtime");

    unsigned greeted = 0;
    sluice_pid greeter_pid, visitor_pid;
    sluice_spec spec = {.behaviour = &greeter, .arg = &greeted, .name = "greeter"};
    must(sluice_spawn(runtime, &spec, &greeter_pid, &cause), &cause, "greeter");
    spec = (sluice_spec){.behaviour = &visitor, .arg = &greeter_pid, .name = "visitor"};
    must(sluice_spawn(runtime, &spec, &visitor_pid, &cause), &cause, "visitor");

    const char *names[] = {"world", "Ada"};
    for (size_t i = 0; i < 2; i++) {
        sluice_msg *msg;
        must(sluice_msg_new(&lesson__v1__hello__descriptor, &msg), NULL, "message");
        ((Lesson__V1__Hello *)sluice_msg_body(msg))->name = sluice_msg_strdup(msg, names[i]);
        must(sluice_post(runtime, visitor_pid, &msg), NULL, "post");
        sem_wait(&answered);
    }
    sluice_runtime_destroy(&runtime); /* stops the actors in reverse order, then their threads */
    sem_destroy(&answered);
    return 0;
}
