#!/usr/bin/env python3
"""Writes a checkpoint of real size with random bf16 weights, for measuring how models are loaded.

usage: make_checkpoint.py CONFIG_FOLDER OUTPUT_FOLDER

CONFIG_FOLDER holds a dense Qwen3 or a Qwen3-MoE config.json, for example bench/shapes/Qwen3-0.6B. The output has one
model.safetensors in Hugging Face's form; like the released 0.6B it stores lm_head also where the model is tied.
"""
import json
import os
import random
import shutil
import struct
import sys

BLOCK_VALUES = 1 << 20  # one block of random numbers is repeated: only its size matters here


def tensors(c):
    """Name and shape of every weight, in the order of the file."""
    h, vocab = c["hidden_size"], c["vocab_size"]
    d = c.get("head_dim") or h // c["num_attention_heads"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    yield "lm_head.weight", [vocab, h]
    yield "model.embed_tokens.weight", [vocab, h]
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", [h]
        if c["model_type"] == "qwen3_moe":
            inner = c["moe_intermediate_size"]
            yield p + "mlp.gate.weight", [c["num_experts"], h]
            for e in range(c["num_experts"]):
                for name, shape in (("gate_proj", [inner, h]), ("up_proj", [inner, h]), ("down_proj", [h, inner])):
                    yield f"{p}mlp.experts.{e}.{name}.weight", shape
        else:
            inner = c["intermediate_size"]
            for name, shape in (("gate_proj", [inner, h]), ("up_proj", [inner, h]), ("down_proj", [h, inner])):
                yield f"{p}mlp.{name}.weight", shape
        yield p + "post_attention_layernorm.weight", [h]
        for name, shape in (("q_norm", [d]), ("k_norm", [d]), ("q_proj", [q, h]), ("k_proj", [kv, h]),
                            ("v_proj", [kv, h]), ("o_proj", [h, q])):
            yield f"{p}self_attn.{name}.weight", shape
    yield "model.norm.weight", [h]


def random_block():
    rng = random.Random(1)
    # Sign and mantissa at random, exponents from 2^-9 to 2^-5: matrices of ordinary weights.
    return b"".join(struct.pack("<H", rng.getrandbits(1) << 15 | (118 + rng.getrandbits(2)) << 7 | rng.getrandbits(7))
                    for _ in range(BLOCK_VALUES))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    with open(os.path.join(source, "config.json")) as f:
        config = json.load(f)
    os.makedirs(target, exist_ok=True)
    shutil.copy(os.path.join(source, "config.json"), target)
    header, at = {}, 0
    for name, shape in tensors(config):
        size = 2
        for dim in shape:
            size *= dim
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    block = random_block()
    with open(os.path.join(target, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():  # each from the block's beginning, so that tied tensors are equal
            left = entry["data_offsets"][1] - entry["data_offsets"][0]
            while left:
                f.write(block[:left])
                left -= min(left, len(block))
    print(f"{at / 1e9:.2f} GB in {len(header)} tensors")


if __name__ == "__main__":
    main()
