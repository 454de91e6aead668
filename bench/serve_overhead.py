#!/usr/bin/env python3
"""What the server adds to the engine: tokens of 16 streams, a first token, and /metrics, beside `cajal bench` of the same model.

bench/serve_overhead.py [--cajal build/release/cajal] [--shape bench/shapes/Qwen3-0.6B] [--rounds 5] [--streams 16] [--threads N]

Rounds are pairs, the engine alone and then through HTTP, so that what else the machine does falls on both; medians are
compared. For figures that mean something the machine should do nothing else. Weights are random, the tokenizer is Qwen3's.
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def engine_alone(args, model):
    """(seconds of a step of all streams, seconds of a prefill)"""
    def seconds(*case):
        ran = subprocess.run([args.cajal, "bench", model, "--load-format", "dummy", "--json", *map(str, case), *args.common],
                             stdout=subprocess.PIPE, check=True)
        return json.loads(ran.stdout)["results"][0]["seconds"]["median"]

    steps = seconds("-p", 0, "-n", args.tokens, "-b", args.streams, "-d", args.prompt, "-r", 1)
    return steps / args.tokens, seconds("-p", args.prompt, "-n", 0, "-r", 5)


def through_http(args, port, streams, count, tokens, seed):
    """(median gap between tokens, median time to the first) in seconds"""
    ran = subprocess.run([args.cajal, "bench", "serve", "--port", str(port), "--tokenizer", str(ROOT / "tests/data/qwen3-tokenizer"),
                          "--num-prompts", str(count), "--max-concurrency", str(streams), "--random-input-len", str(args.prompt),
                          "--random-output-len", str(tokens), "--temperature", "0", "--seed", str(seed), "--json"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    result = json.loads(ran.stdout)
    assert result["failed"] == 0
    return result["median_itl_ms"] / 1e3, result["median_ttft_ms"] / 1e3


def metrics_seconds(port, count=200):
    connection, times = http.client.HTTPConnection("127.0.0.1", port), []
    for _ in range(count):
        begun = time.perf_counter()
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        times.append(time.perf_counter() - begun)
        time.sleep(0.005)
    return statistics.median(times)


def start(args, model):
    server = subprocess.Popen([args.cajal, "serve", model, "--load-format", "dummy", "--port", "0", "--disable-access-log",
                               "--max-num-seqs", str(args.streams), "--max-model-len", "4096", *args.common],
                              stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        if match := re.search(r"serving on http://[^:]+:(\d+)", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, int(match[1])
    sys.exit("the server did not start")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cajal", default=str(ROOT / "build/release/cajal"))
    parser.add_argument("--shape", default=str(ROOT / "bench/shapes/Qwen3-0.6B"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64)
    args, args.common = parser.parse_known_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory() as model:
        for path in [*pathlib.Path(args.shape).glob("*.json"), *(ROOT / "tests/data/qwen3-tokenizer").glob("*")]:
            shutil.copy(path, model)
        server, port = start(args, model)
        try:
            rounds = []
            for seed in range(args.rounds):
                step, prefill = engine_alone(args, model)
                gap, _ = through_http(args, port, args.streams, args.streams, args.tokens, 2 * seed)
                _, first = through_http(args, port, 1, 8, 1, 2 * seed + 1)
                rounds.append((step, gap, prefill, first))
                print(f"round {seed + 1}: a token of {args.streams} streams {step * 1e3:.2f} ms alone, {gap * 1e3:.2f} through HTTP; "
                      f"a first token {prefill * 1e3:.2f} ms alone, {first * 1e3:.2f} through HTTP", flush=True)
            step, gap, prefill, first = (statistics.median(column) for column in zip(*rounds))
            ratio = statistics.median(g / s for s, g, _, _ in rounds)
            later = statistics.median(f - p for _, _, p, f in rounds)
            print(f"median of {args.rounds} pairs: {100 * (ratio - 1):+.1f} % a token, {later * 1e3:+.2f} ms to the first "
                  f"({step * 1e3:.2f} and {gap * 1e3:.2f} ms; {prefill * 1e3:.2f} and {first * 1e3:.2f} ms)")
            print(f"/metrics: {metrics_seconds(port) * 1e3:.2f} ms idle, ", end="", flush=True)
            busy = threading.Thread(target=through_http, args=(args, port, args.streams, args.streams, 64, 1000))
            busy.start()
            time.sleep(1)
            print(f"{metrics_seconds(port) * 1e3:.2f} beside {args.streams} streams")
            busy.join()
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
