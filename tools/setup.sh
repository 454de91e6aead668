#!/usr/bin/env bash
# Installs the Debian packages of tools/packages.txt that are missing, and builds what Debian does not have. Does nothing,
# without a network, when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r package command; do
  case "$package" in '' | '#'*) continue ;; esac
  if [ -n "$command" ] && command -v "$command" >/dev/null; then continue; fi
  if command -v dpkg-query >/dev/null &&
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ]; then continue; fi
  missing+=("$package")
done <tools/packages.txt

if [ ${#missing[@]} -eq 0 ]; then exec tools/setup_xgrammar.sh; fi

if ! command -v apt-get >/dev/null; then
  echo "setup: this machine has no apt-get; install what these Debian packages hold by your own means, then build" >&2
  echo "setup: with 'make' (tests: 'make test SETUP='): ${missing[*]}" >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: not root and no sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "setup: installing ${missing[*]}" >&2
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o Dpkg::Use-Pty=0)
"${apt[@]}" update </dev/null >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >&2
tools/setup_xgrammar.sh
