#!/bin/sh
# SPDX-License-Identifier: MIT
# Reads by Sluice against stock SQLite: ratios of interleaved rounds; see compare.py for the options.
exec "$(dirname "$0")/compare.py" read "$@"
