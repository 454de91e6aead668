#!/usr/bin/env bash
# tools/tidy_one.sh BUILD_DIR FILE: clang-tidy on one file, silent unless it has something to say.
output=$(clang-tidy -p "$1" --quiet "$2" 2>&1) && exit 0
echo "$output" | grep -v -E '^[0-9]+ (warnings?|errors?)( and [0-9]+ errors?)? generated|^Suppressed |^Use -header-filter'
exit 1
