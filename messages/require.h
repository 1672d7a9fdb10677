/* SPDX-License-Identifier: MIT */
/* SL_REQUIRE: our own broken contract ends the process, in every build. The world's failures are returned instead. */
#ifndef SL_REQUIRE_H
#define SL_REQUIRE_H

#include <stdio.h>
#include <stdlib.h>

#define SL_REQUIRE(condition)                                                                                          \
    ((condition) ? (void)0                                                                                             \
                 : (fprintf(stderr, "%s:%d: %s: broken contract: %s\n", __FILE__, __LINE__, __func__, #condition),     \
                    abort()))

#endif
