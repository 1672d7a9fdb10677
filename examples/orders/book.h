/* SPDX-License-Identifier: MIT */
/* The order book: placing an order, finding it again, the stock. All SQL of the service is in book.c.
 *
 * Threads: none of this is shared; each call uses the caller's client.
 */
#ifndef ORDERS_BOOK_H
#define ORDERS_BOOK_H

#include <sluice/client.h>

#define BOOK_KEY_SIZE 129 /* with its zero byte */
#define BOOK_SKU_SIZE 65
#define BOOK_MAX_QUANTITY 1000000

typedef struct book_order {
    int64_t id, quantity, created; /* created: seconds since 1970 */
    char sku[BOOK_SKU_SIZE];
} book_order;

typedef enum book_outcome {
    BOOK_PLACED,     /* a new order, on disk */
    BOOK_REPLAYED,   /* the key was used before for the same order: here it is */
    BOOK_KEY_REUSED, /* the key was used before for another order */
    BOOK_SOLD_OUT,   /* not enough in stock; nothing happened */
    BOOK_FOUND,
    BOOK_NOT_FOUND,  /* no such order, or no such sku */
    BOOK_LATER,      /* refused, nothing happened: the same request may pass later (cause says why and when) */
    BOOK_UNKNOWN,    /* the answer was lost: asking with the same key finds out */
    BOOK_BROKEN,     /* anything else (cause says what) */
} book_outcome;

/* Makes the tables if they are missing. */
SLUICE_NODISCARD sluice_err book_create(sluice_client *client, sluice_cause *cause);
/* Puts a sku in stock unless it is known already. */
SLUICE_NODISCARD sluice_err book_stock_add(sluice_client *client, const char *sku, int64_t quantity,
                                           sluice_cause *cause);
/* Places an order: PLACED, REPLAYED, KEY_REUSED, SOLD_OUT, NOT_FOUND (sku), LATER, UNKNOWN, BROKEN. */
book_outcome book_place(sluice_client *client, const char *key, const char *sku, int64_t quantity, book_order *out,
                        sluice_cause *cause);
/* FOUND, NOT_FOUND, LATER, BROKEN. */
book_outcome book_find(sluice_client *client, int64_t id, book_order *out, sluice_cause *cause);
book_outcome book_remaining(sluice_client *client, const char *sku, int64_t *out, sluice_cause *cause);

#endif
