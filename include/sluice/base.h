/* SPDX-License-Identifier: MIT */
/* The words every other Sluice header speaks: export macro, error codes, causes, process ids.
 *
 * One X-macro makes each error's number, name, text and two answers a caller needs: may I try again with the same
 * request id, and was the request applied. The same numbers travel on the wire (messages/sluice/v1/error.proto).
 */
#ifndef SLUICE_BASE_H
#define SLUICE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SLUICE_API __attribute__((visibility("default")))
#define SLUICE_NODISCARD __attribute__((warn_unused_result))
#define SLUICE_PRINTF(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#else
#define SLUICE_API
#define SLUICE_NODISCARD
#define SLUICE_PRINTF(format_at, args_at)
#endif

/* Was the request applied to the database? */
typedef enum sluice_applied { SLUICE_APPLIED_NO = 0, SLUICE_APPLIED_YES = 1, SLUICE_APPLIED_UNKNOWN = 2 } sluice_applied;

/* X(NAME, number, "name", retryable, applied, "text")
 * retryable: sending the same request again, with the same id, can succeed without the caller changing it. */
#define SLUICE_ERR_MAP(X)                                                                                              \
    X(OK, 0, "ok", false, YES, "done, and on disk if it was a write")                                                  \
    X(FAILED, 1, "failed", false, NO, "the statement failed")                                                          \
    X(OVERLOADED, 2, "overloaded", true, NO, "a queue is full; try again after the time given")                        \
    X(EXPIRED, 3, "expired", true, NO, "the deadline passed before the work began")                                    \
    X(FORBIDDEN, 4, "forbidden", false, NO, "not allowed for this client")                                             \
    X(UNKNOWN, 5, "unknown", true, UNKNOWN, "the answer was lost; ask again with the same id")                         \
    X(INVALID, 6, "invalid", false, NO, "the request is malformed")                                                    \
    X(UNSUPPORTED, 7, "unsupported", false, NO, "unknown wire version or message type")                                \
    X(TOO_BIG, 8, "too_big", false, NO, "over a size limit")                                                           \
    X(READ_ONLY, 9, "read_only", false, NO, "a statement that writes was sent as a read")                              \
    X(ID_REUSED, 10, "id_reused", false, NO, "the request id was used before with another body")                       \
    X(STALE, 11, "stale", false, NO, "the request id is below what the client already settled")                        \
    X(SESSION_EXPIRED, 12, "session_expired", false, NO, "the session is gone; its requests are refused")              \
    X(QUOTA, 13, "quota", false, NO, "over this client's quota")                                                       \
    X(NO_SPACE, 14, "no_space", true, NO, "the disk is full")                                                          \
    X(SNAPSHOT_EXPIRED, 15, "snapshot_expired", true, NO, "the snapshot was ended to let the WAL shrink")              \
    X(CONSTRAINT, 16, "constraint", false, NO, "a constraint of the schema was violated")                              \
    X(GUARD_FAILED, 17, "guard_failed", false, NO, "a statement did not change the expected number of rows")           \
    X(NO_ACTOR, 18, "no_actor", true, NO, "no actor lives under that name or pid")                                     \
    X(ACTOR_DOWN, 19, "actor_down", true, UNKNOWN, "the actor ended before it answered")                               \
    X(TIMEOUT, 20, "timeout", true, UNKNOWN, "no answer came before the deadline")                                     \
    X(UNREACHABLE, 21, "unreachable", true, NO, "the peer could not be reached; nothing was sent")                     \
    X(NOMEM, 22, "nomem", true, NO, "out of memory")                                                                   \
    X(IO, 23, "io", false, UNKNOWN, "an input or output error")                                                        \
    X(SYSTEM, 24, "system", false, NO, "the operating system refused")                                                 \
    X(LOCKED, 25, "locked", true, NO, "the file has another owner")                                                    \
    X(NOT_A_DATABASE, 26, "not_a_database", false, NO, "the file is not an SQLite database")                           \
    X(CORRUPT, 27, "corrupt", false, NO, "the database file is damaged")                                               \
    X(CLOSED, 28, "closed", true, NO, "stopping or stopped; no work is taken")                                         \
    X(EXISTS, 29, "exists", false, NO, "the name is taken")                                                            \
    X(SYNTAX, 30, "syntax", false, NO, "the SQL text does not compile")                                                \
    X(FATAL, 31, "fatal", false, UNKNOWN, "the store has stopped for good; open it again in a new process")            \
    X(INTERRUPTED, 32, "interrupted", true, NO, "cancelled, or ended at its deadline while it ran")    \
    X(NO_PROCEDURE, 33, "no_procedure", false, NO, "no procedure of that name is registered")                          \
    X(TRANSACTION_EXPIRED, 34, "transaction_expired", false, NO, "the transaction is over and was rolled back")

typedef enum sluice_err {
#define SLUICE_ERR_ENUM(NAME, number, name, retryable, applied, text) SLUICE_##NAME = (number),
    SLUICE_ERR_MAP(SLUICE_ERR_ENUM)
#undef SLUICE_ERR_ENUM
} sluice_err;

/* Names an error, e.g. "overloaded". Never NULL; an unknown number is "unlisted". Threads: any. */
SLUICE_API const char *sluice_err_name(sluice_err err);
/* Explains an error in one sentence without a full stop. Never NULL. Threads: any. */
SLUICE_API const char *sluice_err_text(sluice_err err);
/* Tells whether the same request with the same id may succeed later. Threads: any. */
SLUICE_API bool sluice_err_retryable(sluice_err err);
/* Tells whether a write that ended so was applied. An unknown number is APPLIED_UNKNOWN. Threads: any. */
SLUICE_API sluice_applied sluice_err_applied(sluice_err err);

#define SLUICE_CAUSE_TEXT_SIZE 240

/* Says why something failed. Fixed size, so no error path allocates; filled where it failed, wrapped on the way up. */
typedef struct sluice_cause {
    sluice_err code;
    int sys_errno;           /* errno, or 0 */
    int sqlite_code;         /* extended SQLite result code, or 0 */
    uint32_t retry_after_ms; /* with OVERLOADED: when to try again; else 0 */
    int32_t statement;       /* index of the statement that failed, from 0; -1 if none */
    char text[SLUICE_CAUSE_TEXT_SIZE];
} sluice_cause;

/* Sets `cause` (may be NULL) to code and formatted text, other fields cleared, and returns code. Threads: any. */
SLUICE_API sluice_err sluice_cause_set(sluice_cause *cause, sluice_err code, const char *format, ...)
    SLUICE_PRINTF(3, 4);
/* Puts "context: " in front of the text of `cause` (may be NULL) and returns its code (FAILED when NULL). Threads: any. */
SLUICE_API sluice_err sluice_cause_wrap(sluice_cause *cause, const char *context);

/* Names one actor of one runtime. 0 names nobody. A pid is never used twice within a runtime's life. */
typedef uint64_t sluice_pid;

/* The library's version as "MAJOR.MINOR.PATCH". Threads: any. */
SLUICE_API const char *sluice_version(void);

#ifdef __cplusplus
}
#endif
#endif
