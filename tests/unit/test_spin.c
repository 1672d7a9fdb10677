/* SPDX-License-Identifier: MIT */
/* Spinning before blocking: it finds what comes, and stops trying where it does not pay. */
#include "support/support.h"
#include "runtime_internal.h"
#include "sluice/v1/control.pb-c.h"

#include <stdio.h>
#include <unistd.h>

typedef struct bed {
    sluice_runtime *runtime;
    sl_exchange here, there;
    sl_spin spin;
} bed;

static void open_bed(bed *self, unsigned spin_us) {
    sluice_cause cause = {0};
    sluice_runtime_options options;
    sluice_runtime_options_init(&options);
    options.spin_us = spin_us;
    *self = (bed){0};
    assert_ok(sluice_runtime_new(&options, &self->runtime, &cause), cause);
    assert_ok(sl_exchange_open(self->runtime, &self->here, &cause), cause);
    assert_ok(sl_exchange_open(self->runtime, &self->there, &cause), cause);
}

static void close_bed(bed *self) {
    sl_exchange_close(&self->here);
    sl_exchange_close(&self->there);
    sluice_runtime_destroy(&self->runtime);
}

static void undeliverable(void *context, sluice_msg *msg) {
    (void)context, (void)msg;
    fail_msg("the message could not be delivered");
}

static void send_one(bed *self) {
    sluice_msg *msg = NULL;
    assert_int_equal(sluice_msg_new(&sluice__v1__ping__descriptor, &msg), SLUICE_OK);
    assert_int_equal(sl_exchange_queue(&self->there, self->here.id, msg), SLUICE_OK);
    assert_int_equal(sl_exchange_flush(&self->there, undeliverable, NULL), 1);
}

static void a_spinner_finds_what_came_and_owes_nothing(void **state) {
    (void)state;
    bed self;
    open_bed(&self, 100000);
    self.spin.penalty = 3;
    send_one(&self);
    sluice_msg *list = sl_spin_receive(&self.spin, &self.here);
    assert_non_null(list);
    assert_int_equal(self.spin.penalty, 0);
    sluice_msg_destroy(&list);
    close_bed(&self);
}

static void a_spinner_that_finds_nothing_leaves_out_ever_more_occasions(void **state) {
    (void)state;
    bed self;
    open_bed(&self, 1);
    for (uint32_t wanted = 1; wanted <= 63; wanted = wanted * 2 + 1) {
        assert_null(sl_spin_receive(&self.spin, &self.here));
        assert_int_equal(self.spin.skip, wanted);
        send_one(&self);
        for (uint32_t i = 0; i < wanted; i++) assert_null(sl_spin_receive(&self.spin, &self.here));
        assert_int_equal(self.spin.skip, 0);
        sluice_msg *list = sl_exchange_receive(&self.here, 0);
        sluice_msg_destroy(&list);
    }
    for (int i = 0; i < 20; i++) {
        self.spin.skip = 0;
        assert_null(sl_spin_receive(&self.spin, &self.here));
    }
    assert_int_equal(self.spin.skip, 1023);
    close_bed(&self);
}

static void nobody_spins_while_several_ports_wait_or_if_it_is_off(void **state) {
    (void)state;
    for (int off = 0; off < 2; off++) {
        bed self;
        open_bed(&self, off ? 0 : 100000);
        send_one(&self);
        if (!off) atomic_store(&self.runtime->n_waiting, 2);
        assert_null(sl_spin_receive(&self.spin, &self.here));
        assert_int_equal(self.spin.penalty, 0);
        atomic_store(&self.runtime->n_waiting, 0);
        sluice_msg *list = sl_exchange_receive(&self.here, 0);
        assert_non_null(list);
        sluice_msg_destroy(&list);
        close_bed(&self);
    }
}

int main(void) {
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        puts("SKIPPED: with one CPU nobody spins");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spinner_finds_what_came_and_owes_nothing),
        cmocka_unit_test(a_spinner_that_finds_nothing_leaves_out_ever_more_occasions),
        cmocka_unit_test(nobody_spins_while_several_ports_wait_or_if_it_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
