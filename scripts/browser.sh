#!/usr/bin/env bash
# What the test of the playground in a real browser needs, from Debian and the Python package index; then runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v chromium > /dev/null; then
  apt-get update
  apt-get install -y --no-install-recommends chromium fonts-dejavu-core
fi
pip install -e '.[test,demo]' playwright
pytest -n0 -m slow tests/demo/test_browser.py "$@"
