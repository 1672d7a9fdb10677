/* SPDX-License-Identifier: MIT */
/* Key files: what is read, what is refused and why, who may see them; and the ring they make. */
#include "support/keys_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "keyring.h"
#include "sha256.h"
#include "zpl.h"

/* The pair of rfc.zeromq.org/spec/32's neighbour, zmq_curve_keypair(3). */
#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

static sluice_err parse(const char *text, sl_cert *out, sluice_cause *cause) {
    return sl_cert_parse(text, strlen(text), out, cause);
}

static void files_of_czmq_pyzmq_and_ours_are_read(void **state) {
    (void)state;
    static const char *const texts[] = {
        /* czmq zcert_save */
        "#   ****  Generated on 2026-01-02 03:04:05 by CZMQ  ****\n"
        "#   ZeroMQ CURVE **Secret** Certificate\n"
        "#   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.\n"
        "\n"
        "metadata\n"
        "    name = \"Ada\"\n"
        "    rights = \"read\"\n"
        "curve\n"
        "    public-key = \"" PUBLIC "\"\n"
        "    secret-key = \"" SECRET "\"\n",
        /* pyzmq create_certificates with metadata */
        "#   ****  Generated on 2026-01-02 by pyzmq  ****\n\nmetadata\n    rights = read\n    age = 7\ncurve\n"
        "    public-key = \"" PUBLIC "\"\n    secret-key = \"" SECRET "\"\n",
        /* blanks, comments, line ends of Windows, single quotes, deeper lines, other order, no end of line */
        "curve   # keys\r\n    secret-key='" SECRET "'   # keep\r\n    public-key =\t\"x\"",
        "curve   # keys\r\n    secret-key='" SECRET "'   # keep\r\n    public-key='" PUBLIC
        "'\r\n        note = \"x y\"\r\n"
        "  # aside\r\nmetadata\r\n    rights = 'read' # only\r\nother = 5\r\n    rights = admin\r\n    public-key = no",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        sl_cert cert;
        sluice_cause cause;
        if (i == 2) { /* a tab is no blank */
            assert_int_equal(parse(texts[i], &cert, &cause), SLUICE_INVALID);
            continue;
        }
        assert_ok(parse(texts[i], &cert, &cause), cause);
        assert_string_equal(cert.public_key, PUBLIC);
        assert_string_equal(cert.secret_key, SECRET);
        assert_string_equal(cert.rights, "read");
    }
}

static void what_is_not_zpl_to_its_last_byte_is_refused_with_its_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "public-key"},
        {"metadata\n", "public-key"},
        {"    curve\n", "line 1"},
        {"curve\n  public-key = \"" PUBLIC "\"\n", "line 2"},
        {"curve\n        public-key = \"" PUBLIC "\"\n", "line 2"},
        {"curve\n    public-key = Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaL#{hID\n",
         "line 2: a key"}, /* # begins a comment */
        {"curve\n    public-key = \"" PUBLIC "\n", "line 2: the quote"},
        {"curve\n    public-key = \"" PUBLIC "\" x\n", "line 2: something"},
        {"curve\n    public-key = \"" PUBLIC "\"\n    public-key = \"" PUBLIC "\"\n", "line 3: this was said"},
        {"curve\n    public-key = \"" PUBLIC "x\"\n", "line 2: a key"},
        {"curve\n    public-key = \"short\"\n", "line 2: a key"},
        {"curve\n    public-key = \"Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{h~D\"\n", "line 2: a key"},
        {"curve\n    public-key = \"########################################\"\n", "line 2: a key"}, /* over 2^32 */
        {"curve\n    public-key = \"\"\n", "line 2: a key"},
        {"curve\n    public-key =\n", "line 2: a value"},
        {"curve\n    public-key \"x\"\n", "line 2: a name"},
        {"curve = x y\n!\n", "line 2: a name"},
        {"metadata\n    rights = \"as long as no right of ours ever is\"\n", "line 2"},
        {"curve\n    public-key = \"" PUBLIC "\"\nx\x01\n", "line 3: a control"},
        {"a\n    b\n        c\n                d\n", "line 4"},
        {"a\n    b\n        c\n            d\n                e\n                    f\n                        g\n"
         "                            h\n                                i\n                                    j\n",
         "line 10"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sl_cert cert;
        sluice_cause cause = {.code = SLUICE_OK};
        if (parse(cases[i].text, &cert, &cause) != SLUICE_INVALID) fail_msg("case %zu was not refused", i);
        if (strstr(cause.text, cases[i].says) == NULL) fail_msg("case %zu: %s", i, cause.text);
        assert_string_equal(cert.public_key, "");
    }
    sl_cert cert;
    sluice_cause cause;
    static const char nul[] = "curve\n    public-key = \"" PUBLIC "\"\nx\0y\n";
    assert_int_equal(sl_cert_parse(nul, sizeof nul - 1, &cert, &cause), SLUICE_INVALID);
    char *big = malloc(SL_ZPL_MAX + 1);
    memset(big, '\n', SL_ZPL_MAX + 1);
    assert_int_equal(sl_cert_parse(big, SL_ZPL_MAX + 1, &cert, &cause), SLUICE_TOO_BIG);
    assert_int_equal(sl_cert_parse(big, SL_ZPL_MAX, &cert, &cause), SLUICE_INVALID);
    free(big);
}

/* ---- files ---- */

typedef struct place {
    char *directory;
    char path[KEYS_PATH_MAX];
} place;

static int set_up(void **state) {
    place *self = calloc(1, sizeof *self);
    self->directory = support_directory_new();
    *state = self;
    return 0;
}

static int tear_down(void **state) {
    place *self = *state;
    support_directory_remove(&self->directory);
    free(self);
    return 0;
}

static const char *in(place *self, const char *name) {
    snprintf(self->path, sizeof self->path, "%s/%s", self->directory, name);
    return self->path;
}

#define SECRET_FILE "curve\n    public-key = \"" PUBLIC "\"\n    secret-key = \"" SECRET "\"\n"
#define PUBLIC_FILE "curve\n    public-key = \"" PUBLIC "\"\n"

static void a_secret_that_others_can_read_is_refused(void **state) {
    place *self = *state;
    sl_cert cert;
    sluice_cause cause;
    const mode_t open_to_others[] = {0640, 0604, 0620, 0602, 0610, 0601, 0644, 0666};
    for (size_t i = 0; i < sizeof open_to_others / sizeof open_to_others[0]; i++) {
        keys_write(in(self, "a.key_secret"), open_to_others[i], SECRET_FILE);
        assert_int_equal(sl_cert_load(self->path, &cert, &cause), SLUICE_FORBIDDEN);
        assert_non_null(strstr(cause.text, "chmod 600"));
        assert_string_equal(cert.secret_key, "");
        assert_int_equal(sl_cert_load_secret(self->path, &cert, &cause), SLUICE_FORBIDDEN);
    }
    keys_write(in(self, "a.key_secret"), 0600, SECRET_FILE);
    assert_ok(sl_cert_load_secret(self->path, &cert, &cause), cause);
    assert_string_equal(cert.secret_key, SECRET);
    keys_write(in(self, "a.key"), 0664, PUBLIC_FILE);
    assert_int_equal(sl_cert_load(self->path, &cert, &cause), SLUICE_FORBIDDEN);
    keys_write(in(self, "a.key"), 0644, PUBLIC_FILE);
    assert_ok(sl_cert_load(self->path, &cert, &cause), cause);
}

static void the_public_file_stands_for_the_pair_beside_it(void **state) {
    place *self = *state;
    sl_cert cert;
    sluice_cause cause;
    keys_write(in(self, "a.key"), 0644, PUBLIC_FILE);
    assert_int_equal(sl_cert_load_secret(self->path, &cert, &cause), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, "no secret key"));
    keys_write(in(self, "a.key_secret"), 0640, SECRET_FILE);
    assert_int_equal(sl_cert_load_secret(in(self, "a.key"), &cert, &cause), SLUICE_FORBIDDEN);
    keys_write(in(self, "a.key_secret"), 0600, SECRET_FILE);
    assert_ok(sl_cert_load_secret(in(self, "a.key"), &cert, &cause), cause);
    assert_string_equal(cert.secret_key, SECRET);
}

static void files_that_are_no_key_files_are_refused(void **state) {
    place *self = *state;
    sl_cert cert;
    sluice_cause cause;
    char key[SL_KEY_TEXT_SIZE];
    assert_int_equal(sl_cert_load(in(self, "missing"), &cert, &cause), SLUICE_SYSTEM);
    assert_int_equal(sl_cert_load(self->directory, &cert, &cause), SLUICE_INVALID);
    assert_int_equal(mkfifo(in(self, "fifo"), 0600), 0);
    assert_int_equal(sl_cert_load(self->path, &cert, &cause), SLUICE_INVALID);
    assert_int_equal(sl_cert_load("/dev/zero", &cert, &cause), SLUICE_INVALID);
    keys_pair other = keys_pair_new();
    memcpy(other.public_key, PUBLIC, sizeof other.public_key);
    keys_write_secret(in(self, "mixed"), &other);
    assert_int_equal(sl_cert_load(self->path, &cert, &cause), SLUICE_INVALID);
    assert_non_null(strstr(cause.text, "no pair"));
    /* A key by its letters or by its file. */
    keys_write(in(self, "a.key"), 0644, PUBLIC_FILE);
    assert_ok(sl_public_key_read(self->path, key, &cause), cause);
    assert_string_equal(key, PUBLIC);
    assert_ok(sl_public_key_read(SECRET, key, &cause), cause);
    assert_string_equal(key, SECRET);
    assert_int_equal(sl_public_key_read("hello", key, &cause), SLUICE_SYSTEM);
    assert_non_null(strstr(cause.text, "neither"));
}

/* ---- the ring ---- */

static void the_ring_knows_each_key_and_its_rights(void **state) {
    place *self = *state;
    sl_keyring *ring = NULL;
    unsigned n_refused = 99;
    sluice_cause cause;
    keys_directory_make(self->directory);
    keys_pair pairs[5];
    const char *const levels[] = {"read", "write", "admin", NULL, "write"};
    const unsigned rights[] = {SLUICE_RIGHT_READ, SLUICE_RIGHT_READ | SLUICE_RIGHT_WRITE, SLUICE_RIGHT_ALL,
                               SLUICE_RIGHT_ALL, SLUICE_RIGHT_READ};
    for (unsigned i = 0; i < 5; i++) {
        char name[16];
        pairs[i] = keys_pair_new();
        snprintf(name, sizeof name, "n%u", i);
        keys_list(self->directory, name, pairs[i].public_key, levels[i]);
    }
    keys_list(self->directory, "again", pairs[4].public_key, "read"); /* the lesser of both counts */
    keys_write(in(self, "clients/notes.txt"), 0666, "not looked at");
    assert_ok(sl_keyring_load(self->directory, &ring, &n_refused, &cause), cause);
    assert_int_equal(n_refused, 0);
    assert_int_equal(sl_keyring_size(ring), 5);
    for (unsigned i = 0; i < 5; i++) {
        const sl_key *key = sl_keyring_find(ring, pairs[i].public_key);
        assert_non_null(key);
        assert_int_equal(key->rights, rights[i]);
        uint8_t fingerprint[SL_USER_SIZE];
        sl_key_fingerprint(pairs[i].public_key, fingerprint);
        assert_memory_equal(key->user, fingerprint, sizeof fingerprint);
    }
    assert_null(sl_keyring_find(ring, PUBLIC));
    assert_null(sl_keyring_find(ring, ""));
    assert_null(sl_keyring_find(ring, PUBLIC "and more"));
    sl_keyring_destroy(&ring);
    sl_keyring_destroy(&ring);
}

static void a_wrong_file_is_left_out_and_told(void **state) {
    place *self = *state;
    sl_keyring *ring = NULL;
    unsigned n_refused = 0;
    sluice_cause cause;
    keys_directory_make(self->directory);
    keys_pair good = keys_pair_new(), bad = keys_pair_new();
    keys_list(self->directory, "good", good.public_key, "read");
    keys_list(self->directory, "bad", bad.public_key, "everything");
    assert_ok(sl_keyring_load(self->directory, &ring, &n_refused, &cause), cause);
    assert_int_equal(n_refused, 1);
    assert_non_null(strstr(cause.text, "everything"));
    assert_non_null(sl_keyring_find(ring, good.public_key));
    assert_null(sl_keyring_find(ring, bad.public_key));
    sl_keyring_destroy(&ring);
    /* A client's secret has no business there; nor has a file that others may write, or no file at all. */
    keys_write_secret(in(self, "clients/bad.key"), &bad);
    keys_write(in(self, "clients/open.key"), 0666, PUBLIC_FILE);
    assert_int_equal(mkdir(in(self, "clients/folder.key"), 0700), 0);
    assert_int_equal(symlink("nowhere", in(self, "clients/dangling.key")), 0);
    assert_ok(sl_keyring_load(self->directory, &ring, &n_refused, &cause), cause);
    assert_int_equal(n_refused, 4);
    assert_int_equal(sl_keyring_size(ring), 1);
    sl_keyring_destroy(&ring);
}

static void a_directory_that_others_can_write_is_refused(void **state) {
    place *self = *state;
    sl_keyring *ring = NULL;
    unsigned n_refused = 0;
    sluice_cause cause;
    keys_directory_make(self->directory);
    assert_int_equal(chmod(in(self, "clients"), 0770), 0);
    assert_int_equal(sl_keyring_load(self->directory, &ring, &n_refused, &cause), SLUICE_FORBIDDEN);
    assert_null(ring);
    assert_int_equal(chmod(in(self, "clients"), 0700), 0);
    assert_int_equal(chmod(self->directory, 0707), 0);
    assert_int_equal(sl_keyring_load(self->directory, &ring, &n_refused, &cause), SLUICE_FORBIDDEN);
    assert_int_equal(chmod(self->directory, 0700), 0);
    assert_int_equal(rmdir(in(self, "clients")), 0);
    assert_int_equal(sl_keyring_load(self->directory, &ring, &n_refused, &cause), SLUICE_SYSTEM);
    assert_null(ring);
}

/* ---- fingerprints ---- */

static void sha256_gives_the_digests_of_the_standard(void **state) {
    (void)state;
    /* Source: FIPS 180-4 examples (NIST, "SHA256.pdf"), and its empty message. */
    char letters[1000];
    memset(letters, 'a', sizeof letters);
    static const struct {
        const char *text, *digest;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t digest[SL_SHA256_SIZE];
        char text[2 * SL_SHA256_SIZE + 1];
        sl_sha256(cases[i].text, strlen(cases[i].text), digest);
        for (size_t k = 0; k < sizeof digest; k++) snprintf(text + 2 * k, 3, "%02x", digest[k]);
        assert_string_equal(text, cases[i].digest);
    }
    /* Every length around a block's end is hashed from its own bytes alone: ASan looks on. */
    for (size_t size = 0; size <= 130; size++) {
        uint8_t one[SL_SHA256_SIZE], other[SL_SHA256_SIZE], *copy = malloc(size + 1);
        memcpy(copy, letters, size);
        sl_sha256(copy, size, one);
        sl_sha256(letters, size, other);
        assert_memory_equal(one, other, sizeof one);
        free(copy);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_czmq_pyzmq_and_ours_are_read),
        cmocka_unit_test(what_is_not_zpl_to_its_last_byte_is_refused_with_its_line),
        cmocka_unit_test_setup_teardown(a_secret_that_others_can_read_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_public_file_stands_for_the_pair_beside_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_are_no_key_files_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_ring_knows_each_key_and_its_rights, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_file_is_left_out_and_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_that_others_can_write_is_refused, set_up, tear_down),
        cmocka_unit_test(sha256_gives_the_digests_of_the_standard),
    };
    return cmocka_run_group_tests_name("zpl", tests, NULL, NULL);
}
