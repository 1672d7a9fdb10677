/* SPDX-License-Identifier: MIT */
/* The pre-scan's inside: sl_wire_check that also tells how much memory unpacking will take. Threads: any. */
#ifndef SL_CHECK_H
#define SL_CHECK_H

#include "codec.h"

/* As sl_wire_check; *need_out is an upper bound, tight but for roundings, of what protobuf-c will draw from an
 * arena. */
SLUICE_NODISCARD sluice_err sl_wire_measure(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size,
                                            const sl_limits *limits, size_t *need_out, sluice_cause *cause);

#endif
