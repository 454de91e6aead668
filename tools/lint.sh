#!/usr/bin/env bash
# tools/lint.sh BUILD_DIR: format, structure, scripts, clang-tidy over what BUILD_DIR/compile_commands.json compiles.
# Runs every check, then fails if one of them did.
set -uo pipefail
cd "$(dirname "$0")/.."
build=$1
jobs=${JOBS:-$(nproc)}
status=0

stage() {
  local start=$SECONDS name=$1
  shift
  if "$@"; then
    echo "lint: $name ok ($((SECONDS - start)) s)"
  else
    echo "lint: $name FAILED ($((SECONDS - start)) s)"
    status=1
  fi
}

check_format() {
  # Versions of clang-format disagree about details, and ours is Debian 12's.
  local tool
  tool=$(command -v clang-format-14 || command -v clang-format) || {
    echo "clang-format is missing: make setup"
    return 1
  }
  if ! "$tool" --version | grep -q 'version 14\.'; then
    echo "formatting is NOT checked: it needs clang-format 14, this is $("$tool" --version)"
    return 0
  fi
  tools/sources.sh | xargs -r "$tool" --dry-run -Werror
}

check_shell() {
  local file result=0
  for file in .ci/run tools/*.sh; do bash -n "$file" || result=1; done
  return $result
}

# A recipe that the shell cannot parse would show only when somebody runs that target.
check_recipes() {
  local target result=0
  for target in $(sed -n 's/^\.PHONY: //p' Makefile); do
    "${MAKE:-make}" -n SETUP= "$target" | sh -n || {
      echo "Makefile: the shell cannot parse the recipe of '$target'"
      result=1
    }
  done
  return $result
}

# Compiled sources of ours: not kernels of CUDA, whose flags clang does not know; not the tests, which are many, cannot
# ship, and are read by the compilers' own warnings.
check_tidy() {
  python3 - "$build" <<'PYTHON' | xargs -r -P "$jobs" -n 1 tools/tidy_one.sh "$build"
import json, pathlib, sys
root = pathlib.Path.cwd()
commands = json.loads((pathlib.Path(sys.argv[1]) / "compile_commands.json").read_text())
files = {pathlib.Path(c["file"]).relative_to(root) for c in commands if pathlib.Path(c["file"]).is_relative_to(root)}
# The largest first, so that no long file is left alone at the end.
ours = [f for f in files if f.parts[0] in ("src", "fuzz", "bench") and f.suffix == ".cpp" and f.exists()]
print(*sorted(ours, key=lambda f: (-f.stat().st_size, f)), sep="\n")
PYTHON
}

stage format check_format
stage structure python3 tools/check_structure.py .
stage scripts check_shell
stage recipes check_recipes
if [ ! -f "$build/compile_commands.json" ]; then
  echo "lint: clang-tidy FAILED: $build/compile_commands.json is missing; configure first"
  exit 1
fi
stage clang-tidy check_tidy
exit $status
