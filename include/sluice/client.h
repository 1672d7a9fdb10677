/* SPDX-License-Identifier: MIT */
/* The client: one API for a store in this process, in another one, or on another machine.
 *
 *   inproc://NAME            the store NAME of a runtime in this process (options.runtime)
 *   ipc://PATH               the socket of a gateway on this host
 *   tcp://HOST:PORT          a gateway's TCP port
 *
 * How a call ends (sluice_err_applied says the same for every code):
 *   OK        a write is in the file and on disk, exactly once; a read saw every write acknowledged before it began
 *   UNKNOWN   the answer was lost; sluice_call_again with the same request finds out which of the two it was
 *   FATAL     as UNKNOWN, and the store will not answer again in its process
 *   any other code   no effect, now and later
 * Every call returns by its deadline. The client reconnects by itself. After a reconnect, and when the server answers
 * that it is starting or stopping, remote reads and remote writes with receipts are sent again, a write with the same
 * id, until the deadline; the server's receipts make that safe. Writes without receipts are sent once. A client that
 * was silent for so long that the server forgot it begins a new session by itself.
 * A read or ask without an answer ends with TIMEOUT; what never left, for want of a connection, with UNREACHABLE.
 *
 * Threads: a client, its requests and results belong to one thread at a time; open one client per thread, they are
 * cheap. Hand-over between threads needs a barrier of the caller's.
 */
#ifndef SLUICE_CLIENT_H
#define SLUICE_CLIENT_H

#include <sluice/base.h>
#include <sluice/message.h>
#include <sluice/runtime.h>
#include <sluice/value.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sluice_client sluice_client;
typedef struct sluice_request sluice_request;
typedef struct sluice_result sluice_result;

typedef struct sluice_client_options {
    sluice_runtime *runtime;    /* for inproc (kept); ignored otherwise */
    const char *store;          /* store name on the other side; default "app" (inproc: from the URL) */
    uint32_t timeout_ms;        /* of each call; default 5000 */
    uint32_t max_inflight;      /* submitted and not yet collected; more is OVERLOADED; default 1024 */
    uint32_t max_message_bytes; /* largest request, and largest result asked for; 1 KiB to 1 GiB, default 64 MiB */
    bool receipts;              /* writes carry an id and the server keeps a receipt; default: true for ipc and tcp,
                                   false for inproc (set by options_init to `receipts_default`) */
    bool receipts_default;      /* true: decide `receipts` by the transport */
    bool local_lease;           /* inproc only: sluice_query, and sluice_call of a READ, run on the calling thread, on a
                                   connection that the store lends, with no message; when none is free (more clients
                                   than the store's n_leases, a checkpoint) they go by message as ever. Same freshness,
                                   deadline and answers. Submitted requests always go by message. Default false */
    const char *server_key;     /* tcp with keys: the server's public key, 40 letters of Z85 or the path of a .key file */
    const char *key_file;       /* and with it the client's own pair, a .key_secret file (or its .key beside it) that only
                                   its owner may read; both are read by client_open; default NULL: no keys */
    void *zmq_context;          /* borrowed; NULL: the client's own for ipc and tcp */
} sluice_client_options;

SLUICE_API void sluice_client_options_init(sluice_client_options *options);

/* Opens a client. Does not wait for a remote server: the first call does, until its deadline. options may be NULL for
 * ipc and tcp. Gives: *out. Errors: INVALID (URL, option, key file), FORBIDDEN (the secret key is open to others), NO_ACTOR (inproc: no such store), NOMEM, SYSTEM. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_client_open(const char *url, const sluice_client_options *options,
                                                          sluice_client **out, sluice_cause *cause);
/* Says goodbye if connected, drops what is in flight, and frees everything; results and requests still held are freed
 * by their own destroy. Does not block longer than 500 ms. NULL-safe, nulls the pointer. */
SLUICE_API void sluice_client_close(sluice_client **client);
/* Deadline of the calls that follow, 1..2^31-1 ms (what is outside becomes the nearest inside). */
SLUICE_API void sluice_client_set_timeout(sluice_client *client, uint32_t timeout_ms);
/* Waits until the server answers a ping (inproc: looks whether the store is there). Errors: UNREACHABLE (nobody
 * answered by then), UNSUPPORTED (wire version). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_client_ping(sluice_client *client, sluice_cause *cause);

/* ---- simple calls ---- */

/* Runs one writing statement, durably. Borrows: params, n_params values. Gives: *out on OK, else NULL; out may be NULL.
 * cause may be NULL. If the outcome may be UNKNOWN and has to be found out, use a request and sluice_call. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_exec(sluice_client *client, const char *sql, const sluice_value *params,
                                                   size_t n_params, sluice_result **out, sluice_cause *cause);
/* Runs one reading statement. Gives: *out, positioned before the first row. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_query(sluice_client *client, const char *sql, const sluice_value *params,
                                                    size_t n_params, sluice_result **out, sluice_cause *cause);

/* Calls one procedure of the service behind the store (procedure.h): as sluice_exec. Errors: also NO_PROCEDURE, and the
 * procedure's own. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_call_procedure(sluice_client *client, const char *name,
                                                             const sluice_value *params, size_t n_params,
                                                             sluice_result **out, sluice_cause *cause);

/* ---- requests of several statements, or rows ---- */

typedef enum sluice_request_kind {
    SLUICE_WRITE = 1, /* all statements in one atomic transaction */
    SLUICE_READ = 2,  /* all statements on one snapshot */
} sluice_request_kind;

/* Starts a request of that client's. Gives: *out. Errors: INVALID (kind), NOMEM. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_request_new(sluice_client *client, sluice_request_kind kind,
                                                          sluice_request **out);
/* Frees a request. If its outcome is UNKNOWN, nobody can ask for it any more: the server may forget its receipt. */
SLUICE_API void sluice_request_destroy(sluice_request **request);
/* Adds a statement with its parameters (copied). Errors: NOMEM; TOO_BIG (max_message_bytes); INVALID (also once the
 * request was called: its content is then fixed). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_request_add(sluice_request *request, const char *sql,
                                                          const sluice_value *params, size_t n_params);
/* As above with a text of given size, which may hold any byte (the server refuses an embedded NUL). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_request_add_n(sluice_request *request, const char *sql, size_t sql_size,
                                                            const sluice_value *params, size_t n_params);
/* Adds a call of a procedure that the service behind the store has registered (procedure.h); params are copied. Its
 * result has the rows it gives, and as changes those of all its statements. WRITE only; takes no rows. Errors: as add;
 * the request's own: NO_PROCEDURE. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_request_call(sluice_request *request, const char *name,
                                                           const sluice_value *params, size_t n_params);
/* The latest statement must change exactly n rows, else the whole request fails with GUARD_FAILED. WRITE only. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_request_expect(sluice_request *request, uint64_t n_changes);
/* Gives the latest statement one more row of parameters: it runs once per row, all within the request's transaction.
 * Every row has as many values as the first. Not mixed with params of sluice_request_add. Errors: INVALID, NOMEM. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_request_row(sluice_request *request, const sluice_value *row,
                                                          size_t n_columns);

/* Sends and waits for the end. Borrows: request. Gives: *out on OK, else NULL; out may be NULL. A request may be called
 * many times; each call is a new request with a new id, which it keeps for call_again. Errors: the request's own;
 * INVALID also when its latest outcome is UNKNOWN and it has an id: calling it anew could do it twice. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_call(sluice_client *client, sluice_request *request, sluice_result **out,
                                                   sluice_cause *cause);
/* After UNKNOWN: sends the same request with the same id and waits; the result says `replayed` if it had been done.
 * After a definite no it is the same as sluice_call. Errors: as call; INVALID without receipts, before the first call,
 * and after OK. A held request with an UNKNOWN outcome makes the server keep this client's later receipts too. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_call_again(sluice_client *client, sluice_request *request,
                                                         sluice_result **out, sluice_cause *cause);

/* ---- pipelining ---- */

typedef uint64_t sluice_ticket; /* 0 is none */

typedef struct sluice_completion {
    sluice_ticket ticket;
    void *context;         /* as given to submit */
    sluice_err err;
    sluice_result *result; /* the caller destroys it; NULL unless err is OK */
    sluice_cause cause;
} sluice_completion;

/* Sends without waiting; while completions wait to be collected, sending may be put off until the last of them is.
 * Takes: request (on success). Keeps: context. Gives: *out (may be NULL).
 * Errors: OVERLOADED (max_inflight or, inproc, the store's queue; retry_after_ms set), TOO_BIG, CLOSED, NO_ACTOR,
 * NOMEM, INVALID (no statement; another client's; its outcome is UNKNOWN). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_submit(sluice_client *client, sluice_request **request, void *context,
                                                     sluice_ticket *out, sluice_cause *cause);
/* Gives the next completion if there is one: waits at most timeout_ms (0: not at all; with nothing in flight neither).
 * Returns true if *out was set. Every submitted request completes exactly once, by its deadline. */
SLUICE_API bool sluice_poll(sluice_client *client, uint32_t timeout_ms, sluice_completion *out);
/* Waits for one ticket; other completions stay for poll. Errors: INVALID (no such ticket), else the request's own. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_wait(sluice_client *client, sluice_ticket ticket, sluice_result **out,
                                                   sluice_cause *cause);
/* A descriptor that polls readable while sluice_poll(client, 0, ...) has something to do, and only then: it is
 * level-triggered. For poll/epoll of a foreign event loop; not to be read or closed. -1: none. */
SLUICE_API int sluice_client_fd(sluice_client *client);
/* Requests submitted and not yet collected. */
SLUICE_API size_t sluice_client_inflight(const sluice_client *client);

/* ---- results ---- */

SLUICE_API void sluice_result_destroy(sluice_result **result);
/* Number of statements, and the one the functions below speak of (the first, until changed). */
SLUICE_API size_t sluice_result_statements(const sluice_result *result);
SLUICE_API void sluice_result_select(sluice_result *result, size_t statement);
/* Rows changed by the statement, and the last rowid it inserted (0 if none). */
SLUICE_API uint64_t sluice_result_changes(const sluice_result *result);
SLUICE_API int64_t sluice_result_last_rowid(const sluice_result *result);
/* Number of the group that carried a write; for a read, the latest group its snapshot holds. */
SLUICE_API uint64_t sluice_result_commit_number(const sluice_result *result);
/* The answer came from a receipt: the write had been done before. */
SLUICE_API bool sluice_result_replayed(const sluice_result *result);
/* Rows and columns of the statement's result set. */
SLUICE_API uint64_t sluice_result_rows(const sluice_result *result);
SLUICE_API size_t sluice_result_columns(const sluice_result *result);
/* NUL-terminated, valid until the result is destroyed; NULL: no such column, or out of memory. */
SLUICE_API const char *sluice_result_column_name(const sluice_result *result, size_t column);
/* Steps to the next row; false after the last. */
SLUICE_API bool sluice_result_next(sluice_result *result);
/* The current row's values. int64 of a REAL is cut towards zero, and what does not fit becomes INT64_MIN or INT64_MAX
 * (as sqlite3_column_int64 does); double of an INTEGER is the nearest double. Any other mismatch gives 0, 0.0 or a NULL
 * pointer, and so does every accessor, with the type NULL, where there is no current row or no such column. An empty
 * text or blob is not a NULL pointer. Text is UTF-8, NUL-terminated and, like blobs, valid until the result is
 * destroyed. size may be NULL. */
SLUICE_API sluice_type sluice_result_type(const sluice_result *result, size_t column);
SLUICE_API int64_t sluice_result_int64(const sluice_result *result, size_t column);
SLUICE_API double sluice_result_double(const sluice_result *result, size_t column);
SLUICE_API const char *sluice_result_text(const sluice_result *result, size_t column, size_t *size);
SLUICE_API const void *sluice_result_blob(const sluice_result *result, size_t column, size_t *size);

/* ---- the host's own actors, local or remote ---- */

/* Lets replies of a protobuf type be decoded. Keeps: type. Not needed for inproc. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_client_register_type(sluice_client *client,
                                                                   const struct ProtobufCMessageDescriptor *type);
/* Asks the actor registered as `name` on the other side. Takes: msg, nulled once it is under way, also when the ask
 * then fails; untouched else. Gives: *reply on OK. Sent once: an actor is not asked again after a reconnect.
 * Errors: NO_ACTOR, OVERLOADED, TIMEOUT, UNREACHABLE, UNSUPPORTED (type not registered there), or the actor's own. */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_client_ask(sluice_client *client, const char *name, sluice_msg **msg,
                                                         sluice_msg **reply, sluice_cause *cause);
/* Sends without an answer; delivery is not confirmed. Takes: msg (on success). */
SLUICE_API SLUICE_NODISCARD sluice_err sluice_client_tell(sluice_client *client, const char *name, sluice_msg **msg,
                                                          sluice_cause *cause);

#ifdef __cplusplus
}
#endif
#endif
