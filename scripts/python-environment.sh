#!/usr/bin/env bash
# Makes (once) a Python environment of a pinned requirements file and prints its interpreter.
# usage: python-environment.sh NAME REQUIREMENTS
set -euo pipefail
folder=".cache/python-$1"
stamp="$folder/.installed"
if ! cmp -s "$2" "$stamp" 2>/dev/null; then
  command -v python3 >/dev/null || { echo "python3 is missing: install Python 3.11 or newer" >&2; exit 1; }
  python3 -m venv "$folder" >&2
  "$folder/bin/pip" install --quiet --disable-pip-version-check -r "$2" >&2
  cp "$2" "$stamp"
fi
echo "$folder/bin/python"
