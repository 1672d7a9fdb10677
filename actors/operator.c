/* SPDX-License-Identifier: MIT */
/* What the host may ask of an open store: a checkpoint, a backup. Each is one ask to the writer and its answer.
 *
 * Owning thread: the host's. Messages: sends CheckpointNow and BackupRequest, hears their answers.
 * Invariant: a call ends at its deadline; an answer that comes later is dropped with the port.
 * Stop order: the port goes with the call.
 */
#include <stdlib.h>
#include <string.h>

#include "msg.h"
#include "port.h"
#include "store_internal.h"
#include "sluice/v1/control.pb-c.h"

/* Asks the writer. Takes: *request, always. Gives: *reply, of type `wanted`. */
static sluice_err ask_writer(sluice_store *store, sluice_msg **request, uint32_t timeout_ms,
                             const ProtobufCMessageDescriptor *wanted, sluice_msg **reply, sluice_cause *cause) {
    sl_port *port = NULL;
    *reply = NULL;
    sluice_err err = sl_port_open(store->runtime, &port, cause);
    if (err == SLUICE_OK) {
        int64_t until_ns = sl_now_ns() + (int64_t)timeout_ms * 1000000;
        (*request)->flags = SL_MSG_ASK;
        (*request)->correlation = 1;
        (*request)->deadline_ns = until_ns;
        err = sl_port_send(port, atomic_load(&store->writer), request);
        if (err == SLUICE_OK) err = sl_port_recv(port, until_ns, reply);
        if (err != SLUICE_OK)
            (void)sluice_cause_set(cause, err, "the writer gave no answer: %s", sluice_err_text(err));
        else if (((*reply)->flags & SL_MSG_ERROR) != 0)
            err = sl_msg_cause(*reply, cause);
        else if ((*reply)->type != wanted)
            err = sluice_cause_set(cause, SLUICE_IO, "the writer answered with something else");
    }
    if (err != SLUICE_OK) sluice_msg_destroy(reply);
    sluice_msg_destroy(request);
    sl_port_close(&port);
    return err;
}

sluice_err sluice_store_checkpoint(sluice_store *store, bool truncate, uint32_t timeout_ms,
                                   sluice_checkpoint_done *out, sluice_cause *cause) {
    sluice_msg *request = NULL, *reply = NULL;
    sluice_err err = sluice_msg_new(&sluice__v1__checkpoint_now__descriptor, &request);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "out of memory");
    ((Sluice__V1__CheckpointNow *)request->body)->truncate = truncate;
    err = ask_writer(store, &request, timeout_ms, &sluice__v1__checkpoint_done__descriptor, &reply, cause);
    if (err != SLUICE_OK) return err;
    const Sluice__V1__CheckpointDone *done = (const Sluice__V1__CheckpointDone *)reply->body;
    if (out != NULL) *out = (sluice_checkpoint_done){.frames = done->frames, .wal_file_bytes = done->wal_file_bytes};
    sluice_msg_destroy(&reply);
    return SLUICE_OK;
}

sluice_err sluice_store_backup(sluice_store *store, const char *path, uint32_t timeout_ms, sluice_backup_done *out,
                               sluice_cause *cause) {
    sluice_msg *request = NULL, *reply = NULL;
    sluice_err err = sluice_msg_new(&sluice__v1__backup_request__descriptor, &request);
    if (err != SLUICE_OK) return sluice_cause_set(cause, err, "out of memory");
    Sluice__V1__BackupRequest *body = (Sluice__V1__BackupRequest *)request->body;
    body->path.len = strlen(path);
    body->path.data = sluice_msg_memdup(request, path, body->path.len);
    if (body->path.data == NULL) {
        sluice_msg_destroy(&request);
        return sluice_cause_set(cause, SLUICE_NOMEM, "out of memory");
    }
    err = ask_writer(store, &request, timeout_ms, &sluice__v1__backup_reply__descriptor, &reply, cause);
    if (err != SLUICE_OK) return err;
    const Sluice__V1__BackupReply *done = (const Sluice__V1__BackupReply *)reply->body;
    if (out != NULL)
        *out = (sluice_backup_done){.pages = done->pages,
                                    .bytes = done->bytes,
                                    .commit_number = done->commit_number,
                                    .restarts = done->restarts};
    sluice_msg_destroy(&reply);
    return SLUICE_OK;
}
