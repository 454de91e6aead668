#!/usr/bin/env python3
"""What rounding a demo model's weights or its KV cache costs: on chats that it was not trained on, how likely its answers
stay, and how far all of its predictions move.

measure_quantization.py MODEL [--cajal build/release/cajal] [--texts 60] [--group-size 32]

Each chat is one sequence. Perplexities are of the tokens of answers, which are what the model was trained to write; the KL
divergence from the model as it is, and the share of likeliest tokens that stay, are means over all tokens.
"""
import argparse
import json
import math
import pathlib
import random
import subprocess
import sys

import make_data


def run(args, command, text):
    done = subprocess.run([args.cajal, *command], input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return json.loads(done.stdout)


def score(args, text, *flags):
    return run(args, ["score", args.model, "--prompt-file", "-", "--quantization-group-size", str(args.group_size), "--json", *flags], text)


def measure(args, name, exact_flags, rounded_flags, chats):
    """One of both scores compares with the other model."""
    tokens, answer_tokens, plain, rounded, kl, same = 0, 0, 0.0, 0.0, 0.0, 0.0
    for prompt, answer in chats:
        ours = score(args, prompt + answer, *exact_flags)
        theirs = score(args, prompt + answer, *rounded_flags)
        against = ours.get("against") or theirs["against"]
        begin = max(1, len(run(args, ["tokenize", args.model, "--json"], prompt)["token_ids"]))
        count = len(ours["token_ids"])
        tokens += count
        answer_tokens += count - begin
        plain -= sum(ours["logprobs"][begin:])
        rounded -= sum(theirs["logprobs"][begin:])
        kl += count * against["mean_kl"]
        same += count * against["top_1_agreement"]
    return (f"{name}: perplexity of {answer_tokens} tokens {math.exp(plain / answer_tokens):.4f} -> "
            f"{math.exp(rounded / answer_tokens):.4f}, mean KL divergence of {tokens} tokens {kl / tokens:.5f}, "
            f"likeliest token the same {100 * same / tokens:.2f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--cajal", default=str(pathlib.Path(__file__).resolve().parents[2] / "build/release/cajal"))
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--group-size", type=int, default=32)
    args = parser.parse_args()
    rng = random.Random(20261122)
    chats = [make_data.texts(make_data.train_example(rng)) for _ in range(args.texts)]
    print(measure(args, "KV cache int8", [], ["--kv-cache-dtype", "int8", "--against-quantization", "none"], chats), flush=True)
    for kind in ("int8", "int4"):
        exact, rounded = ["--against-quantization", kind], ["--quantization", kind]
        print(measure(args, f"{kind} by {args.group_size}", exact, rounded, chats), flush=True)


if __name__ == "__main__":
    main()
