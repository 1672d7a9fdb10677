/* SPDX-License-Identifier: MIT */
/* Lesson 4: a remote client. One process owns the file and listens on TCP; another writes and reads through it.
 *
 * Usage: 04_remote_client [URL]   With a URL it talks to that server; without, it starts one of its own in a child.
 */
#include "lesson.h"
#include <inttypes.h>
#include <sluice/sluice.h>
#include <sys/wait.h>
#include <unistd.h>

/* The owner: store and gateway. Tells its endpoint through `ready` and serves until `stop` is closed. */
static void serve(int ready, int stop)
{
    sluice_cause cause;
    sluice_runtime *runtime;
    must(sluice_runtime_new(NULL, &runtime, &cause), &cause, "runtime");
    sluice_store_options options;
    sluice_store_options_init(&options);
    options.path = "lesson.db";
    sluice_store *store;
    must(sluice_store_open(runtime, &options, &store, &cause), &cause, "open");

    sluice_gateway_options door;
    sluice_gateway_options_init(&door);
    door.store = store;
    door.allow_plain = true; /* no keys: loopback only */
    sluice_gateway *gateway;
    must(sluice_gateway_open(runtime, &door, &gateway, &cause), &cause, "gateway");
    must(sluice_gateway_listen(gateway, "tcp://127.0.0.1:*", &cause), &cause, "listen"); /* any free port */
    dprintf(ready, "%s", sluice_gateway_endpoint(gateway, 0));
    close(ready);

    char byte;
    while (read(stop, &byte, 1) > 0) {}
    sluice_gateway_close(&gateway);
    sluice_store_close(&store);
    sluice_runtime_destroy(&runtime);
    exit(0);
}

/* Moves money. Both updates happen or neither: each must change exactly one row. */
static void transfer(sluice_client *client, const char *from, const char *to, int64_t amount)
{
    sluice_cause cause;
    sluice_request *request;
    sluice_value take[] = {sluice_text(from), sluice_integer(amount)}, give[] = {sluice_text(to), take[1]};
    must(sluice_request_new(client, SLUICE_WRITE, &request), NULL, "request");
    must(sluice_request_add(request, "UPDATE account SET cents = cents - ?2 WHERE name = ?1 AND cents >= ?2", take, 2),
         NULL, "add");
    must(sluice_request_expect(request, 1), NULL, "expect");
    must(sluice_request_add(request, "UPDATE account SET cents = cents + ?2 WHERE name = ?1", give, 2), NULL, "add");
    must(sluice_request_expect(request, 1), NULL, "expect");
    sluice_err err = sluice_call(client, request, NULL, &cause);
    /* The answer was lost (network cut)? The same request keeps its id: asking again cannot do it twice. */
    if (err == SLUICE_UNKNOWN) err = sluice_call_again(client, request, NULL, &cause);
    printf("%s pays %s %" PRId64 ": %s", from, to, amount, sluice_err_name(err));
    if (err == SLUICE_GUARD_FAILED) printf(" at statement %" PRId32 "; nothing was done", cause.statement);
    putchar('\n');
    sluice_request_destroy(&request);
}

int main(int argc, char **argv)
{
    char url[256] = "";
    int ready[2], stop[2] = {-1, -1};
    if (argc > 1) {
        snprintf(url, sizeof url, "%s", argv[1]);
    } else {
        unlink("lesson.db");
        if (pipe(ready) != 0 || pipe(stop) != 0) must(SLUICE_SYSTEM, NULL, "pipe");
        if (fork() == 0) { /* before this process has threads */
            close(stop[1]);
            serve(ready[1], stop[0]);
        }
        close(ready[1]);
        if (read(ready[0], url, sizeof url - 1) <= 0) must(SLUICE_UNREACHABLE, NULL, "server");
    }
    sluice_cause cause;
    sluice_client *client;
    must(sluice_client_open(url, NULL, &client, &cause), &cause, "client");
    must(sluice_exec(client, "CREATE TABLE account(name TEXT PRIMARY KEY, cents INTEGER)", NULL, 0, NULL, &cause),
         &cause, "create");
    must(sluice_exec(client, "INSERT INTO account VALUES('Ada', 1000), ('Grace', 0)", NULL, 0, NULL, &cause), &cause,
         "insert");
    transfer(client, "Ada", "Grace", 600);
    transfer(client, "Ada", "Grace", 600);
    transfer(client, "Ada", "Nobody", 100);

    sluice_result *result;
    must(sluice_query(client, "SELECT name, cents FROM account ORDER BY name", NULL, 0, &result, &cause),
         &cause, "query");
    while (sluice_result_next(result))
        printf("%-6s %4" PRId64 "\n", sluice_result_text(result, 0, NULL), sluice_result_int64(result, 1));
    sluice_result_destroy(&result);
    sluice_client_close(&client);
    if (stop[1] >= 0) close(stop[1]), wait(NULL); /* the owner closes its file and ends */
    return 0;
}
