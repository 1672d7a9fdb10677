/* SPDX-License-Identifier: MIT */
/* Everything Sluice installs. Reading order: base, value, message, runtime, actor, supervisor,
 * procedure, store, gateway, client, transaction. */
#ifndef SLUICE_SLUICE_H
#define SLUICE_SLUICE_H

#include <sluice/base.h>
#include <sluice/value.h>
#include <sluice/message.h>
#include <sluice/runtime.h>
#include <sluice/actor.h>
#include <sluice/supervisor.h>
#include <sluice/procedure.h>
#include <sluice/store.h>
#include <sluice/gateway.h>
#include <sluice/client.h>
#include <sluice/transaction.h>

#endif
