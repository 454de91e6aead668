#!/usr/bin/env bash
# tools/fuzz.sh BUILD_DIR SECONDS [JOBS]: runs every fuzz program of a build for SECONDS each, JOBS (1) at a time, starting
# from fuzz/corpus/.
# What it finds on the way stays in BUILD_DIR/corpus/; an input that fails is kept in BUILD_DIR/crashes/. FUZZ_SEED fixes the
# order of what is tried; without it every run looks elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
seconds=$2
jobs=${3:-1}

# AddressSanitizer of older compilers cannot place its shadow when the kernel randomises more bits than it expects.
fixed_addresses=()
if setarch "$(uname -m)" -R true 2>/dev/null; then fixed_addresses=(setarch "$(uname -m)" -R); fi

mkdir -p "$build/crashes" "$build/logs"

fuzz_one() {
  local program=$1 name log
  name=$(basename "$program")
  log=$build/logs/$name.log
  mkdir -p "$build/corpus/$name"
  local folders=("$build/corpus/$name")
  if [ -d "fuzz/corpus/$name" ]; then folders+=("fuzz/corpus/$name"); fi
  local options=(-seed="${FUZZ_SEED:-0}" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3072 -artifact_prefix="$build/crashes/$name-")
  if [ -f "fuzz/$name.dict" ]; then options+=(-dict="fuzz/$name.dict"); fi
  if "${fixed_addresses[@]}" "$program" "${options[@]}" "${folders[@]}" </dev/null >"$log" 2>&1; then
    echo "$name: no failure in $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log") runs"
  else
    tail -n 60 "$log"
    echo "$name: FAILED; the whole log is $log, to see it again: $program $build/crashes/$name-…"
    touch "$build/logs/$name.failed"
  fi
}

rm -f "$build"/logs/*.failed
count=0
for program in "$build"/fuzz/fuzz_*; do
  if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
  count=$((count + 1))
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
  fuzz_one "$program" &
done
wait
failed=()
for mark in "$build"/logs/*.failed; do
  if [ -e "$mark" ]; then failed+=("$(basename "$mark" .failed)"); fi
done

if [ "$count" -eq 0 ]; then
  echo "no fuzz program found under $build/fuzz" >&2
  exit 1
fi
if [ ${#failed[@]} -ne 0 ]; then
  echo "fuzz: ${#failed[@]} of $count failed: ${failed[*]}" >&2
  exit 1
fi
