#!/bin/bash
# prepare.sh FOLDER: words.json beside this file, and the tokenizer into FOLDER. Needs apt-get and dpkg, no root; a minute.
set -eu
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../../../.." && pwd); python=${PYTHON:-$root/.venv/bin/python}
folder=$(mkdir -p "$1" && cd "$1" && pwd); debian=$(mktemp -d); trap 'rm -rf "$debian"' EXIT
cd "$debian"
apt-get download -q wordnet-base scowl
for package in *.deb; do dpkg -x "$package" unpacked; done
cd "$root"
"$python" -m serve_app.demo.training.text.wordnet "$debian/unpacked"
"$python" -m serve_app.demo.training.text.tokenizer "$folder" 150000
