#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Writes by Sluice beside stock SQLite, PostgreSQL 15 and Redis 7: ratios of interleaved rounds; see write.py.
# Installs the peers from Debian if they are missing, and builds the release preset if there is no binary.
#
# Usage: tests/bench/write.sh [--rounds N] [--seconds S] [--only W1]... [--json FILE] [--directory DIR] [--no-peers]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..

case " $* " in
    *" --no-peers "* | *" --help "* | *" -h "*) ;;
    *) "$root/tools/install-packages.sh" bench || echo "write.sh: going on without what is missing" >&2 ;;
esac
if [ -z "${SLUICE_BIN:-}" ] && [ ! -x "$root/build/release/bin/sluice" ]; then
    "$root/tools/install-packages.sh" build
    (cd "$root" && cmake --preset release >&2 && cmake --build --preset release --target sluice >&2)
fi
exec "$here/write.py" "$@"
