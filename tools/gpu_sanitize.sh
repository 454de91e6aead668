#!/usr/bin/env bash
# tools/gpu_sanitize.sh CUDA_TEST [FILTER]: the device tests on small shapes under each of compute-sanitizer's tools that
# find what tests do not: accesses outside of memory, races in shared memory, reads of what was never written.
set -uo pipefail
test=$1
filter=${2:-'SamplingOnDevice.TakesVoc*:SamplingOnDevice.Finds*:Uploading.Makes*:*LinearOnDevice*/0:*Attention*/0:*Moe*/0'}
status=0
for tool in memcheck racecheck initcheck; do
  echo "=== $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 9 "$test" --gtest_brief=1 --gtest_filter="$filter" || status=1
done
exit $status
