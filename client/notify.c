/* SPDX-License-Identifier: MIT */
/* The descriptor for foreign event loops: readable while sluice_poll(client, 0, ...) has something to do.
 *
 * ZeroMQ's own descriptors tell of edges: after any call on the socket a message may wait though its descriptor is
 * quiet, which is how event loops hang. So an epoll descriptor nests three kinds: ZeroMQ's (something new came), an
 * eventfd that is kept set while anything known waits, and a timer for the next deadline.
 */
#include "internal.h"

#include "port.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct sl_notify {
    int epoll, event, timer;
    bool is_set;
    int64_t armed_ns; /* the timer's time; INT64_MAX: off */
};

void sl_notify_destroy(struct sl_notify **notify) {
    struct sl_notify *self = *notify;
    if (self == NULL) return;
    *notify = NULL;
    if (self->timer >= 0) close(self->timer);
    if (self->event >= 0) close(self->event);
    if (self->epoll >= 0) close(self->epoll);
    free(self);
}

static bool nest(struct sl_notify *self, int fd) {
    if (fd < 0) return true;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    return epoll_ctl(self->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

sluice_err sl_notify_new(const int fds[2], struct sl_notify **out) {
    *out = NULL;
    struct sl_notify *self = calloc(1, sizeof *self);
    if (self == NULL) return SLUICE_NOMEM;
    self->armed_ns = INT64_MAX;
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    self->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (self->epoll < 0 || self->event < 0 || self->timer < 0 || !nest(self, self->event) || !nest(self, self->timer) ||
        !nest(self, fds[0]) || !nest(self, fds[1])) {
        sl_notify_destroy(&self);
        return SLUICE_SYSTEM;
    }
    *out = self;
    return SLUICE_OK;
}

int sl_notify_fd(const struct sl_notify *notify) { return notify->epoll; }

static void set_event(struct sl_notify *self, bool ready) {
    if (ready == self->is_set) return;
    uint64_t count = 1;
    ssize_t n;
    do n = ready ? write(self->event, &count, sizeof count) : read(self->event, &count, sizeof count);
    while (n < 0 && errno == EINTR);
    self->is_set = ready;
}

/* Arms the timer anew if it would ring too late, or has rung. One that would ring early stays: an early ring costs one
 * look, a new time for each call would cost a system call each. */
static void set_timer(struct sl_notify *self, int64_t due_ns) {
    bool idle = due_ns == INT64_MAX;
    if (idle ? self->armed_ns == INT64_MAX : self->armed_ns <= due_ns && self->armed_ns > sl_now_ns()) return;
    struct itimerspec when = {.it_value = {0, 0}};
    if (!idle) when.it_value = (struct timespec){.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000};
    if (timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &when, NULL) == 0) self->armed_ns = due_ns;
}

void sl_notify_update(struct sl_notify *notify, bool ready, int64_t next_due_ns) {
    set_event(notify, ready);
    set_timer(notify, next_due_ns);
}
