/* SPDX-License-Identifier: MIT */
/* What may pass the gateway: which types may go to which names, what a request must carry, where it may listen.
 *
 * Threads: no state; any.
 *
 * A store's actors are known by the end of their names: NAME/writer, NAME/readers, NAME/checkpointer. The types of
 * sluice.v1 that are not for clients are what the store's actors say to each other: a stranger who could send them could
 * start a second checkpoint (rule W) or close the reader gate.
 *
 *     type                         may go to
 *     WriteRequest, Goodbye,       NAME/writer
 *     TransactionBegin, -End,
 *     CheckpointNow, BackupRequest
 *     QueryRequest                 NAME/readers
 *     Ping, StatusRequest,         the gateway itself (not seen here)
 *     ReadersRequest
 *     other types of sluice.v1     nobody
 *     types of the host's own      any registered name but the store's and the gateway's
 *
 * A WriteRequest, a transaction and the host's own types need the write right, a QueryRequest the read right; what a
 * statement needs beyond that is found out where it is compiled. CheckpointNow and BackupRequest need the admin right.
 */
#include "gateway_internal.h"

#include <arpa/inet.h>
#include <string.h>

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "table.h"

#define CLIENT_ID_SIZE 16

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Checks what must hold for the tables of a request, so that nobody behind the door walks a broken one. */
static sluice_err check_statements(Sluice__V1__Statement *const *statements, size_t n, sluice_cause *cause) {
    if (n == 0) return sluice_cause_set(cause, SLUICE_INVALID, "the request holds no statement");
    for (size_t i = 0; i < n; i++) {
        if (statements[i]->rows == NULL) continue;
        sluice_err err = sl_table_check(statements[i]->rows, cause);
        if (err != SLUICE_OK) {
            if (cause != NULL && i <= INT32_MAX) cause->statement = (int32_t)i;
            return err;
        }
    }
    return SLUICE_OK;
}

/* A receipt needs to know whose it is. */
static sluice_err check_identity(const sluice_msg *msg, sluice_cause *cause) {
    static const uint8_t nobody[CLIENT_ID_SIZE];
    if (msg->identity.sequence == 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "a receipt is asked for, but the envelope has no sequence");
    if (memcmp(msg->identity.client, nobody, sizeof nobody) == 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "a receipt is asked for, but the envelope has no client id");
    return SLUICE_OK;
}

static sluice_err check_write(const sluice_msg *msg, sluice_cause *cause) {
    const Sluice__V1__WriteRequest *request = (const Sluice__V1__WriteRequest *)msg->body;
    sluice_err err = request->receipt ? check_identity(msg, cause) : SLUICE_OK;
    return err != SLUICE_OK ? err : check_statements(request->statements, request->n_statements, cause);
}

static sluice_err check_query(const sluice_msg *msg, sluice_cause *cause) {
    const Sluice__V1__QueryRequest *request = (const Sluice__V1__QueryRequest *)msg->body;
    return check_statements(request->statements, request->n_statements, cause);
}

static sluice_err check_goodbye(const sluice_msg *msg, sluice_cause *cause) {
    const Sluice__V1__Goodbye *request = (const Sluice__V1__Goodbye *)msg->body;
    if (request->client.len == CLIENT_ID_SIZE) return SLUICE_OK;
    return sluice_cause_set(cause, SLUICE_INVALID, "a client id has %d bytes, not %zu", CLIENT_ID_SIZE,
                            request->client.len);
}

static sluice_err check_begin(const sluice_msg *msg, sluice_cause *cause) {
    const Sluice__V1__TransactionBegin *request = (const Sluice__V1__TransactionBegin *)msg->body;
    if (request->transaction != 0) return SLUICE_OK;
    return sluice_cause_set(cause, SLUICE_INVALID, "a transaction's number is random and not 0");
}

static sluice_err check_end(const sluice_msg *msg, sluice_cause *cause) {
    const Sluice__V1__TransactionEnd *request = (const Sluice__V1__TransactionEnd *)msg->body;
    return request->receipt ? check_identity(msg, cause) : SLUICE_OK;
}

static sluice_err check_nothing(const sluice_msg *msg, sluice_cause *cause) {
    (void)msg, (void)cause;
    return SLUICE_OK;
}

static sluice_err check_rights(const sluice_msg *msg, unsigned needs, sluice_cause *cause) {
    if ((needs & ~sluice_msg_rights(msg)) == 0) return SLUICE_OK;
    const char *right = needs & SLUICE_RIGHT_ADMIN ? "admin" : needs & SLUICE_RIGHT_WRITE ? "write" : "read";
    return sluice_cause_set(cause, SLUICE_FORBIDDEN,
                            "this key may not %s; whoever keeps the server's keys can give it the "
                            "%s right",
                            needs & SLUICE_RIGHT_ADMIN ? "administer" : right, right);
}

static const struct {
    const ProtobufCMessageDescriptor *type;
    const char *receiver; /* end of the only name it may go to */
    unsigned needs;       /* SLUICE_RIGHT_ mask; what its statements need beyond is the store's to ask */
    sluice_err (*check)(const sluice_msg *msg, sluice_cause *cause);
} work[] = {
    {&sluice__v1__write_request__descriptor, "/writer", SLUICE_RIGHT_WRITE, check_write},
    {&sluice__v1__transaction_begin__descriptor, "/writer", SLUICE_RIGHT_WRITE, check_begin},
    {&sluice__v1__transaction_end__descriptor, "/writer", SLUICE_RIGHT_WRITE, check_end},
    {&sluice__v1__goodbye__descriptor, "/writer", 0, check_goodbye},
    {&sluice__v1__checkpoint_now__descriptor, "/writer", SLUICE_RIGHT_ADMIN, check_nothing},
    {&sluice__v1__backup_request__descriptor, "/writer", SLUICE_RIGHT_ADMIN, check_nothing},
    {&sluice__v1__query_request__descriptor, "/readers", SLUICE_RIGHT_READ, check_query},
};

sluice_err sl_gateway_admit(const sluice_msg *msg, const char *to, sluice_cause *cause) {
    const char *type = sluice_msg_type_name(msg);
    if (to[0] == '\0') return sluice_cause_set(cause, SLUICE_INVALID, "the envelope of a %s names no receiver", type);
    for (size_t i = 0; i < sizeof work / sizeof work[0]; i++) {
        if (msg->type != work[i].type) continue;
        if (!ends_with(to, work[i].receiver))
            return sluice_cause_set(cause, SLUICE_FORBIDDEN, "a %s goes to NAME%s, not to %s", type, work[i].receiver,
                                    to);
        sluice_err err = check_rights(msg, work[i].needs, cause);
        return err == SLUICE_OK ? work[i].check(msg, cause) : err;
    }
    static const char own[] = "sluice.v1.";
    if (strncmp(type, own, sizeof own - 1) == 0)
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s is not for clients; they send WriteRequest to NAME/writer, "
                                "QueryRequest to NAME/readers, Ping, StatusRequest and ReadersRequest", type);
    if (ends_with(to, "/writer") || ends_with(to, "/readers"))
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s takes %s, not %s", to,
                                ends_with(to, "/writer") ? "sluice.v1.WriteRequest" : "sluice.v1.QueryRequest", type);
    if (ends_with(to, "/checkpointer"))
        return sluice_cause_set(cause, SLUICE_FORBIDDEN, "%s takes nothing from clients", to);
    return check_rights(msg, SLUICE_RIGHT_WRITE, cause);
}

/* ---- addresses ---- */

static bool is_loopback(const char *host) {
    struct in_addr v4;
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0) return true;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* Splits tcp://HOST:PORT or tcp://[HOST]:PORT. */
static bool host_of(const char *url, char *host, size_t size) {
    const char *begin = url + strlen("tcp://"), *end = strrchr(begin, ':');
    if (end == NULL || end == begin || end[1] == '\0') return false;
    if (strcmp(end + 1, "*") != 0) {
        unsigned long port = 0;
        for (const char *digit = end + 1; *digit != '\0'; digit++) {
            if (*digit < '0' || *digit > '9' || port > 65535) return false;
            port = port * 10 + (unsigned long)(*digit - '0');
        }
        if (port > 65535) return false;
    }
    if (*begin == '[') {
        if (end[-1] != ']') return false;
        begin++, end--;
    }
    size_t length = (size_t)(end - begin);
    if (length == 0 || length >= size) return false;
    memcpy(host, begin, length);
    host[length] = '\0';
    return true;
}

sluice_err sl_gateway_admit_address(const char *url, bool allow_plain, bool has_keys, sluice_cause *cause) {
    if (strncmp(url, "ipc://", 6) == 0) return SLUICE_OK;
    if (strncmp(url, "tcp://", 6) != 0)
        return sluice_cause_set(cause, SLUICE_INVALID, "%.100s: an address is ipc://PATH or tcp://ADDRESS:PORT", url);
    char host[128];
    if (!host_of(url, host, sizeof host))
        return sluice_cause_set(cause, SLUICE_INVALID, "%.100s: a TCP address is tcp://ADDRESS:PORT, port 0 to 65535 or *",
                                url);
    if (has_keys) return SLUICE_OK;
    if (!allow_plain)
        return sluice_cause_set(
            cause, SLUICE_FORBIDDEN,
            "%s: TCP without keys is off; give a directory of keys, allow plain TCP (loopback only), or "
            "use ipc://PATH",
            url);
    if (!is_loopback(host))
        return sluice_cause_set(cause, SLUICE_FORBIDDEN,
                                "%s: plain TCP is for loopback addresses only (127.0.0.1, [::1], localhost), since anyone "
                                "who reaches the port may do anything", url);
    return SLUICE_OK;
}
