/* SPDX-License-Identifier: MIT */
/* A TCP proxy that misbehaves: between clients and a server on loopback it stalls, cuts, trickles, delays, repeats a
 * connection and half-closes, on command or by chance.
 *
 * The choices come from a seed: the same seed makes the same choices for the same sequence of chunks.
 * Threads: open, start, close by one thread; commands and counts by any. Fork between open and start, not after it.
 */
#ifndef SUPPORT_PROXY_H
#define SUPPORT_PROXY_H

#include <stdbool.h>
#include <stdint.h>

typedef enum proxy_fault {
    PROXY_STALL,            /* nothing moves in either direction for a while */
    PROXY_DELAY,            /* one direction waits a moment */
    PROXY_TRICKLE,          /* byte by byte, one a millisecond, for a while */
    PROXY_CUT_MID_FRAME,    /* a part of what is under way is delivered, then both ends are reset */
    PROXY_CUT_BEFORE_REPLY, /* the server hears the request; its next answer is thrown away and both ends are reset */
    PROXY_DUPLICATE,        /* all that the client said so far is said again on a connection of its own, a bit later */
    PROXY_HALF_CLOSE,       /* one end hears that nothing more will come, the other direction goes on */
    PROXY_FAULTS
} proxy_fault;

typedef struct proxy proxy;

/* Listens on a free loopback port; connections wait until start. Fails the test if it cannot. */
proxy *proxy_open(uint16_t server_port, uint64_t seed);
uint16_t proxy_port(const proxy *self);
void proxy_start(proxy *self);
/* Cuts everything and ends the thread. NULL-safe, nulls the pointer. In a forked child: proxy_forget. */
void proxy_close(proxy **self);
void proxy_forget(proxy **self);

/* With each chunk that passes: this chance, in ten thousandths, that the fault begins. 0 at first. */
void proxy_set_chance(proxy *self, proxy_fault fault, unsigned chance);
/* Longest stall, in milliseconds (300 at first). */
void proxy_set_stall_ms(proxy *self, unsigned ms);
/* Begins the fault on every connection there is, within a few milliseconds. */
void proxy_do(proxy *self, proxy_fault fault);
/* Drops the repetitions that are still to come or under way: what was said to a server that is gone is not carried over
 * to the next one. Returns when it is done. */
void proxy_drop_replays(proxy *self);
/* How often a fault has begun; how many connections were accepted. */
unsigned proxy_count(const proxy *self, proxy_fault fault);
unsigned proxy_connections(const proxy *self);
const char *proxy_fault_name(proxy_fault fault);

#endif
