#!/usr/bin/env python3
"""Runs many requests of mixed lengths at once and each alone, and says whether every token and log-probability is the same.

bench/many_at_once.py [--model MODEL] [--requests 256] [--cajal build/release/cajal] [flags of cajal generate …]

Alone means: --max-num-seqs 1, no prefix caching, no guesses. Flags that are not ours go to the run at once.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time


def requests(count, vocab_size):
    rng = random.Random(1)
    prefixes = [[rng.randrange(vocab_size) for _ in range(length)] for length in (70, 130, 200)]
    for i in range(count):
        prompt = [rng.randrange(vocab_size) for _ in range(1 + int(rng.paretovariate(1.2) * 8) % 200)]
        if i % 3 == 0:
            prompt = prefixes[i % 9 // 3] + prompt
        request = {"id": i, "token_ids": prompt, "max_new_tokens": 1 + i % 16, "logprobs": 2, "seed": i, "ignore_eos": True}
        if i % 2:
            request.update(temperature=1.0, top_k=50, top_p=0.9, repetition_penalty=1.1)
        if i % 7 == 0:
            request["n"] = 2
        yield request


def run(cajal, model, path, flags):
    start = time.monotonic()
    done = subprocess.run([cajal, "generate", *([model] if model else []), "--prompt-file", path, "--json", *flags], stdout=subprocess.PIPE)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if failed := [a for a in answers if "error" in a]:
        sys.exit(f"{len(failed)} requests failed, the first, {failed[0]['id']}, by: {failed[0]['error']}")
    done.check_returncode()
    return {a["id"]: [(c["token_ids"], c["logprobs"], c["finish_reason"]) for c in a["choices"]] for a in answers}, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--vocab-size", type=int, default=4000, help="token ids are drawn below it")
    parser.add_argument("--cajal", default="build/release/cajal")
    args, flags = parser.parse_known_args()
    always = [f for i, f in enumerate(flags) if f in ("--load-format",) or (i and flags[i - 1] == "--load-format")]
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "requests.jsonl")
        pathlib.Path(path).write_text("".join(json.dumps(r) + "\n" for r in requests(args.requests, args.vocab_size)))
        together, seconds = run(args.cajal, args.model, path, flags)
        alone, longer = run(args.cajal, args.model, path, [*always, "--max-num-seqs", "1", "--no-enable-prefix-caching"])
    wrong = [i for i in alone if alone[i] != together.get(i)]
    print(f"{len(alone)} requests at once: {seconds:.1f} s, one after another: {longer:.1f} s ({longer / seconds:.1f} times as long)")
    print(f"{len(wrong)} of them differ" + (f": {wrong[:10]}" if wrong else ": every token and log-probability is the same"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
