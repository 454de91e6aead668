#!/usr/bin/env bash
# Builds xgrammar, for answers that follow a grammar, from its source package into .deps/, once for every build of cajal.
# Does nothing, without a network, when it is there. Not having it is no failure: cajal builds without it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^xgrammar==\([0-9.]*\) .*/\1/p' cmake/xgrammar/requirements.txt)
folder=$PWD/.deps/xgrammar-$version
if [ -e "$folder/lib/libxgrammar.a" ]; then exit 0; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build() {
  python3 -m pip download -q --disable-pip-version-check --no-deps --no-binary xgrammar --require-hashes \
    -r cmake/xgrammar/requirements.txt -d "$work" &&
    tar -xzf "$work/xgrammar-$version.tar.gz" -C "$work" &&
    cmake -S cmake/xgrammar -B "$work/build" -G Ninja -DSOURCE="$work/xgrammar-$version" \
      -DCMAKE_INSTALL_PREFIX="$work/installed" --log-level=WARNING &&
    cmake --build "$work/build" -j "${JOBS:-$(nproc)}" &&
    cmake --install "$work/build"
}
echo "setup: building xgrammar $version, once, for structured outputs (a minute or two)" >&2
if build >"$work/log" 2>&1; then
  mkdir -p "$(dirname "$folder")"
  rm -rf "$folder"
  mv "$work/installed" "$folder"
else
  tail -n 5 "$work/log" >&2
  echo "setup: xgrammar could not be built; cajal goes on without it and refuses structured outputs by name" >&2
fi
