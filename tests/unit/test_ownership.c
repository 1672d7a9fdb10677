/* SPDX-License-Identifier: MIT */
/* Ownership of the file: one owner, the right file, told apart from a replaced one. */
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "ownership.h"

static char *directory;
static sluice_cause cause;

static int setup(void **state) {
    (void)state;
    directory = support_directory_new();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    support_directory_remove(&directory);
    return 0;
}

static void put(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void owner_makes_a_private_side_directory(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db"), *side = support_path(directory, "a.db.sluice.d");
    sl_ownership *own = NULL;
    assert_ok(sl_ownership_take(path, true, &own, &cause), cause);
    assert_string_equal(sl_ownership_path(own), path);
    assert_string_equal(sl_ownership_directory(own), side);
    struct stat st;
    assert_int_equal(stat(side, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    sl_ownership_release(&own);
    assert_null(own);
    assert_int_not_equal(access(path, F_OK), 0); /* the file itself is SQLite's to make */
    assert_int_not_equal(access(side, F_OK), 0); /* nothing was opened: no trace */
    free(side), free(path);
}

static void second_owner_in_the_process_is_refused_with_the_pid(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db"), pid[32];
    sl_ownership *own = NULL, *second = NULL;
    assert_ok(sl_ownership_take(path, true, &own, &cause), cause);
    assert_int_equal(sl_ownership_take(path, true, &second, &cause), SLUICE_LOCKED);
    assert_null(second);
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(cause.text, pid));
    sl_ownership_release(&own);
    assert_ok(sl_ownership_take(path, true, &own, &cause), cause);
    sl_ownership_release(&own);
    free(path);
}

static void second_owner_in_another_process_is_refused_and_a_dead_one_is_not(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db"), expected[32];
    int to_child[2], to_parent[2];
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(to_parent), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sl_ownership *own = NULL;
        char byte = sl_ownership_take(path, true, &own, NULL) == SLUICE_OK ? 'y' : 'n';
        if (write(to_parent[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1) _exit(1);
        _exit(0); /* without release: as if killed */
    }
    char byte = 0;
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    sl_ownership *own = NULL;
    assert_int_equal(sl_ownership_take(path, true, &own, &cause), SLUICE_LOCKED);
    snprintf(expected, sizeof expected, "process %ld", (long)child);
    assert_non_null(strstr(cause.text, expected));
    assert_int_equal(write(to_child[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_ok(sl_ownership_take(path, true, &own, &cause), cause);
    sl_ownership_release(&own);
    for (int i = 0; i < 2; i++) close(to_child[i]), close(to_parent[i]);
    free(path);
}

static void what_cannot_be_a_database_is_refused(void **state) {
    (void)state;
    sl_ownership *own = NULL;
    char *missing = support_path(directory, "missing.db"), *deep = support_path(directory, "no/such/dir.db");
    char *read_only = support_path(directory, "ro.db"), *dangling = support_path(directory, "link.db");
    char *slash = support_path(directory, "new.db/");
    assert_int_equal(sl_ownership_take("", true, &own, &cause), SLUICE_INVALID);
    assert_int_equal(sl_ownership_take(NULL, true, &own, &cause), SLUICE_INVALID);
    assert_int_equal(sl_ownership_take(missing, false, &own, &cause), SLUICE_SYSTEM);
    assert_non_null(strstr(cause.text, "missing.db"));
    assert_int_equal(sl_ownership_take(deep, true, &own, &cause), SLUICE_SYSTEM);
    assert_int_equal(sl_ownership_take(slash, true, &own, &cause), SLUICE_SYSTEM);
    assert_int_equal(sl_ownership_take(directory, true, &own, &cause), SLUICE_SYSTEM);
    assert_non_null(strstr(cause.text, "directory"));
    assert_int_equal(sl_ownership_take("/dev/null", true, &own, &cause), SLUICE_SYSTEM);
    put(read_only, "");
    assert_int_equal(chmod(read_only, 0444), 0);
    assert_int_equal(sl_ownership_take(read_only, true, &own, &cause), SLUICE_SYSTEM);
    assert_non_null(strstr(cause.text, "read-only"));
    assert_int_equal(symlink(missing, dangling), 0);
    assert_int_equal(sl_ownership_take(dangling, true, &own, &cause), SLUICE_SYSTEM);
    assert_null(own);
    free(missing), free(deep), free(read_only), free(dangling), free(slash);
}

static void two_names_of_one_file_have_one_owner(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db"), *link = support_path(directory, "b.db");
    put(path, "");
    assert_int_equal(symlink(path, link), 0);
    sl_ownership *own = NULL, *second = NULL;
    assert_ok(sl_ownership_take(link, false, &own, &cause), cause);
    assert_string_equal(sl_ownership_path(own), path);
    assert_int_equal(sl_ownership_take(path, false, &second, &cause), SLUICE_LOCKED);
    sl_ownership_release(&own);
    free(path), free(link);
}

static void a_file_with_two_hard_links_is_refused(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db"), *other = support_path(directory, "b.db");
    put(path, "");
    assert_int_equal(link(path, other), 0);
    sl_ownership *own = NULL;
    assert_int_equal(sl_ownership_take(path, false, &own, &cause), SLUICE_SYSTEM);
    assert_non_null(strstr(cause.text, "hard links"));
    assert_int_equal(unlink(other), 0);
    assert_ok(sl_ownership_take(path, false, &own, &cause), cause);
    sl_ownership_release(&own);
    free(path), free(other);
}

static void release_ends_the_lock_also_for_a_forked_child(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db");
    sl_ownership *own = NULL;
    int stay[2];
    assert_int_equal(pipe(stay), 0);
    put(path, "");
    assert_ok(sl_ownership_take(path, false, &own, &cause), cause);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* holds a copy of every descriptor until the parent lets it go */
        char end;
        close(stay[1]);
        _exit(read(stay[0], &end, 1) == 0 ? 0 : 1);
    }
    sl_ownership_release(&own);
    assert_ok(sl_ownership_take(path, false, &own, &cause), cause);
    sl_ownership_release(&own);
    int status = -1;
    close(stay[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(stay[0]);
    free(path);
}

static void renamed_deleted_and_replaced_files_are_noticed(void **state) {
    (void)state;
    char *path = support_path(directory, "a.db"), *wal = support_path(directory, "a.db-wal");
    char *other = support_path(directory, "other");
    put(path, "x"), put(wal, "12345");
    sl_ownership *own = NULL;
    assert_ok(sl_ownership_take(path, false, &own, &cause), cause);
    assert_ok(sl_ownership_pin(own, &cause), cause);
    assert_int_equal(sl_ownership_wal_size(own), 5);
    assert_ok(sl_ownership_check(own, &cause), cause);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(sl_ownership_check(own, &cause), SLUICE_FATAL);
    assert_non_null(strstr(cause.text, "renamed"));
    put(path, "x");
    assert_int_equal(sl_ownership_check(own, &cause), SLUICE_FATAL);
    assert_non_null(strstr(cause.text, "replaced"));
    assert_int_equal(rename(other, path), 0);
    assert_ok(sl_ownership_check(own, &cause), cause);
    assert_int_equal(unlink(wal), 0);
    assert_int_equal(sl_ownership_check(own, &cause), SLUICE_FATAL);
    assert_non_null(strstr(cause.text, "-wal"));
    sl_ownership_release(&own);
    free(path), free(wal), free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(owner_makes_a_private_side_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(second_owner_in_the_process_is_refused_with_the_pid, setup, teardown),
        cmocka_unit_test_setup_teardown(second_owner_in_another_process_is_refused_and_a_dead_one_is_not, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_a_database_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(two_names_of_one_file_have_one_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_with_two_hard_links_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(release_ends_the_lock_also_for_a_forked_child, setup, teardown),
        cmocka_unit_test_setup_teardown(renamed_deleted_and_replaced_files_are_noticed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
