/* SPDX-License-Identifier: MIT */
/* Drives a fuzz target without libFuzzer: every file of the corpus folder, then each of them cut short at every length
 * and with single bytes changed by a seeded generator. The same inputs in every run, so a failure can be repeated.
 *
 * Usage: fuzz_NAME [CORPUS_FOLDER]. SLUICE_SCALE divides the number of derived inputs.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 1 << 20, DERIVED = 2000, CUTS_MAX = 512 };

static uint64_t state = 88172645463325252u;
static unsigned long n_inputs;

/* Source: Marsaglia, "Xorshift RNGs", 2003. */
static uint64_t next_random(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Runs one input in a block of exactly its size, so that a read past its end is seen by AddressSanitizer. */
static void run_one(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size != 0 ? size : 1);
    if (copy == NULL) exit(1);
    if (size != 0) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    n_inputs++;
}

static void run_derived(const uint8_t *data, size_t size, unsigned n_derived) {
    run_one(data, size);
    for (size_t cut = 0; cut < size && cut < CUTS_MAX; cut++) run_one(data, cut);
    if (size == 0) return;
    uint8_t *changed = malloc(size);
    if (changed == NULL) exit(1);
    for (unsigned i = 0; i < n_derived; i++) {
        memcpy(changed, data, size);
        for (uint64_t n = 1 + next_random() % 4; n > 0; n--) changed[next_random() % size] = (uint8_t)next_random();
        run_one(changed, size);
    }
    free(changed);
}

static void run_file(const char *folder, const char *name, unsigned n_derived) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_MAX);
    if (file == NULL || data == NULL) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    size_t size = fread(data, 1, INPUT_MAX, file);
    fclose(file);
    run_derived(data, size, n_derived);
    free(data);
}

int main(int argc, char **argv) {
    const char *scale = getenv("SLUICE_SCALE");
    unsigned divide = scale != NULL ? (unsigned)strtoul(scale, NULL, 10) : 1;
    unsigned n_derived = DERIVED / (divide != 0 ? divide : 1);
    DIR *folder = argc > 1 ? opendir(argv[1]) : NULL;
    if (folder != NULL) {
        for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
            if (entry->d_name[0] != '.') run_file(argv[1], entry->d_name, n_derived);
        closedir(folder);
    }
    uint8_t noise[256];
    for (unsigned i = 0; i < n_derived; i++) {
        size_t size = next_random() % sizeof noise;
        for (size_t j = 0; j < size; j++) noise[j] = (uint8_t)next_random();
        run_one(noise, size);
    }
    printf("%lu inputs\n", n_inputs);
    return 0;
}
