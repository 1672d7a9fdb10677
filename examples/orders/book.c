/* SPDX-License-Identifier: MIT */
/* An order is one atomic write of three statements:
 *
 *  0. insert the order; its key is unique: a repeated request fails here (CONSTRAINT), the first answer is looked up;
 *  1. take the quantity from the stock where there is enough; the guard "exactly 1 row" fails the whole write if not;
 *  2. note the movement. The table has no unique key on purpose: an order applied twice would show in it.
 *
 * The stock cannot become negative for two reasons: the WHERE of statement 1, and the CHECK of the table.
 */
#include "book.h"
#include <stdio.h>
#include <string.h>

static const char *const schema[] = {
    "CREATE TABLE IF NOT EXISTS stock("
    " sku TEXT PRIMARY KEY, at_first INTEGER NOT NULL,"
    " remaining INTEGER NOT NULL CHECK (remaining >= 0)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS orders("
    " id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, sku TEXT NOT NULL,"
    " quantity INTEGER NOT NULL CHECK (quantity > 0), created INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS movement(order_key TEXT NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS movement_order ON movement(order_key)"};

sluice_err book_create(sluice_client *client, sluice_cause *cause)
{
    sluice_err err = SLUICE_OK;
    for (size_t i = 0; i < sizeof schema / sizeof *schema && err == SLUICE_OK; i++)
        err = sluice_exec(client, schema[i], NULL, 0, NULL, cause);
    return err;
}

sluice_err book_stock_add(sluice_client *client, const char *sku, int64_t quantity, sluice_cause *cause)
{
    sluice_value values[] = {sluice_text(sku), sluice_integer(quantity)};
    return sluice_exec(client, "INSERT INTO stock VALUES(?1, ?2, ?2) ON CONFLICT DO NOTHING", values, 2, NULL, cause);
}

/* What an error means to the caller. */
static book_outcome outcome_of(sluice_err err)
{
    if (sluice_err_applied(err) == SLUICE_APPLIED_UNKNOWN) return BOOK_UNKNOWN;
    return sluice_err_retryable(err) ? BOOK_LATER : BOOK_BROKEN;
}

/* A read changes nothing, so an answer that was lost only means: ask again. */
static book_outcome outcome_of_read(sluice_err err)
{
    return sluice_err_retryable(err) ? BOOK_LATER : BOOK_BROKEN;
}

static book_outcome query_order(sluice_client *client, const char *sql, sluice_value value, book_order *out,
                                sluice_cause *cause)
{
    sluice_result *result = NULL;
    sluice_err err = sluice_query(client, sql, &value, 1, &result, cause);
    if (err != SLUICE_OK) return outcome_of_read(err);
    bool found = sluice_result_next(result);
    if (found) {
        out->id = sluice_result_int64(result, 0);
        out->quantity = sluice_result_int64(result, 2);
        out->created = sluice_result_int64(result, 3);
        snprintf(out->sku, sizeof out->sku, "%s", sluice_result_text(result, 1, NULL));
    }
    sluice_result_destroy(&result);
    return found ? BOOK_FOUND : BOOK_NOT_FOUND;
}

book_outcome book_find(sluice_client *client, int64_t id, book_order *out, sluice_cause *cause)
{
    return query_order(client, "SELECT id, sku, quantity, created FROM orders WHERE id = ?1", sluice_integer(id), out,
                       cause);
}

book_outcome book_remaining(sluice_client *client, const char *sku, int64_t *out, sluice_cause *cause)
{
    sluice_result *result = NULL;
    sluice_value value = sluice_text(sku);
    sluice_err err = sluice_query(client, "SELECT remaining FROM stock WHERE sku = ?1", &value, 1, &result, cause);
    if (err != SLUICE_OK) return outcome_of_read(err);
    bool found = sluice_result_next(result);
    if (found) *out = sluice_result_int64(result, 0);
    sluice_result_destroy(&result);
    return found ? BOOK_FOUND : BOOK_NOT_FOUND;
}

static sluice_err build_order(sluice_client *client, const char *key, const char *sku, int64_t quantity,
                              sluice_request **out)
{
    sluice_value values[] = {sluice_text(key), sluice_text(sku), sluice_integer(quantity)};
    sluice_err err = sluice_request_new(client, SLUICE_WRITE, out);
    if (err == SLUICE_OK)
        err = sluice_request_add(*out,
                                 "INSERT INTO orders(key, sku, quantity, created) VALUES(?1, ?2, ?3, unixepoch()) "
                                 "RETURNING id, created",
                                 values, 3);
    if (err == SLUICE_OK)
        err = sluice_request_add(
            *out, "UPDATE stock SET remaining = remaining - ?2 WHERE sku = ?1 AND remaining >= ?2", values + 1, 2);
    if (err == SLUICE_OK) err = sluice_request_expect(*out, 1);
    if (err == SLUICE_OK) err = sluice_request_add(*out, "INSERT INTO movement VALUES(?1, ?2, ?3)", values, 3);
    return err;
}

/* The key is taken: the same order again, or another one? */
static book_outcome replay(sluice_client *client, const char *key, const char *sku, int64_t quantity, book_order *out,
                           sluice_cause *cause)
{
    book_outcome outcome = query_order(client, "SELECT id, sku, quantity, created FROM orders WHERE key = ?1",
                                       sluice_text(key), out, cause);
    if (outcome == BOOK_FOUND)
        return strcmp(out->sku, sku) == 0 && out->quantity == quantity ? BOOK_REPLAYED : BOOK_KEY_REUSED;
    return outcome == BOOK_NOT_FOUND ? BOOK_LATER : outcome; /* gone between the two: nobody deletes orders here */
}

book_outcome book_place(sluice_client *client, const char *key, const char *sku, int64_t quantity, book_order *out,
                        sluice_cause *cause)
{
    sluice_request *request = NULL;
    sluice_result *result = NULL;
    sluice_err err = build_order(client, key, sku, quantity, &request);
    if (err != SLUICE_OK)
        sluice_cause_set(cause, err, "%s", sluice_err_text(err));
    else
        err = sluice_call(client, request, &result, cause);
    sluice_request_destroy(&request);
    if (err == SLUICE_OK) {
        *out = (book_order){.quantity = quantity};
        snprintf(out->sku, sizeof out->sku, "%s", sku);
        if (sluice_result_next(result)) {
            out->id = sluice_result_int64(result, 0);
            out->created = sluice_result_int64(result, 1);
        }
        sluice_result_destroy(&result);
        return BOOK_PLACED;
    }
    if (err == SLUICE_CONSTRAINT && cause->statement == 0) return replay(client, key, sku, quantity, out, cause);
    if (err == SLUICE_GUARD_FAILED) {
        int64_t remaining;
        book_outcome stock = book_remaining(client, sku, &remaining, cause);
        return stock == BOOK_FOUND ? BOOK_SOLD_OUT : stock;
    }
    return outcome_of(err);
}
