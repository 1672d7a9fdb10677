/* SPDX-License-Identifier: MIT */
/* The log behind the last commit, read as recovery reads it; see log_tail.h.
 *
 * Owning thread: the writer's.
 *
 *   [header][frame 1] ... [frame mxFrame][frame][frame] ...
 *                                        ^ recovery goes on from here while salts and checksums fit, and takes all
 *                                          frames up to the last one that is marked as a commit
 *
 * Invariants
 *  1. Frames up to mxFrame, which the index shared by all connections holds, are only read.
 *  2. Nobody else writes to the log meanwhile: one writer, no transaction open.
 */
#include "log_tail.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LOG_HEADER   32
#define FRAME_HEADER 24
#define SALT_SIZE    8
#define SALT_OF_LOG  16 /* offsets in the log's header */
#define SUM_OF_LOG   24
#define COMMIT_OF_FRAME 4 /* offsets in a frame's header */
#define SALT_OF_FRAME   8
#define SUM_OF_FRAME    16
#define INDEX_REGION    32768 /* of the index; the first one begins with its header */
#define PAGE_SIZE_OF_INDEX 14
#define MXFRAME_OF_INDEX   16

typedef struct log_tail {
    sqlite3_file *file;
    uint32_t mxframe;
    size_t page_size;
    bool big_endian; /* how the checksums take their words */
    uint8_t salt[SALT_SIZE];
    uint32_t sum[2]; /* up to the frame read last */
} log_tail;

static uint32_t big_endian_word(const uint8_t *b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint32_t word(const log_tail *log, const uint8_t *b) {
    if (log->big_endian) return big_endian_word(b);
    return (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
}

static void add_sum(log_tail *log, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        log->sum[0] += word(log, data + i) + log->sum[1];
        log->sum[1] += word(log, data + i + 4) + log->sum[0];
    }
}

static sqlite3_int64 place(const log_tail *log, uint32_t frame) {
    return LOG_HEADER + (sqlite3_int64)frame * (sqlite3_int64)(FRAME_HEADER + log->page_size);
}

/* Finds the log, the last frame that is committed and the size of pages. */
static bool find_log(sqlite3 *db, log_tail *log) {
    sqlite3_file *database = NULL;
    void volatile *region = NULL;
    int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log->file);
    if (rc == SQLITE_OK) rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &database);
    if (rc != SQLITE_OK || log->file == NULL || log->file->pMethods == NULL || database == NULL ||
        database->pMethods == NULL || database->pMethods->iVersion < 2)
        return false;
    if (database->pMethods->xShmMap(database, 0, INDEX_REGION, 0, &region) != SQLITE_OK || region == NULL) return false;
    const volatile uint8_t *index = region;
    uint16_t page_size = *(const volatile uint16_t *)(index + PAGE_SIZE_OF_INDEX);
    log->mxframe = *(const volatile uint32_t *)(index + MXFRAME_OF_INDEX);
    log->page_size = page_size == 1 ? 65536 : page_size;
    return log->page_size != 0;
}

/* Reads what the checksums of the first frame behind the last commit build on. *end: there is no log to recover. */
static bool read_basis(log_tail *log, bool *end) {
    uint8_t header[LOG_HEADER], frame[FRAME_HEADER];
    int rc = log->file->pMethods->xRead(log->file, header, LOG_HEADER, 0);
    *end = rc == SQLITE_IOERR_SHORT_READ;
    if (rc != SQLITE_OK) return *end;
    log->big_endian = (header[3] & 1) != 0;
    memcpy(log->salt, header + SALT_OF_LOG, SALT_SIZE);
    const uint8_t *sum = header + SUM_OF_LOG;
    if (log->mxframe != 0) {
        rc = log->file->pMethods->xRead(log->file, frame, FRAME_HEADER, place(log, log->mxframe - 1));
        if (rc != SQLITE_OK) return false;
        sum = frame + SUM_OF_FRAME;
    }
    log->sum[0] = big_endian_word(sum);
    log->sum[1] = big_endian_word(sum + 4);
    return true;
}

/* Would recovery find a commit behind the last one? Errors count as yes. */
static bool holds_a_commit(log_tail *log, uint8_t *frame) {
    for (uint32_t at = log->mxframe;; at++) {
        int size = (int)(FRAME_HEADER + log->page_size);
        int rc = log->file->pMethods->xRead(log->file, frame, size, place(log, at));
        if (rc == SQLITE_IOERR_SHORT_READ) return false;
        if (rc != SQLITE_OK) return true;
        if (memcmp(frame + SALT_OF_FRAME, log->salt, SALT_SIZE) != 0) return false;
        add_sum(log, frame, SALT_OF_FRAME);
        add_sum(log, frame + FRAME_HEADER, log->page_size);
        if (log->sum[0] != big_endian_word(frame + SUM_OF_FRAME) ||
            log->sum[1] != big_endian_word(frame + SUM_OF_FRAME + 4))
            return false;
        if (big_endian_word(frame + COMMIT_OF_FRAME) != 0) return true;
    }
}

bool sl_log_tail_clear(sqlite3 *db) {
    static const uint8_t nothing[FRAME_HEADER];
    log_tail log = {.file = NULL};
    bool end = false;
    if (!find_log(db, &log) || !read_basis(&log, &end)) return false;
    if (end) return true;
    uint8_t *frame = malloc(FRAME_HEADER + log.page_size);
    bool found = frame == NULL || holds_a_commit(&log, frame);
    free(frame);
    if (!found) return true;
    return log.file->pMethods->xWrite(log.file, nothing, FRAME_HEADER, place(&log, log.mxframe)) == SQLITE_OK &&
           log.file->pMethods->xSync(log.file, SQLITE_SYNC_NORMAL) == SQLITE_OK;
}
