#!/usr/bin/env bash
# tools/gpu_compile.sh JOBS [PRESET]: builds the CUDA backend, for which no GPU is needed, in the build of PRESET (cuda), and
# runs the tests of that build that need none either. Says what it leaves out and why; a machine without nvcc leaves out all.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$1
preset=${2:-cuda}
build=build/$preset

if ! command -v nvcc >/dev/null && [ ! -x /usr/local/cuda/bin/nvcc ]; then
  echo "cuda: this machine has no nvcc: the CUDA backend is NOT compiled here, and none of its tests run"
  exit 0
fi

start=$SECONDS
cmake --preset "$preset" -DCAJAL_CUDA=1 --log-level=WARNING
cmake --build --preset "$preset" -j "$jobs" --target cajal cuda_test backends_test cli_test
echo "cuda: compiled in $((SECONDS - start)) s for $(sed -n 's/^CAJAL_CUDA_ARCHITECTURES:STRING=//p' "$build/CMakeCache.txt")"

# What chooses kernels and devices, and what people see of it, in the build that has both.
ctest --preset "$preset" -j "$jobs" -R '^(cli|backends)\.'
if ls /dev/nvidia[0-9]* >/dev/null 2>&1; then
  echo "cuda: tests that need a GPU are left to make gpu-test"
else
  echo "cuda: tests that need a GPU did NOT run: $($build/cajal doctor --json | sed -n 's/.*"device_reason": "\(.*\)".*/\1/p')"
fi
