#!/usr/bin/env python3
"""Compares cajal's logits of a demo model with Transformers'.

check_logits.py MODEL [--cajal build/release/cajal] [--count 20]

In float32 both compute the same function, so the log-probabilities must agree to --tolerance. In bfloat16, as the model ships,
rounding differs; there the mean difference must stay under --bf16-tolerance and the likeliest tokens must be the same nearly everywhere.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import make_data


def logits_of_cajal(args, ids, dtype, folder):
    (folder / "ids.json").write_text(json.dumps(ids))
    out = folder / "logits.safetensors"
    command = [args.cajal, "score", args.model, "--token-ids-file", str(folder / "ids.json"), "--dtype", dtype, "--threads", "1", "--dump-logits", str(out)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return next(iter(load_file(out).values()))


def compare(args, dtype, texts):
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, dtype), attn_implementation="eager").eval()
    worst, total, same, positions = 0.0, 0.0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for text in texts:
            ids = tokenizer(text).input_ids
            with torch.no_grad():
                theirs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
            ours = logits_of_cajal(args, ids, dtype, pathlib.Path(folder)).float().log_softmax(-1)
            # Of tokens that both call impossible the exact tiny probability does not matter.
            difference = (ours - theirs).abs()[theirs > -20]
            worst, total = max(worst, difference.max().item()), total + difference.mean().item()
            same += (ours.argmax(-1) == theirs.argmax(-1)).sum().item()
            positions += len(ids)
    return worst, total / len(texts), same, positions


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--cajal", default=str(pathlib.Path(__file__).resolve().parents[2] / "build/release/cajal"))
    parser.add_argument("--count", type=int, default=20, help="texts to compare")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--bf16-tolerance", type=float, default=0.1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(11)
    texts = ["".join(make_data.texts(make_data.train_example(rng))) for _ in range(args.count)]
    good = True
    for dtype in ("float32", "bfloat16"):
        worst, mean, same, positions = compare(args, dtype, texts)
        good &= worst <= args.tolerance and same == positions if dtype == "float32" else mean <= args.bf16_tolerance and same >= 0.97 * positions
        print(f"{dtype}: log-probabilities differ by {worst:.2e} at most and {mean:.2e} on average; "
              f"likeliest token the same at {same} of {positions} positions")
    print("logits agree" if good else "logits DIFFER")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
