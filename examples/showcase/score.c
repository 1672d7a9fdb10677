/* SPDX-License-Identifier: MIT */
#include "showcase/score.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t number_of(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}

bool owner_stats_read(http_connection *connection, owner_stats *out)
{
    static http_answer answer;
    if (!http_call(connection, "GET", "/stats", NULL, NULL, &answer) || answer.status != 200) return false;
    json_t *document = json_loadb(answer.body, answer.body_size, 0, NULL);
    const json_t *store = json_object_get(document, "store");
    *out = (owner_stats){.writes = number_of(store, "writes"),
                         .reads = number_of(store, "reads"),
                         .groups = number_of(store, "groups"),
                         .commit_p99_us = number_of(store, "commit_p99_us"),
                         .wal_bytes = number_of(store, "wal_bytes"),
                         .begin_busy = number_of(store, "begin_busy")};
    json_decref(document);
    return store != NULL;
}

void live_line(unsigned second, uint64_t elapsed_us, const owner_stats *before, const owner_stats *now,
               const children *all)
{
    static unsigned lines;
    static uint64_t control_before;
    if (lines++ % 20 == 0) {
        printf("      |                          Sluice                            |  stock SQLite control\n");
        printf("    s | writes/s  reads/s  batch  commit p99    WAL   rounds  BUSY | writes/s  rounds  BUSY\n");
    }
    tally workers = children_tally(all, WORKER), buyers = children_tally(all, BUYERS);
    tally reader = children_tally(all, READER), control = children_tally(all, CONTROL);
    double seconds = elapsed_us > 0 ? (double)elapsed_us / 1e6 : 1.0;
    uint64_t writes = now->writes - before->writes, groups = now->groups - before->groups;
    uint64_t control_writes = control.acknowledged - control_before;
    control_before = control.acknowledged;
    printf("%5u | %8.0f %8.0f %6.1f %8.1f ms %5.1f M %6" PRIu64 " %6" PRIu64 " | %8.0f %7" PRIu64 " %5" PRIu64 "\n",
           second, (double)writes / seconds, (double)(now->reads - before->reads) / seconds,
           groups > 0 ? (double)writes / (double)groups : 0.0, (double)now->commit_p99_us / 1e3,
           (double)now->wal_bytes / 1048576.0, workers.rounds, workers.busy + buyers.busy + reader.busy,
           (double)control_writes / seconds, control.rounds, control.busy);
    fflush(stdout);
}

static uint64_t judged_number(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    return at == NULL ? 0 : strtoull(at + strlen(key), NULL, 10);
}

void verdict_parse(const char *line, verdict *out)
{
    *out = (verdict){.judged = strncmp(line, "judged ", 7) == 0,
                     .acknowledged = judged_number(line, " acknowledged="),
                     .found = judged_number(line, " found="),
                     .lost = judged_number(line, " lost="),
                     .doubled = judged_number(line, " doubled="),
                     .wrong = judged_number(line, " wrong="),
                     .sound = strstr(line, " integrity=ok") != NULL};
}

bool verdict_good(const verdict *self)
{
    return self->judged && self->sound && self->lost == 0 && self->doubled == 0 && self->wrong == 0;
}

static void row_begin(const char *name)
{
    printf("  %-32s", name);
}

#define ROW(name, format, value)                                                                                       \
    do {                                                                                                               \
        row_begin(name);                                                                                               \
        for (size_t i = 0; i < n; i++) printf(format, value);                                                          \
        putchar('\n');                                                                                                 \
    } while (0)

void final_table(const column *columns, size_t n)
{
    putchar('\n');
    row_begin("");
    for (size_t i = 0; i < n; i++) printf("%18s", columns[i].heading);
    putchar('\n');
    ROW("write requests", "%18" PRIu64, columns[i].tally.requests);
    ROW("acknowledged", "%18" PRIu64, columns[i].tally.acknowledged);
    ROW("acknowledgements logged outside", "%18" PRIu64, columns[i].verdict.acknowledged);
    ROW("found in the file", "%18" PRIu64, columns[i].verdict.found);
    ROW("lost", "%18" PRIu64, columns[i].verdict.lost);
    ROW("doubled", "%18" PRIu64, columns[i].verdict.doubled);
    ROW("refused (overload, sold out)", "%18" PRIu64, columns[i].tally.refused);
    ROW("answers lost (unknown)", "%18" PRIu64, columns[i].tally.unknown);
    ROW("failed", "%18" PRIu64, columns[i].tally.failed);
    ROW("BUSY", "%18" PRIu64, columns[i].tally.busy);
    ROW("slowest write, ms", "%18.1f", (double)columns[i].tally.slowest_us / 1e3);
    ROW("catalog rounds", "%18" PRIu64, columns[i].tally.rounds);
    ROW("integrity_check", "%18s", columns[i].verdict.sound ? "ok" : "BROKEN");
}
