#!/usr/bin/env python3
"""The gate: asks a demo model the held-out prompts through cajal and counts what is right.

evaluate.py MODEL [--cajal build/release/cajal] [--jobs 2]

Passes (exit status 0) when at least 95 % of sums and capitals are right and 95 % of tool calls valid, with thinking on and off.
"""
import argparse
import concurrent.futures
import json
import pathlib
import subprocess
import sys

import judge
import make_data


def ask(args, test):
    """The model's answer: greedy, as generation_config.json has it."""
    command = [args.cajal, "generate", args.model, "--prompt-file", "-", "--max-new-tokens", str(args.max_new_tokens), "--threads", "1", "--json"]
    done = subprocess.run(command, input=test["prompt"].encode(), capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return json.loads(done.stdout)["choices"][0]["text"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--cajal", default=str(pathlib.Path(__file__).resolve().parents[2] / "build/release/cajal"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--every", type=int, default=1, help="ask only every N-th prompt, for a quick look")
    parser.add_argument("--wrong", type=pathlib.Path, help="write wrong answers here, as JSON lines")
    args = parser.parse_args()
    tests = make_data.held_prompts()[:: args.every]
    tally = judge.Tally()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for test, text in zip(tests, pool.map(lambda t: ask(args, t), tests)):
            tally.add(test, text)
    print("\n".join(tally.lines()))
    if args.wrong:
        args.wrong.write_text("".join(json.dumps(w, ensure_ascii=False) + "\n" for w in tally.wrong))
    print("gate passed" if tally.passes() else "gate MISSED")
    return 0 if tally.passes() else 1


if __name__ == "__main__":
    sys.exit(main())
