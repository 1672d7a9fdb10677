/* SPDX-License-Identifier: MIT */
#include "catalog/store_package.h"
#include "catalog/schema.h"
#include "common/utf8.h"
#include <string.h>

static sluice_err add_dependencies(sluice_request *request, const catalog_package *package)
{
    sluice_err err = SLUICE_OK;
    if (package->n_dependencies == 0) return err;
    err = sluice_request_add(request, CATALOG_SQL_DEPENDENCY, NULL, 0);
    for (size_t i = 0; i < package->n_dependencies && err == SLUICE_OK; i++) {
        const catalog_dependency *dependency = &package->dependencies[i];
        sluice_value row[] = {
            sluice_text(package->name),         sluice_text(dependency->kind),
            sluice_integer(dependency->position), sluice_integer(dependency->alternative),
            sluice_text(dependency->target),    sluice_text(dependency->architecture),
            sluice_text(dependency->relation),  sluice_text(dependency->version)};
        err = sluice_request_row(request, row, sizeof row / sizeof *row);
    }
    return err;
}

static sluice_err add_files(sluice_request *request, const catalog_package *package)
{
    sluice_err err = SLUICE_OK;
    if (package->n_files == 0) return err;
    /* One statement, as many rows as there are files: they travel as columns. */
    err = sluice_request_add(request, CATALOG_SQL_FILE, NULL, 0);
    for (size_t i = 0; i < package->n_files && err == SLUICE_OK; i++) {
        const char *path = package->files[i];
        sluice_value row[] = {utf8_valid(path) ? sluice_text(path) : sluice_blob(path, strlen(path)),
                              sluice_text(package->name)};
        err = sluice_request_row(request, row, 2);
    }
    return err;
}

sluice_err catalog_store_package(sluice_client *client, const catalog_turn *turn, int64_t sequence,
                                 const catalog_package *package, sluice_request **out)
{
    sluice_value fence[] = {sluice_text(turn->worker), sluice_integer(turn->lease_seconds),
                            sluice_integer(turn->slice), sluice_integer(turn->round)};
    sluice_value name = sluice_text(package->name);
    sluice_value row[] = {name,
                          sluice_text(package->version),
                          sluice_text(package->architecture),
                          sluice_text(package->status),
                          sluice_text(package->section),
                          sluice_text(package->summary),
                          sluice_integer(turn->slice),
                          sluice_integer(turn->round),
                          sluice_integer((int64_t)package->n_dependencies),
                          sluice_integer((int64_t)package->n_files)};
    sluice_value note[] = {sluice_text(turn->worker), sluice_integer(sequence), name, sluice_integer(turn->round)};

    sluice_request *request;
    sluice_err err = sluice_request_new(client, SLUICE_WRITE, &request);
    if (err != SLUICE_OK) return err;
    err = sluice_request_add(request, CATALOG_SQL_FENCE, fence, 4);
    if (err == SLUICE_OK) err = sluice_request_expect(request, 1);
    if (err == SLUICE_OK) err = sluice_request_add(request, CATALOG_SQL_FORGET, &name, 1);
    if (err == SLUICE_OK) err = sluice_request_add(request, CATALOG_SQL_PACKAGE, row, sizeof row / sizeof *row);
    if (err == SLUICE_OK) err = add_dependencies(request, package);
    if (err == SLUICE_OK) err = add_files(request, package);
    if (err == SLUICE_OK) err = sluice_request_add(request, CATALOG_SQL_LEDGER, note, 4);
    if (err != SLUICE_OK) {
        sluice_request_destroy(&request);
        return err;
    }
    *out = request;
    return SLUICE_OK;
}
