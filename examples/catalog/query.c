/* SPDX-License-Identifier: MIT */
/* catalog-query: asks the catalog by hand, also while workers write.
 *
 * Usage: catalog-query --connect URL owner PATH | needed-by NAME | package NAME | summary
 * Exit code: 0 something was found, 1 nothing was found or an error, 2 usage.
 */
#include "common/utf8.h"
#include <inttypes.h>
#include <sluice/client.h>
#include <stdio.h>
#include <string.h>

typedef struct question {
    const char *word;
    bool has_name;
    const char *heading, *sql;
} question;

static const question questions[] = {
    {"owner", true, "packages that own it", "SELECT package FROM file WHERE path = ?1 ORDER BY package"},
    {"needed-by", true, "packages that depend on it",
     "SELECT package, group_concat(DISTINCT kind) FROM dependency WHERE target = ?1 GROUP BY package ORDER BY package"},
    {"package", true, "package",
     "SELECT name, version, architecture, status, section, summary, n_dependencies || ' dependencies', "
     "n_files || ' files', 'indexed in round ' || round FROM package WHERE name = ?1"},
    {"summary", false, "catalog",
     "SELECT (SELECT count(*) FROM package) || ' packages', (SELECT count(*) FROM dependency) || ' dependencies', "
     "(SELECT count(*) FROM file) || ' files', (SELECT coalesce(min(round) - 1, 0) FROM slice) || ' rounds complete'"}};

static int usage(void)
{
    fputs("Usage: catalog-query --connect URL QUESTION\n"
          "  owner PATH       which package owns this path\n"
          "  needed-by NAME   what depends on this package\n"
          "  package NAME     what is known about it\n"
          "  summary          how much there is\n",
          stderr);
    return 2;
}

static int ask(sluice_client *client, const question *asked, const char *name)
{
    sluice_cause cause;
    sluice_result *result = NULL;
    sluice_value value = sluice_text(name);
    if (name != NULL && !utf8_valid(name)) value = sluice_blob(name, strlen(name));
    sluice_err err = sluice_query(client, asked->sql, &value, asked->has_name ? 1 : 0, &result, &cause);
    if (err != SLUICE_OK) {
        fprintf(stderr, "%s: %s\n", sluice_err_name(err), cause.text);
        return 1;
    }
    uint64_t rows = sluice_result_rows(result);
    while (sluice_result_next(result)) {
        const char *separator = "";
        for (size_t column = 0; column < sluice_result_columns(result); column++) {
            const char *text = sluice_result_text(result, column, NULL);
            if (text == NULL) continue;
            printf("%s%s", separator, text);
            separator = "\t";
        }
        putchar('\n');
    }
    if (asked->has_name) fprintf(stderr, "%s: %" PRIu64 "\n", asked->heading, rows);
    sluice_result_destroy(&result);
    return rows > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 4 || strcmp(argv[1], "--connect") != 0) return usage();
    const question *asked = NULL;
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++)
        if (strcmp(argv[3], questions[i].word) == 0) asked = &questions[i];
    if (asked == NULL || argc != (asked->has_name ? 5 : 4)) return usage();

    sluice_cause cause;
    sluice_client *client;
    if (sluice_client_open(argv[2], NULL, &client, &cause) != SLUICE_OK) {
        fprintf(stderr, "%s: %s\n", argv[2], cause.text);
        return 1;
    }
    int code = ask(client, asked, asked->has_name ? argv[4] : NULL);
    sluice_client_close(&client);
    return code;
}
