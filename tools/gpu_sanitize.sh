#!/usr/bin/env bash
# tools/gpu_sanitize.sh CUDA_TEST [FILTER]: the device tests on small shapes under each of compute-sanitizer's tools that
# find what tests do not: accesses outside of memory, races in shared memory, reads of what was never written.
set -uo pipefail
test=$1
small='SamplingOnDevice.Finds*:SamplingOnDevice.ARows*:Uploading.Makes*:*LinearOnDevice.Bf16*/64x48*:*LinearOnDevice.F32*/64x48*'
small+=':*AttentionOnDevice.Gives*/4_of_2_by_64*:*AttentionOnDevice.Gives*/8_of_2_by_128_window_100*:*MoeOnDevice.Gives*Bucket/256x128_2_of_8*'
small+=':*AttentionDecodeOnDevice.GivesTheSameBits*/4_of_4_by_64*:*GatesOnDevice*/64x24*:*NormOnDevice*/100'
# One launch for what many did: its warps hand slots to each other over mbarriers, which racecheck does not follow.
chains='*DecodeOnDevice.RowsThatWant*/biases:*MoeChainOnDevice.DoesOnly*/one_of_8_wide'
status=0
for tool in memcheck racecheck initcheck; do
  filter=${2:-$small}
  [[ $# -gt 1 || $tool == racecheck ]] || filter+=":$chains"
  echo "=== $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 9 "$test" --gtest_brief=1 --gtest_filter="$filter" || status=1
done
exit $status
