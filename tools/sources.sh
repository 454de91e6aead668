#!/usr/bin/env bash
# Lists the C++ and CUDA sources that are ours, for clang-format.
set -euo pipefail
cd "$(dirname "$0")/.."
for folder in src include tests fuzz bench; do
  if [ -d "$folder" ]; then
    find "$folder" -path tests/data -prune -o -type f \
      \( -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' \) -print
  fi
done | sort
