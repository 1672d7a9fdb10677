/* SPDX-License-Identifier: MIT */
/* Golden bytes: what goes over the wire today is what went over it yesterday, and what messages/README.md shows.
 *
 * Each file in tests/golden/ is one message, both frames, in hex with a comment per field. The text is made from the
 * message and its descriptor, so bytes and comments are compared alike. After an intended change of the wire:
 * `test_golden --write DIRECTORY` writes them anew, and the version or the README change with it.
 */
#include "support/wire.h"

#include "sluice/v1/control.pb-c.h"
#include "sluice/v1/envelope.pb-c.h"
#include "sluice/v1/error.pb-c.h"
#include "sluice/v1/query.pb-c.h"
#include "sluice/v1/write.pb-c.h"
#include "table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the messages ---- */

static sluice_msg *fresh(const ProtobufCMessageDescriptor *type) {
    sluice_msg *msg = NULL;
    if (sluice_msg_new(type, &msg) != SLUICE_OK) abort();
    return msg;
}

static void *need(void *pointer) {
    if (pointer == NULL) abort();
    return pointer;
}

static ProtobufCBinaryData bytes_of(sluice_msg *msg, const char *text) {
    return (ProtobufCBinaryData){strlen(text), need(sluice_msg_memdup(msg, text, strlen(text)))};
}

static Sluice__V1__Statement *statement(sluice_msg *msg, const char *sql, const sluice_value *params, size_t n) {
    Sluice__V1__Statement *out = need(sluice_msg_alloc(msg, sizeof *out));
    sluice__v1__statement__init(out);
    out->what_case = SLUICE__V1__STATEMENT__WHAT_SQL;
    out->sql = bytes_of(msg, sql);
    out->params = need(sluice_msg_alloc(msg, n * sizeof *out->params));
    out->n_params = n;
    for (size_t i = 0; i < n; i++) {
        out->params[i] = need(sluice_msg_alloc(msg, sizeof *out->params[i]));
        if (sl_value_pack(&msg->arena, &params[i], out->params[i]) != SLUICE_OK) abort();
    }
    return out;
}

/* Three rows: a uniform column, one with a NULL, one of every type, blobs. */
static Sluice__V1__Table *table(sluice_msg *msg) {
    const sluice_value rows[3][4] = {
        {sluice_integer(1), sluice_text("Ada"), sluice_integer(-1), sluice_blob("\0\xFF", 2)},
        {sluice_integer(2), sluice_null(), sluice_real(2.5), sluice_blob("", 0)},
        {sluice_integer(300), sluice_text(""), sluice_text("\xC3\xA9"), sluice_blob("x", 1)},
    };
    static const char *const names[] = {"id", "name", "any", "data"};
    sl_table_builder *builder = need(sl_table_builder_new(&msg->arena, 4));
    for (size_t i = 0; i < 4; i++) {
        if (sl_table_builder_name(builder, i, names[i], strlen(names[i])) != SLUICE_OK) abort();
        for (size_t row = 0; row < 3; row++)
            if (sl_table_builder_add(builder, i, &rows[row][i]) != SLUICE_OK) abort();
    }
    return need(sl_table_builder_finish(builder, 3));
}

static sluice_msg *write_request(void) {
    sluice_msg *msg = fresh(&sluice__v1__write_request__descriptor);
    Sluice__V1__WriteRequest *body = sluice_msg_body(msg);
    const sluice_value params[] = {sluice_integer(42), sluice_text("Ada")};
    body->statements = need(sluice_msg_alloc(msg, sizeof *body->statements));
    body->statements[0] = statement(msg, "INSERT INTO t VALUES(?,?)", params, 2);
    body->statements[0]->guard_case = SLUICE__V1__STATEMENT__GUARD_EXPECT_CHANGES;
    body->statements[0]->expect_changes = 1;
    body->n_statements = 1;
    body->receipt = true;
    msg->flags = SL_MSG_ASK;
    msg->correlation = 7;
    msg->deadline_ns = WIRE_NOW_NS + INT64_C(5000) * 1000000;
    for (unsigned i = 0; i < 16; i++) msg->identity.client[i] = (uint8_t)(0xA0 + i);
    msg->identity.sequence = 3, msg->identity.attempt = 1, msg->identity.ack_upto = 2;
    return msg;
}

static sluice_msg *write_many(void) {
    sluice_msg *msg = fresh(&sluice__v1__write_request__descriptor);
    Sluice__V1__WriteRequest *body = sluice_msg_body(msg);
    const sluice_value params[] = {sluice_null(), sluice_real(-0.5), sluice_blob("\x01\x02", 2)};
    body->statements = need(sluice_msg_alloc(msg, 2 * sizeof *body->statements));
    body->statements[0] = statement(msg, "INSERT INTO t VALUES(?,?,?,?)", NULL, 0);
    body->statements[0]->rows = table(msg);
    body->statements[1] = statement(msg, "UPDATE t SET a=?,b=?,c=?", params, 3);
    body->n_statements = 2;
    msg->correlation = 300;
    return msg;
}

static sluice_msg *write_call(void) {
    sluice_msg *msg = fresh(&sluice__v1__write_request__descriptor);
    Sluice__V1__WriteRequest *body = sluice_msg_body(msg);
    const sluice_value params[] = {sluice_integer(1), sluice_integer(2), sluice_integer(100)};
    Sluice__V1__Statement *one = statement(msg, "", params, 3);
    one->what_case = SLUICE__V1__STATEMENT__WHAT_PROCEDURE;
    one->procedure = need(sluice_msg_strdup(msg, "transfer"));
    body->statements = need(sluice_msg_memdup(msg, &one, sizeof one));
    body->n_statements = 1;
    body->transaction = UINT64_C(0x1122334455667788);
    msg->flags = SL_MSG_ASK;
    msg->correlation = 9;
    return msg;
}

static sluice_msg *transaction_end(void) {
    sluice_msg *msg = fresh(&sluice__v1__transaction_end__descriptor);
    Sluice__V1__TransactionEnd *body = sluice_msg_body(msg);
    body->transaction = UINT64_C(0x1122334455667788);
    body->commit = body->receipt = true;
    msg->flags = SL_MSG_ASK;
    msg->correlation = 10;
    for (unsigned i = 0; i < 16; i++) msg->identity.client[i] = (uint8_t)(0xA0 + i);
    msg->identity.sequence = 4, msg->identity.ack_upto = 3;
    return msg;
}

static sluice_msg *turned(const ProtobufCMessageDescriptor *type) {
    sluice_msg *msg = fresh(type);
    msg->correlation = 7;
    if (sl_msg_turn(msg, type) != SLUICE_OK) abort();
    return msg;
}

static sluice_msg *write_reply(void) {
    sluice_msg *msg = turned(&sluice__v1__write_reply__descriptor);
    Sluice__V1__WriteReply *body = sluice_msg_body(msg);
    Sluice__V1__StatementResult *result = need(sluice_msg_alloc(msg, sizeof *result));
    sluice__v1__statement_result__init(result);
    result->changes = 1;
    result->last_rowid = 42;
    body->commit_number = 1234;
    body->results = need(sluice_msg_memdup(msg, &result, sizeof result));
    body->n_results = 1;
    return msg;
}

static sluice_msg *query_request(void) {
    sluice_msg *msg = fresh(&sluice__v1__query_request__descriptor);
    Sluice__V1__QueryRequest *body = sluice_msg_body(msg);
    Sluice__V1__Statement *one = statement(msg, "SELECT 1", NULL, 0);
    body->statements = need(sluice_msg_memdup(msg, &one, sizeof one));
    body->n_statements = 1;
    body->max_bytes = 65536;
    msg->flags = SL_MSG_ASK;
    msg->correlation = 8;
    for (unsigned i = 0; i < 16; i++) msg->trace.trace_id[i] = (uint8_t)(0x10 + i);
    for (unsigned i = 0; i < 8; i++) msg->trace.span_id[i] = (uint8_t)(0x20 + i);
    msg->trace.flags = 1;
    return msg;
}

static sluice_msg *query_reply(void) {
    sluice_msg *msg = turned(&sluice__v1__query_reply__descriptor);
    Sluice__V1__QueryReply *body = sluice_msg_body(msg);
    Sluice__V1__StatementResult *result = need(sluice_msg_alloc(msg, sizeof *result));
    sluice__v1__statement_result__init(result);
    result->rows = table(msg);
    body->commit_number = 1234;
    body->results = need(sluice_msg_memdup(msg, &result, sizeof result));
    body->n_results = 1;
    return msg;
}

static sluice_msg *readers_reply(void) {
    sluice_msg *msg = turned(&sluice__v1__readers_reply__descriptor);
    Sluice__V1__ReadersReply *body = sluice_msg_body(msg);
    Sluice__V1__Reading *readings = need(sluice_msg_alloc(msg, 2 * sizeof *readings));
    body->readings = need(sluice_msg_alloc(msg, 2 * sizeof *body->readings));
    for (unsigned i = 0; i < 2; i++) {
        sluice__v1__reading__init(&readings[i]);
        readings[i].number = i;
        body->readings[i] = &readings[i];
    }
    readings[1].leased = readings[1].busy = true;
    readings[1].age_us = 1500;
    readings[1].commit_number = 1233;
    readings[1].asker = UINT64_C(0x100000003);
    readings[1].asker_name = need(sluice_msg_strdup(msg, "gateway"));
    readings[1].request = 8;
    readings[1].statement = bytes_of(msg, "SELECT 1");
    readings[1].statement_size = 8;
    body->n_readings = 2;
    body->commit_number = 1234;
    return msg;
}

static sluice_msg *error(void) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_CONSTRAINT, "UNIQUE constraint failed: t.id");
    cause.sqlite_code = 1555;
    cause.statement = 0;
    sluice_msg *msg = turned(&sluice__v1__write_reply__descriptor);
    sl_msg_turn_error(msg, &cause);
    return msg;
}

static sluice_msg *unsupported(void) {
    sluice_cause cause;
    (void)sluice_cause_set(&cause, SLUICE_UNSUPPORTED, "wire version 9 is not spoken here, 1 to 1 are");
    sluice_msg *msg = turned(&sluice__v1__write_reply__descriptor);
    sl_msg_turn_error(msg, &cause);
    return msg;
}

static sluice_msg *ping(void) {
    sluice_msg *msg = fresh(&sluice__v1__ping__descriptor);
    ((Sluice__V1__Ping *)sluice_msg_body(msg))->payload = bytes_of(msg, "hello");
    msg->flags = SL_MSG_ASK;
    msg->correlation = 1;
    return msg;
}

static const struct {
    const char *name;
    sluice_msg *(*make)(void);
    const char *to;
    uint32_t credits;
} cases[] = {
    {"write_request", write_request, "app/writer", 0},
    {"write_reply", write_reply, "", 0},
    {"write_many", write_many, "app/writer", 0},
    {"write_call", write_call, "app/writer", 0},
    {"transaction_end", transaction_end, "app/writer", 0},
    {"query_request", query_request, "app/readers", 16},
    {"query_reply", query_reply, "", 0},
    {"readers_reply", readers_reply, "", 0},
    {"error", error, "", 0},
    {"unsupported", unsupported, "", 0},
    {"ping", ping, "", 0},
};
#define N_CASES (sizeof cases / sizeof cases[0])

/* ---- annotated hex ---- */

#define PER_LINE 16u
#define COMMENT_AT 56

static void text_add(wire_bytes *text, const char *more) { wire_put(text, more, strlen(more)); }

/* Lines of at most PER_LINE bytes; the comment (NULL: none) stands behind the first. */
static void text_line(wire_bytes *text, unsigned depth, const uint8_t *data, size_t size, const char *comment) {
    for (size_t from = 0; from < size || from == 0; from += PER_LINE) {
        char line[160];
        int at = snprintf(line, sizeof line, "%*s", (int)depth * 2, "");
        for (size_t i = from; i < size && i < from + PER_LINE; i++)
            at += snprintf(line + at, sizeof line - (size_t)at, "%02x ", data[i]);
        if (from == 0 && comment != NULL) {
            int gap = at < COMMENT_AT ? COMMENT_AT - at : 0;
            snprintf(line + at, sizeof line - (size_t)at, "%*s# %s", gap, "", comment);
        } else {
            line[at - 1] = '\0';
        }
        text_add(text, line);
        text_add(text, "\n");
    }
}

static uint64_t take_varint(const uint8_t **at) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return value;
    }
}

/* ": the text", or nothing where the bytes are not plain text. */
static void plain_comment(char *out, size_t room, const uint8_t *data, size_t size) {
    out[0] = '\0';
    for (size_t i = 0; i < size; i++)
        if (data[i] < 0x20 || data[i] >= 0x7F) return;
    if (size != 0) snprintf(out, room, ": %.*s", (int)size, (const char *)data);
}

static void number_comment(char *out, size_t room, const ProtobufCFieldDescriptor *field, uint64_t value) {
    if (field->type == PROTOBUF_C_TYPE_SINT32 || field->type == PROTOBUF_C_TYPE_SINT64) {
        int64_t decoded = (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
        snprintf(out, room, "%s = %lld (zigzag)", field->name, (long long)decoded);
    } else if (field->type == PROTOBUF_C_TYPE_ENUM) {
        const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(field->descriptor, (int)value);
        snprintf(out, room, "%s = %s", field->name, known != NULL ? known->name : "?");
    } else {
        snprintf(out, room, "%s = %llu", field->name, (unsigned long long)value);
    }
}

static void annotate(wire_bytes *text, const ProtobufCMessageDescriptor *type, const uint8_t *at, size_t size,
                     unsigned depth) {
    const uint8_t *end = at + size;
    while (at < end) {
        const uint8_t *start = at;
        char comment[128], content[80];
        uint64_t tag = take_varint(&at);
        const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
        if (field == NULL) abort();
        if ((tag & 7) == 2) {
            size_t length = (size_t)take_varint(&at);
            if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
                snprintf(comment, sizeof comment, "%s: %zu bytes", field->name, length);
                text_line(text, depth, start, (size_t)(at - start), comment);
                annotate(text, field->descriptor, at, length, depth + 1);
            } else {
                bool plain = field->type == PROTOBUF_C_TYPE_BYTES || field->type == PROTOBUF_C_TYPE_STRING;
                plain_comment(content, sizeof content, at, length);
                snprintf(comment, sizeof comment, "%s: %zu bytes%s", field->name, length, plain ? content : ", packed");
                text_line(text, depth, start, (size_t)(at - start), comment);
                text_line(text, depth + 1, at, length, NULL);
            }
            at += length;
        } else if ((tag & 7) == 0) {
            number_comment(comment, sizeof comment, field, take_varint(&at));
            text_line(text, depth, start, (size_t)(at - start), comment);
        } else {
            double value;
            uint64_t number;
            memcpy(&value, at, sizeof value);
            memcpy(&number, at, sizeof number);
            at += sizeof value;
            if (field->type == PROTOBUF_C_TYPE_FIXED64)
                snprintf(comment, sizeof comment, "%s = 0x%" PRIx64, field->name, number);
            else
                snprintf(comment, sizeof comment, "%s = %g", field->name, value);
            text_line(text, depth, start, (size_t)(at - start), comment);
        }
    }
}

/* The whole file of one case. */
static void make_text(size_t index, wire_bytes *text) {
    sluice_msg *msg = cases[index].make();
    uint8_t envelope[SL_WIRE_ENVELOPE_MAX];
    size_t size = sl_wire_pack_envelope(msg, cases[index].to, cases[index].credits, WIRE_NOW_NS, envelope);
    char line[160];
    snprintf(line, sizeof line, "# first frame: sluice.v1.Envelope, %zu bytes\n", size);
    text_add(text, line);
    annotate(text, &sluice__v1__envelope__descriptor, envelope, size, 0);
    size = sl_wire_body_size(msg);
    uint8_t *body = need(malloc(size + 1));
    sl_wire_pack_body(msg, body);
    snprintf(line, sizeof line, "# second frame: %s, %zu bytes\n", sluice_msg_type_name(msg), size);
    text_add(text, line);
    annotate(text, msg->type, body, size, 0);
    free(body);
    sluice_msg_destroy(&msg);
    wire_put_byte(text, 0);
}

/* ---- reading it back ---- */

static char *read_file(const char *folder, const char *name, const char *suffix) {
    const char *root = getenv("SLUICE_SOURCE");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s%s", root != NULL ? root : "../../..", folder, name, suffix);
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_msg("%s cannot be read", path);
    char *text = need(calloc(1, 1 << 20));
    size_t n = fread(text, 1, (1 << 20) - 1, file);
    fclose(file);
    assert_true(n > 0);
    return text;
}

/* Hex digits up to '#' or the end of each line; a comment that speaks of the second frame begins it. */
static void parse(const char *text, size_t size, wire_bytes frames[2]) {
    size_t frame = 0;
    for (const char *at = text, *end = text + size; at < end;) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        if (eol == NULL) eol = end;
        if (strncmp(at, "# second frame", 14) == 0) frame = 1;
        while (at < eol && *at != '#') {
            if (*at == ' ') {
                at++;
                continue;
            }
            char digits[3] = {at[0], at[1], '\0'}, *stop = NULL;
            wire_put_byte(&frames[frame], (unsigned)strtoul(digits, &stop, 16));
            if (stop != digits + 2) fail_msg("no hex: %.20s", at);
            at += 2;
        }
        at = eol + 1;
    }
}

static void the_wire_is_what_the_golden_files_say(void **state) {
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        wire_bytes text = {0};
        make_text(i, &text);
        char *golden = read_file("tests/golden", cases[i].name, ".hex");
        assert_string_equal((char *)text.at, golden);
        free(golden);
        wire_bytes_fini(&text);
    }
}

static void what_the_golden_files_say_is_decoded_to_the_same_message(void **state) {
    (void)state;
    for (size_t i = 0; i < N_CASES; i++) {
        wire_bytes frames[2] = {{0}, {0}};
        char *golden = read_file("tests/golden", cases[i].name, ".hex");
        parse(golden, strlen(golden), frames);
        wire_peer peer;
        wire_peer_init(&peer);
        assert_ok(wire_decode(&peer, &frames[0], &frames[1]), peer.cause);
        sluice_msg *msg = cases[i].make();
        assert_ptr_equal(peer.msg->type, msg->type);
        assert_int_equal(peer.msg->flags, msg->flags);
        assert_true(peer.msg->correlation == msg->correlation);
        assert_int_equal(peer.msg->deadline_ns, msg->deadline_ns);
        assert_memory_equal(&peer.msg->identity.client, &msg->identity.client, 16);
        assert_int_equal(peer.msg->identity.sequence, msg->identity.sequence);
        assert_memory_equal(&peer.msg->trace, &msg->trace, sizeof msg->trace);
        assert_string_equal(peer.address.to, cases[i].to);
        assert_int_equal(peer.address.credits, cases[i].credits);
        assert_int_equal(sl_wire_body_size(peer.msg), frames[1].size);
        uint8_t *again = need(malloc(frames[1].size + 1));
        sl_wire_pack_body(peer.msg, again);
        assert_memory_equal(again, frames[1].at, frames[1].size);
        free(again);
        free(golden);
        sluice_msg_destroy(&msg);
        wire_peer_fini(&peer);
        wire_bytes_fini(&frames[0]);
        wire_bytes_fini(&frames[1]);
    }
}

/* A block begins with the line "<!-- golden: NAME -->" and is the fenced text after it. */
static void the_readme_shows_the_golden_bytes(void **state) {
    (void)state;
    char *readme = read_file("messages", "README", ".md");
    unsigned n_blocks = 0;
    for (const char *at = readme; (at = strstr(at, "<!-- golden: ")) != NULL;) {
        char name[64];
        assert_int_equal(sscanf(at, "<!-- golden: %63[a-z_] -->", name), 1);
        const char *begin = strstr(at, "```\n");
        assert_non_null(begin);
        begin += 4;
        const char *end = strstr(begin, "```");
        assert_non_null(end);
        wire_bytes shown[2] = {{0}, {0}}, golden[2] = {{0}, {0}};
        parse(begin, (size_t)(end - begin), shown);
        char *text = read_file("tests/golden", name, ".hex");
        parse(text, strlen(text), golden);
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(shown[i].size, golden[i].size);
            assert_memory_equal(shown[i].at, golden[i].at, golden[i].size);
            wire_bytes_fini(&shown[i]);
            wire_bytes_fini(&golden[i]);
        }
        free(text);
        n_blocks++;
        at = end;
    }
    assert_int_equal(n_blocks, 3);
    free(readme);
}

/* The table of errors in the README has one row for each, with the same number, name and answers. */
static void the_readme_lists_every_error(void **state) {
    (void)state;
    static const char *const applied[] = {"no", "yes", "unknown"};
    char *readme = read_file("messages", "README", ".md");
    unsigned n_errors = 0;
#define ROW(NAME, number, name, retryable, applied_, text) n_errors++;
    SLUICE_ERR_MAP(ROW)
#undef ROW
    for (unsigned i = 0; i < n_errors; i++) {
        char row[256];
        sluice_err err = (sluice_err)i;
        snprintf(row, sizeof row, "\n| %u | `%s` | %s | %s | %s |\n", i, sluice_err_name(err),
                 sluice_err_retryable(err) ? "yes" : "no", applied[sluice_err_applied(err)], sluice_err_text(err));
        if (strstr(readme, row) == NULL) fail_msg("the README lacks this row:%s", row);
    }
    char next[32];
    snprintf(next, sizeof next, "\n| %u | `", n_errors);
    assert_null(strstr(readme, next));
    free(readme);
}

static int write_all(const char *folder) {
    for (size_t i = 0; i < N_CASES; i++) {
        wire_bytes text = {0};
        make_text(i, &text);
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.hex", folder, cases[i].name);
        FILE *file = fopen(path, "wb");
        if (file == NULL || fputs((char *)text.at, file) < 0 || fclose(file) != 0) return 1;
        wire_bytes_fini(&text);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_all(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_wire_is_what_the_golden_files_say),
        cmocka_unit_test(what_the_golden_files_say_is_decoded_to_the_same_message),
        cmocka_unit_test(the_readme_shows_the_golden_bytes),
        cmocka_unit_test(the_readme_lists_every_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
