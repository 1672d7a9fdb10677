/* SPDX-License-Identifier: MIT */
/* One request at a time on one connection: send all, then read head and body by Content-Length.
 *
 * A server may close an idle keep-alive connection just when a request is sent. Then no byte of an answer arrives and
 * http_call returns false; the caller decides (with an idempotency key it simply sends again).
 */
#include "common/http.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

bool http_connection_init(http_connection *self, const char *url, uint32_t timeout_ms)
{
    unsigned port = 0;
    memset(self, 0, sizeof *self);
    self->socket = -1;
    self->timeout_ms = timeout_ms;
    if (sscanf(url, "http://%63[^:/]:%u", self->host, &port) != 2 || port == 0 || port > 65535) return false;
    if (strcmp(self->host, "localhost") == 0) snprintf(self->host, sizeof self->host, "127.0.0.1");
    self->port = (uint16_t)port;
    return true;
}

void http_connection_fini(http_connection *self)
{
    if (self->socket >= 0) close(self->socket);
    self->socket = -1;
}

static bool connect_now(http_connection *self)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(self->port)};
    if (inet_pton(AF_INET, self->host, &address.sin_addr) != 1) return false;
    self->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (self->socket < 0) return false;
    struct timeval limit = {.tv_sec = self->timeout_ms / 1000, .tv_usec = (self->timeout_ms % 1000) * 1000};
    int on = 1;
    setsockopt(self->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(self->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(self->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connect(self->socket, (const struct sockaddr *)&address, sizeof address) == 0;
}

static bool send_all(int socket, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(socket, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Reads on until the answer is whole. *closing: the server will close the connection. */
static bool receive_answer(int socket, http_answer *answer, bool *closing)
{
    char buffer[sizeof answer->body + 4096];
    size_t have = 0, head = 0, length = 0;
    while (head == 0 || have < head + length) {
        if (have + 1 >= sizeof buffer) return false;
        ssize_t n = recv(socket, buffer + have, sizeof buffer - 1 - have, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        have += (size_t)n;
        buffer[have] = '\0';
        char *end = head == 0 ? strstr(buffer, "\r\n\r\n") : NULL;
        if (end == NULL) continue;
        head = (size_t)(end - buffer) + 4;
        if (sscanf(buffer, "HTTP/1.%*1[01] %d", &answer->status) != 1) return false;
        for (char *line = strstr(buffer, "\r\n"); line != NULL && line < end; line = strstr(line + 2, "\r\n")) {
            const char *field = line + 2;
            if (strncasecmp(field, "Content-Length:", 15) == 0) length = (size_t)strtoul(field + 15, NULL, 10);
            if (strncasecmp(field, "Retry-After:", 12) == 0)
                answer->retry_after = (uint32_t)strtoul(field + 12, NULL, 10);
            if (strncasecmp(field, "Idempotent-Replay: true", 23) == 0) answer->replayed = true;
            if (strncasecmp(field, "Connection: close", 17) == 0) *closing = true;
        }
        if (length >= sizeof answer->body) return false;
    }
    memcpy(answer->body, buffer + head, length);
    answer->body[length] = '\0';
    answer->body_size = length;
    return true;
}

bool http_call(http_connection *self, const char *method, const char *path, const char *key, const char *body,
               http_answer *answer)
{
    char request[4096];
    size_t body_size = body != NULL ? strlen(body) : 0;
    answer->status = 0;
    answer->replayed = false;
    answer->retry_after = 0;
    answer->body_size = 0;
    answer->body[0] = '\0';
    int size = snprintf(request, sizeof request,
                        "%s %s HTTP/1.1\r\nHost: %s:%u\r\n%s%s%sContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n\r\n%s",
                        method, path, self->host, (unsigned)self->port, key != NULL ? "Idempotency-Key: " : "",
                        key != NULL ? key : "", key != NULL ? "\r\n" : "", body_size, body != NULL ? body : "");
    if (size < 0 || (size_t)size >= sizeof request) return false;
    bool closing = false;
    bool ok = (self->socket >= 0 || connect_now(self)) && send_all(self->socket, request, (size_t)size) &&
              receive_answer(self->socket, answer, &closing);
    if (!ok) answer->status = 0;
    if (!ok || closing) http_connection_fini(self);
    return ok;
}
