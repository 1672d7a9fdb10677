/* SPDX-License-Identifier: MIT */
/* What the files of client/ share: the client, its flights, requests, results and the pool of message objects.
 *
 *   client.c    open, close, options; simple calls; ask and tell
 *   inflight.c  sending, replies, deadlines, sending again
 *   flights.c   the table of flights (requests under way), the heap of due times, the two lists
 *   sequence.c  which request ids are settled
 *   request.c   building requests
 *   result.c    reading results
 *   transaction.c  interactive transactions
 *   pool.c      message objects kept for reuse
 *   notify.c    the level-triggered descriptor
 *   inproc.c, remote.c   the two transports
 *
 * Threads: everything belongs to one thread at a time.
 */
#ifndef SL_CLIENT_INTERNAL_H
#define SL_CLIENT_INTERNAL_H

#include "table.h"
#include "transport.h"

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"

#include <sluice/transaction.h>

/* ---- sequence.c ---- */

/* Which sequences are settled: the outcome is known, or nobody will ask for it again. A ring of bits above ack_upto. */
typedef struct sl_sequences {
    uint64_t next;     /* to be given out; from 1 */
    uint64_t ack_upto; /* everything up to and including this is settled */
    uint64_t *bits;    /* settled ones above ack_upto: bit (sequence mod n_bits) */
    size_t n_bits;     /* power of two, more than next - ack_upto */
} sl_sequences;

void sl_sequences_init(sl_sequences *self);
void sl_sequences_fini(sl_sequences *self);
/* Gives out the next sequence. Errors: NOMEM. */
SLUICE_NODISCARD sluice_err sl_sequences_take(sl_sequences *self, uint64_t *out);
/* Settles one that was given out; 0 is none. */
void sl_sequences_settle(sl_sequences *self, uint64_t sequence);

/* ---- pool.c ---- */

/* What outlives the client while requests and results are held: message objects kept for reuse, so that a steady stream
 * of calls allocates nothing, and the sequences, which a request settles when it is destroyed. Counted: the client
 * holds it once, each request and each result once. */
typedef struct sl_pool {
    size_t holds;
    bool closed; /* the client is gone: nothing is kept any more */
    unsigned n_free, n_free_requests;
    sluice_msg *free;
    sluice_request *free_requests;
    sl_sequences sequences; /* of the latest session */
    uint32_t session;       /* counts the client's sessions; an id of an earlier one is no longer settled here */
} sl_pool;

sl_pool *sl_pool_new(void);
sl_pool *sl_pool_hold(sl_pool *pool);
void sl_pool_drop(sl_pool **pool);
/* The client's last word: what is kept is freed now, and the client's hold dropped. */
void sl_pool_close(sl_pool **pool);
/* A message with an empty body of `type` and a clean header. NULL: out of memory. */
sluice_msg *sl_pool_take(sl_pool *pool, const ProtobufCMessageDescriptor *type);
/* Takes: *msg, for reuse or to be freed. NULL-safe. */
void sl_pool_give(sl_pool *pool, sluice_msg **msg);
/* A zeroed request object, and back. */
sluice_request *sl_pool_take_request(sl_pool *pool);
void sl_pool_give_request(sl_pool *pool, sluice_request **request);

/* ---- flights.c ---- */

typedef enum sl_flight_kind {
    SL_FLIGHT_WRITE,
    SL_FLIGHT_READ,
    SL_FLIGHT_STEP, /* of an interactive transaction: a write's answer, but sent once and without an id */
    SL_FLIGHT_ASK,
    SL_FLIGHT_PING,
    SL_FLIGHT_GOODBYE
} sl_flight_kind;

/*  FREE --take--> WAITING --sent--> SENT --------------------.
 *    ^               ^  |            |  ^ resend on reconnect |
 *    |               |  |            v  |                     |
 *    |               |  |          BACKOFF (answered "not now"; due_ns says when to send again)
 *    |               |  |            |                        |
 *    '---collect-- READY <-----------+---- reply, error, deadline
 */
typedef enum sl_flight_state {
    SL_FLIGHT_FREE,
    SL_FLIGHT_WAITING,
    SL_FLIGHT_SENT,
    SL_FLIGHT_BACKOFF,
    SL_FLIGHT_READY
} sl_flight_state;

#define SL_FLIGHT_NONE UINT32_MAX

/* One request in flight. */
typedef struct sl_flight {
    uint64_t correlation; /* also the ticket: generation above, index below, top bit clear */
    int64_t deadline_ns;  /* when it ends at the latest */
    int64_t due_ns;       /* deadline, or the next try if that is earlier: the heap's key */
    uint32_t heap_at;     /* position in the heap */
    uint32_t previous, next;
    uint8_t kind;         /* sl_flight_kind */
    uint8_t state;        /* sl_flight_state */
    uint8_t tries;        /* of the back-off */
    bool receipt;
    bool sent_once;       /* at least one copy left */
    bool renewed;         /* was given a new id already, because its session had expired */
    bool in_doubt;        /* a copy left and was neither answered with a definite no nor with OK */
    uint32_t attempt;
    uint32_t session;     /* the sequence belongs to */
    uint64_t sequence;    /* 0: none */
    uint64_t connection;  /* the connection the latest copy went by */
    const char *to;       /* receiver's registered name */
    sluice_msg *msg;      /* kept for a resend; NULL if messages move */
    sluice_request *request; /* the caller's, of a sluice_call; borrowed */
    void *context;
    sluice_err err;          /* the end; while it is in flight: the latest answer that was no end */
    uint32_t retry_after_ms;
    const char *why;      /* static text for an end made here; NULL: the reply has it */
    sluice_msg *reply;    /* of an ASK or PING; or the ERROR message */
    sluice_result *result;
} sl_flight;

typedef struct sl_flight_list {
    uint32_t first, last;
    uint32_t n;
} sl_flight_list;

typedef struct sl_flights {
    sl_flight *at;
    uint32_t n;     /* allocated */
    uint32_t max;   /* most that may be */
    uint32_t bits;  /* of the index in a correlation id */
    uint32_t free;  /* first free, chained by next */
    uint64_t generation;
    uint32_t *heap; /* indices by due_ns; n entries of room */
    uint32_t n_heap;
    sl_flight_list active, ready; /* in the order of submission, of completion */
} sl_flights;

void sl_flights_init(sl_flights *self, uint32_t max);
void sl_flights_fini(sl_flights *self);
/* Takes a free one into WAITING, on the active list and in the heap. Errors: OVERLOADED (all in use), NOMEM.
 * Pointers to flights end with it; indices stay. */
SLUICE_NODISCARD sluice_err sl_flights_take(sl_flights *self, int64_t deadline_ns, uint32_t *out);
/* Gives it back from wherever it is. */
void sl_flights_release(sl_flights *self, uint32_t index);
/* Moves an active one to the ready list and out of the heap. */
void sl_flights_make_ready(sl_flights *self, uint32_t index);
/* Changes its place in the heap. */
void sl_flights_set_due(sl_flights *self, uint32_t index, int64_t due_ns);
/* The index behind a correlation id or ticket; SL_FLIGHT_NONE if it is nobody's (late, or made up). */
uint32_t sl_flights_find(const sl_flights *self, uint64_t correlation);
/* Due time of the earliest; INT64_MAX if none is in flight. */
int64_t sl_flights_next_due(const sl_flights *self);

/* ---- client.c ---- */

#define SL_CLIENT_NAME_SIZE 64

struct sluice_client {
    sl_transport *transport;
    sl_pool *pool;
    sl_flights flights;
    uint8_t id[16];
    uint64_t random; /* state of the jitter's generator, never 0 */
    bool receipts;
    bool had_receipt; /* a write of this session ended OK, so the server knows the session, on disk */
    bool local_lease; /* reads run on this thread where they can */
    bool closed;    /* the runtime is going down */
    bool connected; /* as last seen */
    bool unflushed; /* something was gathered since the last flush */
    bool undrained; /* the latest step stopped before everything that had arrived was taken */
    uint32_t timeout_ms;
    uint32_t max_message_bytes;
    uint64_t connections; /* ever made, as last seen */
    const char *problem;  /* of the latest attempt to connect, static; may be NULL */
    uint32_t n_unsent;    /* flights in WAITING, to be sent when there is a way */
    uint64_t n_late;      /* replies nobody waited for any more */
    struct sl_notify *notify; /* NULL until sluice_client_fd */
    sluice_transaction *transaction; /* open, or its commit UNKNOWN; NULL: none */
    char writer[SL_CLIENT_NAME_SIZE], readers[SL_CLIENT_NAME_SIZE];
};

/* Draws a new random client id, which begins a new session. Errors: SYSTEM. */
SLUICE_NODISCARD sluice_err sl_client_draw_id(sluice_client *client, sluice_cause *cause);

/* ---- what to send ---- */

/* What to send. */
typedef struct sl_outgoing {
    sl_flight_kind kind;
    const char *to;
    sluice_msg **msg;        /* taken on success unless `request` keeps it */
    sluice_request *request; /* the caller keeps request and message, which is borrowed until the end; NULL: taken */
    bool again;              /* with the id the request has */
    void *context;
    uint32_t timeout_ms;
} sl_outgoing;

/* ---- client.c, with what to send ---- */

/* Sends and waits. Takes: *outgoing->msg as sl_client_start does. result, reply may be NULL. */
sluice_err sl_client_call(sluice_client *client, const sl_outgoing *outgoing, sluice_result **result,
                          sluice_msg **reply, sluice_cause *cause);
/* Calls a request: anew, or with the id it has if its outcome is UNKNOWN. */
sluice_err sl_client_call_request(sluice_client *client, sluice_request *request, sluice_result **out,
                                  sluice_cause *cause);
/* Completes a request and refuses one that cannot be sent. */
SLUICE_NODISCARD sluice_err sl_client_prepare(const sluice_client *client, sluice_request *request,
                                              sluice_cause *cause);
/* Says why a statement could not be added. */
sluice_err sl_client_refuse_statement(sluice_err err, sluice_cause *cause);
/* A request in the caller's storage, whose message goes back to the pool. msg NULL: out of memory. */
sluice_request sl_client_request_of_one(sluice_client *client, sluice_request_kind kind);

/* ---- inflight.c ---- */

/* Looks at the connection; sends what waits for one, and again what the old one may have lost. */
void sl_client_look_at_connection(sluice_client *client, int64_t now_ns);
/* Starts a request: takes a flight, gives it its id, sends it if there is a way. Errors: as sluice_submit. */
SLUICE_NODISCARD sluice_err sl_client_start(sluice_client *client, const sl_outgoing *outgoing, uint32_t *flight_out,
                                            sluice_cause *cause);
/* Waits until the flight is READY. */
void sl_client_await(sluice_client *client, uint32_t index);
/* Takes the end out of a READY flight and frees it. result and reply may be NULL. */
sluice_err sl_client_collect(sluice_client *client, uint32_t index, sluice_result **result, sluice_msg **reply,
                             sluice_cause *cause);
/* Handles what arrived, what is due; waits until `until_ns` if nothing is there (0: not at all). */
void sl_client_step(sluice_client *client, int64_t until_ns);
/* Lets go what was gathered. */
void sl_client_flush(sluice_client *client);
/* Ends everything in flight without a word; nothing is ready any more. For closing. */
void sl_client_abandon(sluice_client *client);
/* To be called at the end of each public call that may have changed what sluice_client_fd shows. */
void sl_client_settle_fd(sluice_client *client);

/* ---- transaction.c ---- */

/* The client closes: the server is told, and the transaction forgets the client. NULL-safe. */
void sl_transaction_abandon(sluice_transaction *transaction);

/* ---- request.c ---- */

struct sluice_request {
    sl_pool *pool;
    sluice_request *next_free;
    sluice_request_kind kind;
    sluice_msg *msg;       /* a WriteRequest or QueryRequest; of a commit: a TransactionEnd */
    size_t room;           /* of the statements array */
    sl_table_builder *rows; /* of the latest statement; NULL: none */
    size_t n_columns;
    uint64_t n_rows;
    size_t bytes;          /* SQL and values so far */
    size_t max_bytes;
    bool frozen;           /* sent once: nothing may be added */
    bool broken;           /* memory ran out in the middle of a row: it can never be sent */
    bool called;           /* a call of it has ended: `ended` says how */
    bool unknown;          /* it ended UNKNOWN and has an id, which is still open */
    sluice_err ended;
    uint8_t id[16];        /* client's, of the latest call */
    uint32_t session;      /* as well */
    uint64_t sequence;     /* as well; 0: none */
    uint32_t attempt;
};

/* Adds a statement to a message body being built. */
sluice_err sl_request_add_statement(sluice_request *request, const void *sql, size_t sql_size,
                                    const sluice_value *params, size_t n_params);
/* Adds a call of a procedure, likewise. */
sluice_err sl_request_add_call(sluice_request *request, const char *name, const sluice_value *params, size_t n_params);
/* Ends the table of rows, so that the body is complete. Errors: NOMEM. */
sluice_err sl_request_finish(sluice_request *request);
/* A copy of the request's message, from the pool. NULL: out of memory. */
sluice_msg *sl_request_copy(const sluice_request *request);

/* ---- result.c ---- */

/* Makes a result of a reply. Takes: *reply, always. `check`: the reply came by wire and is not trusted.
 * Errors: NOMEM; INVALID (not a reply to that kind of request, or malformed). */
SLUICE_NODISCARD sluice_err sl_result_new(sl_pool *pool, sl_flight_kind kind, bool check, sluice_msg **reply,
                                          sluice_result **out, sluice_cause *cause);

/* ---- notify.c ---- */

/* Sets the descriptor readable or not by what waits, and its timer by what is due. */
void sl_notify_update(struct sl_notify *notify, bool ready, int64_t next_due_ns);
void sl_notify_destroy(struct sl_notify **notify);
sluice_err sl_notify_new(const int fds[2], struct sl_notify **out);
int sl_notify_fd(const struct sl_notify *notify);

#endif
