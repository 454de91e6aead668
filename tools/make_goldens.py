#!/usr/bin/env python3
"""Make the golden checkpoints under tests/data/goldens with Hugging Face Transformers.

    python3 tools/make_goldens.py OUTPUT [--only SUBSTRING] [--candidates N]

Needs torch, transformers (5.17 was used) and safetensors; runs on the CPU in seconds
per case. Every case is one folder: config.json, model*.safetensors (random weights,
fixed seeds), expected.safetensors. OUTPUT/manifest.json says what each case shows.

expected.safetensors holds
  input_ids        i64[T]     the prompt
  logits           f32[N,V]   logits of the prompt; every position unless logits_positions says which
  logits_positions i64[N]     only where logits are not those of every position
  tail             i64[1]     N, where logits are those of the last N positions
  greedy           i64[G]     generate(do_sample=False) with a KV cache, G = 24 unless an eos token ends it
  greedy_logits    f32[G,V]   the logits each greedy token was chosen from (decode path)

The prompt of a case is the one, of a batch of random candidates, whose greedy
continuation has the widest margins, so that equal tokens may be asked for.
"""

import argparse
import itertools
import json
import math
import os
import platform
import shutil
import struct
import sys
import tempfile
import time
import zlib

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

NEW_TOKENS = 24
EOS = 2

# ---------------------------------------------------------------------------
# safetensors, written here so that order, metadata and alignment are ours

DTYPES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float64: "F64", torch.int64: "I64", torch.int32: "I32",
}


def tensor_bytes(t):
    t = t.detach().contiguous()
    return bytes(t.reshape(-1).view(torch.uint8).numpy()) if t.numel() else b""


def write_safetensors(path, tensors, metadata={"format": "pt"}, header_order=None, align=True):
    """tensors: dict in data order. header_order: names in header order."""
    entries, blobs, at = {}, [], 0
    for name, t in tensors.items():
        b = tensor_bytes(t)
        entries[name] = {"dtype": DTYPES[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + len(b)]}
        blobs.append(b)
        at += len(b)
    header = {} if metadata is None else {"__metadata__": metadata}
    header.update({n: entries[n] for n in (header_order or entries)})
    text = json.dumps(header, separators=(",", ":")).encode()
    if align:
        text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for b in blobs:
            f.write(b)


# ---------------------------------------------------------------------------
# configs and weights

DENSE = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 32, "intermediate_size": 32,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 160,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": False,
    "hidden_act": "silu", "attention_bias": False, "rope_scaling": None, "use_sliding_window": False,
    "sliding_window": None, "max_window_layers": 2, "torch_dtype": "float32", "bos_token_id": 1,
    "eos_token_id": EOS, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "transformers_version": "4.51.0",
}
MOE = DENSE | {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_experts": 5,
    "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "router_aux_loss_coef": 0.001, "output_router_logits": False,
}
# Kept small: few tokens of a small vocabulary, weights stored in 16 bits.
QWEN2_MOE = {
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", "hidden_size": 32, "intermediate_size": 24,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 64,
    "num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 16,
    "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [], "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "max_position_embeddings": 256, "tie_word_embeddings": False, "hidden_act": "silu",
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28, "torch_dtype": "float32",
    "bos_token_id": 1, "eos_token_id": EOS, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True,
    "output_router_logits": False, "router_aux_loss_coef": 0.001, "transformers_version": "4.40.0",
}
ABSENT = object()


def merged(base, changes):
    out = dict(base)
    for k, v in changes.items():
        if v is ABSENT:
            out.pop(k, None)
        else:
            out[k] = v
    return out


def make_weights(cfg, seed):
    g = torch.Generator().manual_seed(seed)
    H, V, L = cfg["hidden_size"], cfg["vocab_size"], cfg["num_hidden_layers"]
    qwen2 = cfg["model_type"] == "qwen2_moe"
    moe = qwen2 or cfg["model_type"] == "qwen3_moe"
    qkv_bias = cfg.get("qkv_bias", True) if qwen2 else cfg.get("attention_bias")
    heads = cfg["num_attention_heads"]
    kv = cfg.get("num_key_value_heads") or heads
    d = cfg.get("head_dim") or (H // heads if moe else 128)
    E = cfg.get("num_experts", cfg.get("num_local_experts", 0)) if moe else 0
    step, only = cfg.get("decoder_sparse_step", 1), cfg.get("mlp_only_layers") or []

    def normal(*shape, std):
        return torch.randn(*shape, generator=g) * std

    def linear(out, inp, gain=1.0):
        return normal(out, inp, std=gain / math.sqrt(inp))

    def norm(n, mean=1.0):
        return mean + normal(n, std=0.25)

    # a tied embedding is kept small, or every token would predict itself
    w = {"model.embed_tokens.weight": normal(V, H, std=0.25 if cfg["tie_word_embeddings"] else 0.7)}
    for i in range(L):
        p = f"model.layers.{i}."
        w[p + "input_layernorm.weight"] = norm(H)
        for n, o in (("q", heads), ("k", kv), ("v", kv)):
            w[p + f"self_attn.{n}_proj.weight"] = linear(o * d, H, 1.0 if n != "v" else 1.3)
            if qkv_bias:
                w[p + f"self_attn.{n}_proj.bias"] = normal(o * d, std=0.4)
        w[p + "self_attn.o_proj.weight"] = linear(H, heads * d, 1.3)
        if cfg.get("attention_bias"):
            w[p + "self_attn.o_proj.bias"] = normal(H, std=0.2)
        if not qwen2:
            w[p + "self_attn.q_norm.weight"] = norm(d, 1.4)
            w[p + "self_attn.k_norm.weight"] = norm(d, 1.2)
        w[p + "post_attention_layernorm.weight"] = norm(H)
        if moe and i not in only and E > 0 and (i + 1) % step == 0:
            I = cfg["moe_intermediate_size"]
            w[p + "mlp.gate.weight"] = linear(E, H, 1.5)
            for e in range(E):
                w[p + f"mlp.experts.{e}.gate_proj.weight"] = linear(I, H, 1.2)
                w[p + f"mlp.experts.{e}.up_proj.weight"] = linear(I, H, 1.2)
                w[p + f"mlp.experts.{e}.down_proj.weight"] = linear(H, I, 1.5)
            if qwen2:
                I = cfg["shared_expert_intermediate_size"]
                w[p + "mlp.shared_expert.gate_proj.weight"] = linear(I, H, 1.2)
                w[p + "mlp.shared_expert.up_proj.weight"] = linear(I, H, 1.2)
                w[p + "mlp.shared_expert.down_proj.weight"] = linear(H, I, 1.5)
                w[p + "mlp.shared_expert_gate.weight"] = linear(1, H, 1.5)
        else:
            I = cfg["intermediate_size"]
            w[p + "mlp.gate_proj.weight"] = linear(I, H, 1.2)
            w[p + "mlp.up_proj.weight"] = linear(I, H, 1.2)
            w[p + "mlp.down_proj.weight"] = linear(H, I, 1.2)
    w["model.norm.weight"] = norm(H, 1.5 if cfg["tie_word_embeddings"] else 1.0)
    # rows of unequal length: wider margins between the largest logits
    w["lm_head.weight"] = linear(V, H, 2.0) * torch.exp(normal(V, 1, std=0.3))
    return w


def fuse_experts(w):
    out, experts = {}, {}
    for name, t in w.items():
        if ".mlp.experts." in name:
            layer, rest = name.split(".mlp.experts.")
            e, kind, _ = rest.split(".")
            experts.setdefault(layer, {}).setdefault(int(e), {})[kind] = t
        else:
            out[name] = t
    for layer, es in experts.items():
        out[layer + ".mlp.experts.gate_up_proj"] = torch.stack(
            [torch.cat([es[e]["gate_proj"], es[e]["up_proj"]]) for e in sorted(es)])
        out[layer + ".mlp.experts.down_proj"] = torch.stack([es[e]["down_proj"] for e in sorted(es)])
    return out


# ---------------------------------------------------------------------------
# the cases

CASES = []


def case(name, shows, base=DENSE, T=48, *, weights=None, stored=None, prepare=None, contrast=None,
         shards=0, shard_seed=0, file={}, eos=None, positions=None, candidates=None, experts=None, **changes):
    """weights: seed name shared by several cases; stored: dtype on disk, or a function of the name;
    prepare: changes the tensors on disk; contrast: config changes the case must be told from; experts: experts_implementation."""
    CASES.append(dict(name=name, shows=shows, cfg=merged(base, changes), T=T, weights=weights or name, stored=stored,
                      prepare=prepare, contrast=contrast, shards=shards, shard_seed=shard_seed, file=file, eos=eos,
                      positions=positions, candidates=candidates, experts=experts))


def rope(name, shows, scaling=None, T=48, contrast={"rope_scaling": None}, **changes):
    changes.setdefault("max_position_embeddings", 128)
    changes.setdefault("head_dim", 32)
    if scaling is not None:
        changes["rope_scaling"] = scaling
    case("rope_" + name, shows, T=T, weights="rope", contrast=contrast, **changes)


def yarn(**more):
    d = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    for k, v in more.items():
        if v is ABSENT:
            d.pop(k, None)
        else:
            d[k] = v
    return d


LONG_FACTORS = {
    "short_factor": [round(1.0 + 0.03 * i, 4) for i in range(16)],
    "long_factor": [round(1.2 + 0.45 * i, 4) for i in range(16)],
}

# --- rotary embeddings (all share one set of weights)
rope("linear", "linear scaling by 4", {"rope_type": "linear", "factor": 4.0})
rope("type_key", "`type` in place of `rope_type`", {"type": "linear", "factor": 2.5})
rope("dynamic", "dynamic NTK, prompt longer than max_position_embeddings: base from the prompt's length, then from "
     "each step's; cached keys keep their rotation", {"rope_type": "dynamic", "factor": 4.0}, T=60,
     max_position_embeddings=32)
rope("dynamic_cross", "dynamic NTK, generation crosses max_position_embeddings",
     {"rope_type": "dynamic", "factor": 4.0}, T=36, max_position_embeddings=44)
rope("dynamic_at_max", "dynamic NTK, prompt exactly max_position_embeddings long (unscaled), scaled from the first "
     "generated token's step on", {"rope_type": "dynamic", "factor": 4.0}, T=48, max_position_embeddings=48)
rope("yarn_attention_factor", "YaRN, attention_factor given", yarn(attention_factor=0.8), T=72,
     contrast={"rope_scaling": yarn()})
rope("yarn_mscale", "YaRN, mscale and mscale_all_dim: attention factor is their ratio",
     yarn(mscale=2.0, mscale_all_dim=0.5), T=72, contrast={"rope_scaling": yarn()})
rope("yarn_mscale_only", "YaRN, mscale without mscale_all_dim is ignored", yarn(mscale=3.0), T=50)
rope("yarn_betas", "YaRN, beta_fast and beta_slow given", yarn(beta_fast=4.0, beta_slow=0.5), T=72,
     contrast={"rope_scaling": yarn()})
rope("yarn_betas_zero", "YaRN, beta_fast 0 and beta_slow null mean the defaults 32 and 1",
     yarn(beta_fast=0, beta_slow=None), T=50)
rope("yarn_no_truncate", "YaRN, truncate false: fractional correction range", yarn(truncate=False), T=72,
     contrast={"rope_scaling": yarn()})
rope("yarn_no_original", "YaRN, original_max_position_embeddings absent: max_position_embeddings stands in",
     yarn(original_max_position_embeddings=ABSENT), T=72, max_position_embeddings=64,
     contrast={"rope_scaling": yarn()})
rope("yarn_original_toplevel", "YaRN, original_max_position_embeddings at the config's top level wins over the dict's",
     yarn(original_max_position_embeddings=96), T=72, original_max_position_embeddings=32,
     contrast={"original_max_position_embeddings": ABSENT})
rope("yarn_factor_null", "YaRN, factor null: max_position_embeddings / original_max_position_embeddings",
     yarn(factor=None), T=50)
rope("yarn_attn_factor_key", "YaRN, the unknown key attn_factor is ignored (attention factor 0.1 ln 4 + 1)",
     yarn(attn_factor=0.8782488562869419), T=50)
rope("yarn_beyond", "YaRN, prompt longer than max_position_embeddings", yarn(factor=2.0), T=80,
     max_position_embeddings=64)
rope("llama3", "llama3 frequency bands", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
     "high_freq_factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}, T=60)
rope("longrope_short", "longrope, everything within the original length: short factors",
     {"rope_type": "longrope", "original_max_position_embeddings": 64, **LONG_FACTORS}, T=40)
rope("longrope_long", "longrope, prompt beyond the original length: long factors",
     {"rope_type": "longrope", "original_max_position_embeddings": 64, **LONG_FACTORS}, T=72)
rope("longrope_cross", "longrope, generation crosses the original length: long factors for new positions, cached keys "
     "keep the short ones", {"rope_type": "longrope", "original_max_position_embeddings": 64, **LONG_FACTORS}, T=52)
rope("longrope_factor", "longrope, factor given (sets the attention factor in place of max/original)",
     {"rope_type": "longrope", "original_max_position_embeddings": 64, "factor": 32.0, **LONG_FACTORS}, T=66,
     contrast={"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64, **LONG_FACTORS}})
rope("longrope_attention_factor", "longrope, attention_factor given",
     {"rope_type": "longrope", "original_max_position_embeddings": 64, "attention_factor": 0.75, **LONG_FACTORS},
     T=66,
     contrast={"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64, **LONG_FACTORS}})
rope("partial_default", "partial_rotary_factor is ignored by the default kind", partial_rotary_factor=0.5,
     contrast=None)
rope("proportional", "proportional kind: partial_rotary_factor 0.5 zeroes the upper frequencies, all / factor",
     {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0, "rope_theta": 10000.0}, T=50)
rope("scaling_zero", "rope_scaling 0 (falsy) means none", 0, contrast=None)
rope("default_dict", "rope_scaling of kind default that carries its own rope_theta, which wins",
     {"rope_type": "default", "rope_theta": 500.0})
rope("theta_absent", "no rope_theta anywhere: 10000", rope_theta=ABSENT, contrast=None)
rope("v5", "v5 config: rope_parameters with rope_theta inside; `dtype` for `torch_dtype`", rope_theta=ABSENT,
     rope_scaling=ABSENT, rope_parameters={"rope_type": "default", "rope_theta": 700.0}, torch_dtype=ABSENT,
     dtype="float32", layer_types=["full_attention", "full_attention"], transformers_version="5.17.0",
     contrast={"rope_parameters": ABSENT})
rope("v5_yarn", "v5 config with YaRN; rope_theta inside rope_parameters wins over the top-level one",
     rope_theta=123456.0, rope_scaling=ABSENT, rope_parameters=yarn(rope_theta=2000.0), T=72,
     contrast={"rope_parameters": yarn()})
rope("scaling_over_parameters", "rope_scaling (truthy) replaces rope_parameters as a whole, theta included: 10000",
     {"rope_type": "linear", "factor": 2.0}, rope_theta=ABSENT,
     rope_parameters={"rope_type": "default", "rope_theta": 300.0}, contrast={"rope_scaling": ABSENT})

# --- shapes
case("d_head_dim_absent", "dense without head_dim: 128, not hidden/heads", head_dim=ABSENT, num_attention_heads=1,
     intermediate_size=24)
case("d_head_dim_20", "head_dim 20, kv heads = heads, sizes that are no multiples of 16", head_dim=20,
     hidden_size=36, num_key_value_heads=2, intermediate_size=50, vocab_size=163, T=41)
case("d_mqa", "one kv head for four", num_attention_heads=4, head_dim=16, vocab_size=173)
case("d_eps", "rms_norm_eps 0.05, large enough to see", rms_norm_eps=0.05, contrast={"rms_norm_eps": 1e-6})
case("d_prompt_one", "a prompt of one token", T=1)
case("d_three_layers_gqa", "3 layers, GQA 6:2, vocab 177", num_hidden_layers=3, num_attention_heads=6,
     num_key_value_heads=2, head_dim=8, vocab_size=177, T=65)

# --- sliding windows
case("d_sliding_layer_types", "explicit layer_types win over max_window_layers; prompt far longer than the window",
     num_hidden_layers=3, head_dim=16, use_sliding_window=True, sliding_window=7, max_window_layers=99,
     layer_types=["sliding_attention", "full_attention", "sliding_attention"], T=70,
     contrast={"use_sliding_window": False, "layer_types": ABSENT})
case("d_sliding_all", "max_window_layers 0: every layer sliding, window 16", head_dim=16, use_sliding_window=True,
     sliding_window=16, max_window_layers=0, T=80, contrast={"use_sliding_window": False})
case("d_sliding_two", "window 2: a token sees itself and the one before", use_sliding_window=True, sliding_window=2,
     max_window_layers=1, T=40, contrast={"use_sliding_window": False})
case("d_sliding_off", "sliding_window set, use_sliding_window false: full attention", head_dim=16,
     sliding_window=8, max_window_layers=0, T=60)
case("d_sliding_default_mwl", "use_sliding_window true, max_window_layers absent (28): every layer full",
     head_dim=16, use_sliding_window=True, sliding_window=8, max_window_layers=ABSENT, T=60)
case("d_sliding_long", "window 100 over 300 tokens", head_dim=16, use_sliding_window=True, sliding_window=100,
     max_window_layers=1, T=300, candidates=48, positions=[0, 63, 64, 98, 99, 100, 101, 127, 128, 199, 200, 255,
     256] + list(range(292, 300)), contrast={"use_sliding_window": False})
case("m_sliding", "MoE with use_sliding_window: every layer sliding, max_window_layers ignored", MOE,
     use_sliding_window=True, sliding_window=8, max_window_layers=99, T=60, contrast={"use_sliding_window": False})
case("m_sliding_null", "MoE, use_sliding_window true but sliding_window null: full attention", MOE,
     use_sliding_window=True, sliding_window=None)

# --- MoE
case("m_norm_false", "norm_topk_prob false", MOE, norm_topk_prob=False, contrast={"norm_topk_prob": True})
case("m_defaults", "norm_topk_prob, decoder_sparse_step, mlp_only_layers absent: false, 1, []", MOE,
     norm_topk_prob=ABSENT, decoder_sparse_step=ABSENT, mlp_only_layers=ABSENT, contrast={"norm_topk_prob": True})
case("m_num_local_experts", "num_local_experts in place of num_experts", MOE, num_experts=ABSENT,
     num_local_experts=6)
case("m_mlp_only_null", "mlp_only_layers null", MOE, mlp_only_layers=None, T=33)
case("m_fused", "experts fused on disk: gate_up_proj [E,2I,H], down_proj [E,H,I], no .weight", MOE,
     prepare=fuse_experts, moe_intermediate_size=20)
case("m_mixed_fused", "decoder_sparse_step 2 with mlp_only_layers, experts fused on disk", MOE, prepare=fuse_experts,
     num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3])
case("m_mixed", "decoder_sparse_step 2 with mlp_only_layers", MOE, num_hidden_layers=4, decoder_sparse_step=2,
     mlp_only_layers=[3], contrast=None)
case("m_zero_experts", "num_experts 0: every layer dense", MOE, num_experts=0)
case("m_top1", "one expert per token, weight not normalised", MOE, num_experts_per_tok=1, norm_topk_prob=False,
     contrast={"norm_topk_prob": True})
case("m_top1_norm", "one expert per token, normalised: weight 1", MOE, num_experts_per_tok=1)
case("m_top_all", "every expert for every token", MOE, num_experts=4, num_experts_per_tok=4)
case("m_bias", "attention_bias in MoE", MOE, attention_bias=True, T=35)
case("m_head_dim_absent", "MoE without head_dim: hidden/heads", MOE, head_dim=ABSENT, hidden_size=40,
     num_attention_heads=4, num_key_value_heads=2)
case("m_odd_sizes", "moe_intermediate_size 19 (the default grouped_mm wants rows of 16 bytes; per-expert loop), 7 experts, hidden 36, "
     "vocab 171", MOE, moe_intermediate_size=19, experts="eager",
     num_experts=7, num_experts_per_tok=3, hidden_size=36, vocab_size=171, T=39)
case("m_rope_yarn", "MoE with YaRN", MOE, rope_scaling=yarn(), max_position_embeddings=128, T=60,
     contrast={"rope_scaling": None})
case("m_tied", "MoE, tied, lm_head absent", MOE, tie_word_embeddings=True,
     prepare=lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
case("m_sharded_experts", "experts of one layer spread over three shards", MOE, shards=3, shard_seed=5, T=33)

# --- Qwen2-MoE: biases on q, k and v, no norms of heads, a shared expert behind a sigmoid gate


def qwen2(name, shows, **more):
    more = {"T": 12, "candidates": 300, "stored": torch.bfloat16} | more
    case("q2_" + name, shows, QWEN2_MOE, **more)


qwen2("mixed", "decoder_sparse_step 2 with mlp_only_layers, norm_topk_prob, experts fused on disk, of 4 layers the "
      "first slides: layer_types absent", num_hidden_layers=4, decoder_sparse_step=2, mlp_only_layers=[3],
      norm_topk_prob=True, use_sliding_window=True, sliding_window=5, max_window_layers=2, T=20, prepare=fuse_experts,
      weights="q2_mixed, second try", contrast={"use_sliding_window": False})
qwen2("no_bias", "qkv_bias false, norm_topk_prob false, head_dim given, tied, layer_types given", qkv_bias=False,
      head_dim=12, tie_word_embeddings=True, use_sliding_window=True, sliding_window=4,
      layer_types=["full_attention", "sliding_attention"], contrast={"norm_topk_prob": True},
      prepare=lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})
qwen2("bf16", "bf16, defaults of Qwen2-MoE: biases, weights of experts not normalised", torch_dtype="bfloat16",
      candidates=150, norm_topk_prob=ABSENT, decoder_sparse_step=ABSENT, mlp_only_layers=ABSENT)

# --- tying


def tied_equal(w):
    return w | {"lm_head.weight": w["model.embed_tokens.weight"].clone()}


case("d_tie_equal", "tied, both tensors on disk and equal", tie_word_embeddings=True, prepare=tied_equal)
case("d_tie_different", "tied, both on disk and different: each keeps its own (v5)", tie_word_embeddings=True)
case("d_tie_head_only", "tied, lm_head alone on disk: it is the embedding too", tie_word_embeddings=True,
     prepare=lambda w: {k: v for k, v in w.items() if k != "model.embed_tokens.weight"})
case("d_tie_embed_only", "tied, embed_tokens alone on disk", tie_word_embeddings=True,
     prepare=lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"})

# --- files and stored dtypes
case("d_no_metadata", "no __metadata__ in the safetensors header", file={"metadata": None}, T=33)
case("d_unordered", "tensors in shuffled data order, header in another order", file={"shuffle": 3}, T=33)
case("d_misaligned", "header length no multiple of 8, BF16 norms of odd length between F32 tensors: data at odd "
     "multiples of 2", hidden_size=35, head_dim=16, file={"align": False, "shuffle": 4}, T=33,
     stored=lambda n: torch.bfloat16 if "layernorm" in n else torch.float32)
case("d_extra_tensors", "tensors no layer asks for (rotary inv_freq, a further layer): ignored", T=33,
     prepare=lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.linspace(1, 0.1, 8),
                            "model.layers.2.input_layernorm.weight": torch.ones(32)})
case("d_f16_stored", "stored F16, run in float32", stored=torch.float16)
case("d_bf16_stored", "stored BF16, run in float32", stored=torch.bfloat16)
case("d_f32_stored_bf16", "stored F32, run in bfloat16", hidden_size=48, torch_dtype="bfloat16", T=40)
case("d_mixed_dtype_bf16", "norms stored F32, the rest BF16, run in bfloat16", hidden_size=48,
     torch_dtype="bfloat16", stored=lambda n: torch.float32 if "norm" in n else torch.bfloat16, T=40)

# --- bfloat16
BF16 = dict(torch_dtype="bfloat16", stored=torch.bfloat16)
case("d_bf16_wide", "bf16 dense, hidden 128, head_dim 64", hidden_size=128, head_dim=64, intermediate_size=40,
     vocab_size=173, T=40, **BF16)
case("d_bf16_bias", "bf16 with attention_bias", hidden_size=64, attention_bias=True, intermediate_size=56, T=40, **BF16)
case("d_bf16_tied", "bf16, tied, lm_head absent", hidden_size=64, tie_word_embeddings=True, intermediate_size=56, T=40,
     prepare=lambda w: {k: v for k, v in w.items() if k != "lm_head.weight"}, **BF16)
case("d_bf16_sharded", "bf16 in three shards, tensors shuffled over and within them", hidden_size=64,
     intermediate_size=56, shards=3, shard_seed=7, T=40, **BF16)
case("d_bf16_yarn", "bf16 with YaRN: cos and sin times the attention factor, then rounded", hidden_size=64,
     intermediate_size=56, rope_scaling=yarn(), max_position_embeddings=128, T=60, **BF16)
case("d_bf16_sliding", "bf16, second layer sliding, window 16", hidden_size=64, intermediate_size=56,
     use_sliding_window=True, sliding_window=16, max_window_layers=1, T=60, **BF16)
case("d_bf16_dtype_absent", "no dtype in the config: that of the stored tensors", hidden_size=64, intermediate_size=56,
     T=40, torch_dtype=ABSENT, stored=torch.bfloat16)
case("m_bf16_top2", "bf16 MoE", MOE, hidden_size=64, moe_intermediate_size=16, T=33, **BF16)
case("m_bf16_fused", "bf16 MoE, experts fused on disk, norm_topk_prob false", MOE, hidden_size=64,
     moe_intermediate_size=16, norm_topk_prob=False, T=33, prepare=fuse_experts, **BF16)

# --- long prompts
LONG = [0, 1, 15, 16, 63, 64, 65, 127, 128, 191, 192, 255, 256, 383, 384, 511, 512, 639, 640] + list(range(692, 700))
case("long_fp32", "700 tokens", max_position_embeddings=1024, T=700, positions=LONG, candidates=24, head_dim=16,
     num_attention_heads=4, num_key_value_heads=2)
case("long_bf16", "700 tokens in bf16", max_position_embeddings=1024, T=700, positions=LONG, candidates=24,
     hidden_size=64, **BF16)

# --- end of sequence
case("d_eos_config", "greedy stops at the second id of the config's eos list, which it returns", eos="config")
case("d_eos_generation_config", "generation_config.json's eos list wins over config.json's eos_token_id",
     eos="generation_config")

# configs to try and only report: what Transformers does with them
PROBES = [
    ("partial rotary with linear", DENSE, {"rope_scaling": {"rope_type": "linear", "factor": 2.0,
                                                            "partial_rotary_factor": 0.5}}),
    ("partial rotary (top level) with yarn", DENSE, {"partial_rotary_factor": 0.5, "rope_scaling": yarn()}),
    ("head_dim null, dense", DENSE, {"head_dim": None}),
    ("head_dim null, MoE", MOE, {"head_dim": None}),
    ("head_dim 15", DENSE, {"head_dim": 15}),
    ("layer_types shorter than the layers", DENSE, {"layer_types": ["full_attention"]}),
    ("layer_types sliding, use_sliding_window false", DENSE,
     {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}),
    ("layer_types unknown value", DENSE, {"layer_types": ["chunky", "full_attention"]}),
    ("use_sliding_window true, sliding_window null, dense", DENSE, {"use_sliding_window": True,
                                                                    "max_window_layers": 0}),
    ("use_sliding_window true, sliding_window 0, dense", DENSE, {"use_sliding_window": True, "sliding_window": 0,
                                                                 "max_window_layers": 0}),
    ("rope_type su", DENSE, {"rope_scaling": {"rope_type": "su", "factor": 2.0}}),
    ("rope_type mrope", DENSE, {"rope_scaling": {"rope_type": "mrope", "mrope_section": [4, 6, 6]}}),
    ("yarn without factor", DENSE, {"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 32}}),
    ("linear without factor", DENSE, {"rope_scaling": {"rope_type": "linear"}}),
    ("linear factor 0.5", DENSE, {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}),
    ("llama3 without original_max_position_embeddings", DENSE,
     {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}}),
    ("longrope with short_factor too short", DENSE,
     {"head_dim": 32, "rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 64,
                       "short_factor": [1.0] * 8, "long_factor": [2.0] * 16}}),
    ("rope_parameters per layer type", DENSE,
     {"rope_scaling": ABSENT, "rope_theta": ABSENT,
      "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1000.0}}}),
    ("rope_scaling a string", DENSE, {"rope_scaling": "linear"}),
    ("num_experts and num_local_experts disagree", MOE, {"num_local_experts": 3}),
    ("num_experts_per_tok above num_experts", MOE, {"num_experts_per_tok": 9}),
    ("heads no multiple of kv heads", DENSE, {"num_attention_heads": 3, "num_key_value_heads": 2, "head_dim": 16}),
    ("hidden_act gelu", DENSE, {"hidden_act": "gelu"}),
    ("vocab_size a string", DENSE, {"vocab_size": "160"}),
    ("rms_norm_eps absent", DENSE, {"rms_norm_eps": ABSENT}),
    ("unknown torch_dtype float8", DENSE, {"torch_dtype": "float8"}),
    ("torch_dtype absent", DENSE, {"torch_dtype": ABSENT}),
    ("use_sliding_window true, sliding_window null, Qwen2-MoE", QWEN2_MOE, {"use_sliding_window": True,
                                                                           "sliding_window": None}),
    ("use_sliding_window true, sliding_window 0, Qwen2-MoE", QWEN2_MOE, {"use_sliding_window": True,
                                                                        "sliding_window": 0}),
    ("layer_types sliding, use_sliding_window false, Qwen2-MoE", QWEN2_MOE, {"layer_types": ["sliding_attention"] * 2}),
    ("num_key_value_heads null, Qwen2-MoE", QWEN2_MOE, {"num_key_value_heads": None}),
    ("head_dim null, Qwen2-MoE", QWEN2_MOE, {"head_dim": None}),
    ("num_local_experts, Qwen2-MoE", QWEN2_MOE, {"num_local_experts": 3}),
    ("attention_bias, Qwen2-MoE", QWEN2_MOE, {"attention_bias": True, "qkv_bias": False}),
]


# ---------------------------------------------------------------------------
# running Transformers


def load(folder, dtype="auto", experts=None):
    kw = {} if experts is None else {"experts_implementation": experts}
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager",
                                                       output_loading_info=True, **kw)
    return model.eval(), info


@torch.no_grad()
def generate(model, ids, keep_eos=False):
    if not keep_eos:
        model.generation_config.eos_token_id = None
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=GenerationConfig(
        do_sample=False, max_new_tokens=NEW_TOKENS, use_cache=True, return_dict_in_generate=True, output_logits=True,
        pad_token_id=0))
    tokens = out.sequences[:, ids.shape[1]:]
    logits = torch.stack([l.float() for l in out.logits], 1)  # [B, G, V]
    return tokens, logits


@torch.no_grad()
def prompt_logits(model, ids):
    return model(ids).logits[0].float()


def margins(logits):
    top = logits.topk(2, -1).values
    return top[..., 0] - top[..., 1]


class RouterGap:
    """The smallest gap, over tokens and layers, between the last chosen expert's logit and the next."""

    def __init__(self, model, batch):
        self.k = getattr(model.config, "num_experts_per_tok", 0)
        self.worst = torch.full((batch,), float("inf"))
        self.batch = batch
        self.handles = [m.register_forward_hook(self) for m in model.modules()
                        if type(m).__name__ in ("Qwen3MoeTopKRouter", "Qwen2MoeTopKRouter") and
                        m.num_experts > self.k]

    def __call__(self, module, args, output):
        top = output[0].float().topk(self.k + 1, -1).values
        gap = (top[:, self.k - 1] - top[:, self.k]).view(self.batch, -1).amin(1)
        self.worst = torch.minimum(self.worst, gap)

    def close(self):
        for h in self.handles:
            h.remove()


@torch.no_grad()
def choose_prompt(folder, c, count):
    g = torch.Generator().manual_seed(zlib.crc32(("prompt " + c["name"]).encode()))
    V = c["cfg"]["vocab_size"]
    ids = torch.randint(3, V, (count, c["T"]), generator=g)
    model, _ = load(folder, experts=c["experts"])
    gap = RouterGap(model, count)
    tokens, logits = generate(model, ids)
    gap.close()
    m = margins(logits).amin(1)
    bf16 = model.dtype == torch.bfloat16
    noise = torch.ones(count)
    if bf16:  # among decisive prompts, those that rounding moves least
        wide, _ = load(folder, dtype=torch.float32, experts=c["experts"])
        for b in range(0, count, 8):
            noise[b:b + 8] = (model(ids[b:b + 8]).logits.float() - wide(ids[b:b + 8]).logits).abs().amax((1, 2))
    best, best_score = None, -1.0
    for b in range(count):
        t = tokens[b].tolist()
        if EOS in t or len(set(t)) < 12 or (c["eos"] and len(set(t[:9])) < 7):
            continue
        score = m[b].item()
        if gap.handles:  # a flipped expert would spoil the comparison as much as a flipped token
            score = min(score, gap.worst[b].item() * (3.0 if bf16 else 100.0))
        score /= noise[b].item()
        if score > best_score:
            best, best_score = b, score
    if best is None:
        raise RuntimeError(f"{c['name']}: every candidate's continuation is degenerate")
    return ids[best:best + 1].clone(), tokens[best], best_score


def write_checkpoint(folder, c, cfg):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(cfg, f, indent=2)
        f.write("\n")
    w = make_weights(cfg, zlib.crc32(c["weights"].encode()))
    if c["prepare"]:
        w = c["prepare"](w)
    stored = c["stored"]
    if stored is not None:
        w = {n: t.to(stored(n) if callable(stored) else stored) for n, t in w.items()}
    file = dict(c["file"])
    names, header = list(w), None
    g = torch.Generator().manual_seed(file.pop("shuffle", c["shard_seed"]))
    if c["file"].get("shuffle") or c["shards"]:
        names = [names[i] for i in torch.randperm(len(names), generator=g)]
        header = [names[i] for i in torch.randperm(len(names), generator=g)]
    else:
        names.sort()
    if not c["shards"]:
        write_safetensors(os.path.join(folder, "model.safetensors"), {n: w[n] for n in names}, header_order=header,
                          **file)
        return
    n = c["shards"]
    where = {}
    for s in range(n):
        mine = names[s::n]
        path = f"model-{s + 1:05}-of-{n:05}.safetensors"
        write_safetensors(os.path.join(folder, path), {k: w[k] for k in mine})
        where.update({k: path for k in mine})
    index = {"metadata": {"total_size": sum(t.numel() * t.element_size() for t in w.values())},
             "weight_map": {k: where[k] for k in header}}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump(index, f, indent=2)
        f.write("\n")


def other_config(folder, temp, cfg, changes):
    """The folder's weights under a changed config."""
    other = tempfile.mkdtemp(dir=temp)
    for n in os.listdir(folder):
        if n.startswith("model"):
            os.symlink(os.path.abspath(os.path.join(folder, n)), os.path.join(other, n))
    with open(os.path.join(other, "config.json"), "w") as f:
        json.dump(merged(cfg, changes), f)
    return other


def check_loading(c, info):
    missing = set(info["missing_keys"])
    if c["cfg"]["tie_word_embeddings"]:
        missing -= {"lm_head.weight", "model.embed_tokens.weight"}
    unexpected = set(info["unexpected_keys"])
    if c["name"] == "d_extra_tensors":
        unexpected = set()
    assert not missing and not unexpected and not info["mismatched_keys"], (c["name"], info)


def rounded(x):
    return float(f"{float(x):.4g}")


def make_case(out, temp, c, count):
    cfg, name = c["cfg"], c["name"]
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    write_checkpoint(folder, c, cfg)
    ids, found, score = choose_prompt(folder, c, c["candidates"] or count)
    if c["eos"]:
        t = found.tolist()
        at = next(i for i in range(9, NEW_TOKENS) if t[i] not in t[:i])
        eos_list = [EOS, t[at]]
        if c["eos"] == "config":
            cfg["eos_token_id"] = eos_list
        else:
            with open(os.path.join(folder, "generation_config.json"), "w") as f:
                json.dump({"bos_token_id": 1, "eos_token_id": eos_list, "pad_token_id": 0, "do_sample": True,
                           "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.0"}, f,
                          indent=2)
                f.write("\n")
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(cfg, f, indent=2)
            f.write("\n")

    # fresh models: dynamic kinds of RoPE keep state
    model, info = load(folder, experts=c["experts"])
    check_loading(c, info)
    dtype = str(model.dtype).removeprefix("torch.")
    assert dtype == cfg.get("dtype", cfg.get("torch_dtype", dtype)), (name, model.dtype)
    gap = RouterGap(model, 1)
    greedy, greedy_logits = generate(model, ids, keep_eos=bool(c["eos"]))
    gap.close()
    greedy, greedy_logits = greedy[0], greedy_logits[0]
    model, _ = load(folder, experts=c["experts"])
    logits = prompt_logits(model, ids)

    assert logits.isfinite().all() and greedy_logits.isfinite().all()
    assert (greedy_logits.argmax(-1) == greedy).all()
    first = (logits[-1] - greedy_logits[0]).abs().max().item()
    assert len(set(greedy.tolist())) >= (7 if c["eos"] else 10), (name, greedy)
    assert len(greedy) == NEW_TOKENS or c["eos"]
    if c["eos"]:
        assert greedy[-1].item() == eos_list[1] and len(greedy) < NEW_TOKENS

    wider = torch.float64 if dtype == "float32" else torch.float32
    reference, _ = load(folder, dtype=wider, experts="eager" if cfg["model_type"] != "qwen3" else None)
    ref_logits = prompt_logits(reference, ids)
    entry = {
        "name": name, "shows": c["shows"], "model_type": cfg["model_type"], "dtype": dtype,
        "tolerance": "fp32" if dtype == "float32" else "bf16", "prompt": c["T"], "new_tokens": len(greedy),
        "logits_rms": rounded(logits.square().mean().sqrt()),
        "mean_margin": rounded(margins(logits).mean()),
        "min_greedy_margin": rounded(margins(greedy_logits).min()),
        "max_diff_to_wider_dtype": rounded((logits - ref_logits).abs().max()),
        "rms_diff_to_wider_dtype": rounded((logits - ref_logits).square().mean().sqrt()),
        "prompt_step_diff": rounded(first),
    }
    if gap.handles:
        entry["min_router_gap"] = rounded(gap.worst.min())
        eager, _ = load(folder, experts="eager")
        entry["max_diff_to_eager_experts"] = rounded((prompt_logits(eager, ids) - logits).abs().max())
    # decode against one pass over everything: equal but for kinds of RoPE that change with the length
    model, _ = load(folder, experts=c["experts"])
    whole = prompt_logits(model, torch.cat([ids[0], greedy[:-1]])[None])[c["T"] - 1:]
    entry["max_diff_decode_to_one_pass"] = rounded((whole - greedy_logits).abs().max())
    if c["contrast"] is not None:
        other, _ = load(other_config(folder, temp, cfg, c["contrast"]))
        entry["max_diff_without_feature"] = rounded((prompt_logits(other, ids) - logits).abs().max())
        other, _ = load(other_config(folder, temp, cfg, c["contrast"]))
        changed, _ = generate(other, ids)
        entry["greedy_changed_without_feature"] = int((changed[0][:len(greedy)] != greedy).sum())

    tensors = {"greedy": greedy.clone(), "input_ids": ids[0].clone()}
    if c["positions"]:
        tensors["logits_positions"] = torch.tensor(c["positions"])
        logits = logits[c["positions"]]
        entry["logits_positions"] = len(c["positions"])
    else:
        tensors["tail"] = torch.tensor([c["T"]])
    tensors["greedy_logits"] = greedy_logits
    tensors["logits"] = logits
    write_safetensors(os.path.join(folder, "expected.safetensors"), tensors, metadata=None)
    entry["bytes"] = sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder))
    return entry


def probe(temp, cfg):
    folder = tempfile.mkdtemp(dir=temp)
    try:
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(cfg, f)
        config = AutoConfig.from_pretrained(folder)
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        ids = torch.arange(3, 40)[None]
        l = prompt_logits(model, ids)
        return {"outcome": "runs", "dtype": str(model.dtype).removeprefix("torch."),
                "finite": bool(l.isfinite().all()), "rope_parameters": config.rope_parameters,
                "head_dim": model.model.layers[0].self_attn.head_dim, "rms_norm_eps": config.rms_norm_eps,
                **({"layer_types": config.layer_types, "sliding_window": config.sliding_window}
                   if hasattr(config, "layer_types") else {"num_experts": config.num_experts})}
    except Exception as e:  # whatever Transformers raises is the finding
        return {"outcome": "refused", "error": f"{type(e).__name__}: {str(e).strip()}"[:400]}


# ---------------------------------------------------------------------------
# tables: RoPE, logits processors, router


def rope_table(folder):
    from transformers import Qwen3Config
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding as Rotary

    def cfg(d, theta, scaling=None, max_pos=40960, **more):
        return {"head_dim": d, "rope_theta": theta, "max_position_embeddings": max_pos, "rope_scaling": scaling,
                **more}

    def y(orig, factor=4.0, **more):
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": orig, **more}

    configs = {}
    for d, theta in itertools.product((64, 128), (1e4, 1e6, 5e6, 1e7)):
        t = f"d{d}_theta{theta:.0e}".replace("+0", "")
        configs[f"default_{t}"] = (cfg(d, theta), [None])
        configs[f"linear_{t}"] = (cfg(d, theta, {"rope_type": "linear", "factor": 3.0}), [None])
        configs[f"dynamic_{t}"] = (cfg(d, theta, {"rope_type": "dynamic", "factor": 4.0}),
                                   [None, 40960, 40961, 65536, 131072, 163840])
        configs[f"yarn_{t}"] = (cfg(d, theta, y(32768), max_pos=131072), [None])
        configs[f"yarn_no_truncate_{t}"] = (cfg(d, theta, y(32768, truncate=False), max_pos=131072), [None])
        configs[f"llama3_{t}"] = (cfg(d, theta, {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                 "high_freq_factor": 4.0, "rope_theta": theta,
                                                 "original_max_position_embeddings": 8192}, max_pos=131072), [None])
        configs[f"longrope_{t}"] = (cfg(d, theta, {
            "rope_type": "longrope", "original_max_position_embeddings": 4096,
            "short_factor": [round(1 + 0.01 * i, 4) for i in range(d // 2)],
            "long_factor": [round(1 + 0.7 * i, 4) for i in range(d // 2)]}, max_pos=131072), [None, 4096, 4097])
        configs[f"proportional_{t}"] = (cfg(d, theta, {"rope_type": "proportional", "partial_rotary_factor": 0.25,
                                                       "rope_theta": theta}), [None])
    for name, scaling, theta, more in (
            ("yarn_check_theta5e6", y(262144), 5e6, {"max_pos": 1048576}),
            ("yarn_check_theta1e7", y(262144), 1e7, {"max_pos": 1048576}),
            ("yarn_deepseek_r1_0528", y(32768, attn_factor=0.8782488562869419), 1e6, {"max_pos": 131072}),
            ("yarn_attention_factor", y(32768, attention_factor=0.9), 1e6, {"max_pos": 131072}),
            ("yarn_mscale", y(32768, mscale=0.707, mscale_all_dim=1.0), 1e6, {"max_pos": 131072}),
            ("yarn_mscale_zero", y(32768, mscale=1.0, mscale_all_dim=0), 1e6, {"max_pos": 131072}),
            ("yarn_betas", y(32768, beta_fast=16, beta_slow=2), 1e6, {"max_pos": 131072}),
            ("yarn_betas_zero", y(32768, beta_fast=0, beta_slow=None), 1e6, {"max_pos": 131072}),
            ("yarn_factor1", y(32768, factor=1.0), 1e6, {"max_pos": 32768}),
            ("yarn_factor_null", y(32768, factor=None), 1e6, {"max_pos": 131072}),
            ("yarn_no_original", {"rope_type": "yarn", "factor": 4.0}, 1e6, {"max_pos": 40960}),
            ("yarn_original_toplevel", y(65536), 1e6, {"max_pos": 131072,
                                                       "original_max_position_embeddings": 32768}),
            ("yarn_low_equals_high", y(3.0, beta_fast=1, beta_slow=1), 1e4, {"max_pos": 64}),
            ("yarn_tiny_original", y(16), 1e6, {"max_pos": 64}),
            ("longrope_factor", {"rope_type": "longrope", "original_max_position_embeddings": 4096, "factor": 16.0,
                                 "short_factor": [1.0] * 64, "long_factor": [float(1 + i) for i in range(64)]}, 1e4,
             {"max_pos": 131072}),
            ("longrope_attention_factor", {"rope_type": "longrope", "original_max_position_embeddings": 4096,
                                           "attention_factor": 1.19, "short_factor": [1.0] * 64,
                                           "long_factor": [float(1 + i) for i in range(64)]}, 1e4,
             {"max_pos": 131072}),
    ):
        configs[name] = (cfg(128, theta, scaling, **more), [None, 4097] if "longrope" in name else [None])

    positions = torch.tensor([0, 1, 100, 4095, 40959, 262143])
    tables = ("default_d128_theta1e6", "default_d64_theta1e4", "default_d128_theta5e6", "default_d128_theta1e7",
              "linear_d128_theta1e6", "yarn_d128_theta1e6", "yarn_d64_theta5e6", "yarn_check_theta5e6",
              "yarn_deepseek_r1_0528", "llama3_d128_theta1e6")
    tensors, described = {"positions": positions}, {}
    for name, (c, lengths) in configs.items():
        config = Qwen3Config(hidden_size=256, num_attention_heads=2, **json.loads(json.dumps(c)))
        kind = config.rope_parameters["rope_type"]
        rows = []
        for length in lengths:
            if kind == "default":
                inv, factor = Rotary.compute_default_rope_parameters(config)
            else:
                # the model hands over the length as a tensor, which keeps the base in float32
                seq = None if length is None else torch.tensor(length) if kind == "dynamic" else length
                inv, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"), seq_len=seq)
            key = name if length is None else f"{name}@{length}"
            tensors[key + ".inv_freq"] = inv.float().clone()
            rows.append({"seq_len": length, "tensor": key + ".inv_freq", "attention_scaling": float(factor)})
        described[name] = {"config": c, "tables": rows}
        if name in tables:
            rotary = Rotary(config=config)
            cos, sin = rotary(torch.zeros(1), positions[None])
            tensors[name + ".cos"], tensors[name + ".sin"] = cos[0].clone(), sin[0].clone()
            described[name]["cos_sin"] = [name + ".cos", name + ".sin"]
    write_safetensors(os.path.join(folder, "rope_tables.safetensors"), tensors)
    with open(os.path.join(folder, "rope_tables.json"), "w") as f:
        json.dump({"note": "inv_freq f32[d/2] and attention_scaling by kind and sequence length (null: as at load); "
                           "cos/sin f32[6,d] at `positions`, attention scaling applied; dense Qwen3 config keys",
                   "configs": described}, f, separators=(",", ":"))
        f.write("\n")


def processor_table(folder):
    from transformers.generation import logits_process as lp
    g = torch.Generator().manual_seed(20)
    inf = float("inf")
    plans = [
        {"temperature": 0.6}, {"temperature": 2.5}, {"top_k": 1}, {"top_k": 5}, {"top_k": 1000}, {"top_p": 0.9},
        {"top_p": 0.0}, {"top_p": 0.02}, {"top_p": 0.999}, {"min_p": 0.05}, {"min_p": 1.0},
        {"repetition_penalty": 1.05}, {"repetition_penalty": 1.7}, {"repetition_penalty": 0.6},
        {"temperature": 0.6, "top_k": 20, "top_p": 0.95}, {"temperature": 0.7, "top_k": 20, "top_p": 0.8},
        {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05},
        {"temperature": 1.5, "top_k": 50, "min_p": 0.1}, {"temperature": 1.3, "top_p": 0.9, "min_p": 0.05},
        {"repetition_penalty": 1.3, "temperature": 0.8, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
        {"repetition_penalty": 1.2, "top_k": 3}, {"temperature": 0.05, "top_p": 0.5}, {},
        {"top_k": 4, "ties": True}, {"top_k": 10, "ties": True, "temperature": 0.9},
        {"top_k": 6, "top_p": 0.97, "infs": 20}, {"top_p": 0.9, "infs": 60}, {"min_p": 0.1, "infs": 40},
        {"repetition_penalty": 1.4, "infs": 30}, {"top_k": 8, "infs": -3}, {"temperature": 0.6, "infs": -1},
        {"repetition_penalty": 1.1, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "infs": 50},
    ]
    tensors, cases = {}, []
    for i, plan in enumerate(plans):
        V = [64, 97, 173, 200][i % 4]
        p = dict(plan)
        ties, infs = p.pop("ties", False), p.pop("infs", 0)
        tries = itertools.count()
        while True:
            x = torch.randn(1, V, generator=g) * 2.5
            if ties:  # several equal values around the k-th
                k = p["top_k"]
                order = x[0].argsort(descending=True)
                x[0, order[k - 2:k + 3]] = x[0, order[k - 1]].clone()
            if infs:
                count = infs if infs > 0 else V + infs
                x[0, torch.randperm(V, generator=g)[:count]] = -inf
            history = torch.randint(0, V, (1, 40), generator=g)
            s, ok = x.clone(), True
            if "repetition_penalty" in p:
                s = lp.RepetitionPenaltyLogitsProcessor(float(p["repetition_penalty"]))(history, s)
            if p.get("temperature", 1.0) != 1.0:
                s = lp.TemperatureLogitsWarper(float(p["temperature"]))(history, s)
            if p.get("top_k"):
                s = lp.TopKLogitsWarper(p["top_k"])(history, s)
            if p.get("top_p", 1.0) < 1.0:
                before = torch.softmax(s.double(), -1)[0].sort(descending=True).values
                cum = before.cumsum(0) - before  # mass above each token; it stays while below top_p
                ok = ok and (cum[1:] - p["top_p"]).abs().min().item() > 1e-5
                s = lp.TopPLogitsWarper(float(p["top_p"]))(history, s)
            if "min_p" in p:
                q = torch.softmax(s.double(), -1)[0]
                ratio = q / q.max()
                ok = ok and (p["min_p"] == 1.0 or (ratio - p["min_p"]).abs().min().item() > 1e-5)
                s = lp.MinPLogitsWarper(float(p["min_p"]))(history, s)
            if ok:
                break
            assert next(tries) < 1000, p
        n = f"{i:02}"
        tensors[n + ".logits"] = x[0].clone()
        tensors[n + ".history"] = history[0].clone()
        tensors[n + ".scores"] = s[0].clone()
        tensors[n + ".probs"] = torch.softmax(s, -1)[0].clone()
        tensors[n + ".probs64"] = torch.softmax(s.double(), -1)[0].clone()
        cases.append({"name": n, "vocab": V, "ties_at_k": ties, "params": p, "kept": int((s > -inf).sum())})
    write_safetensors(os.path.join(folder, "logits_processors.safetensors"), tensors)
    with open(os.path.join(folder, "logits_processors.json"), "w") as f:
        json.dump({"note": "per case NN: NN.logits f32[V], NN.history i64[40] (ids the penalty counts), NN.scores f32[V] "
                           "after the processors in Transformers' order (repetition penalty, temperature, top-k, "
                           "top-p, min-p), NN.probs f32 and NN.probs64 f64 its softmax; absent keys are off",
                   "cases": cases}, f, indent=1)
        f.write("\n")


def router_table(folder):
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeTopKRouter
    g = torch.Generator().manual_seed(21)
    tensors, cases = {}, []
    for E, k, norm, dtype in itertools.product((6, 8, 128, 160), (1, 2, 8), (True, False),
                                               (torch.float32, torch.bfloat16)):
        if k > E:
            continue
        router = Qwen3MoeTopKRouter(Qwen3MoeConfig(hidden_size=E, num_experts=E, num_experts_per_tok=k,
                                                   norm_topk_prob=norm)).to(dtype)
        with torch.no_grad():
            router.weight.copy_(torch.eye(E))
            x = torch.randn(12, E, generator=g).to(dtype) * 2
            if dtype == torch.bfloat16:  # no equal logits, whose order is nobody's promise
                x = torch.stack([(torch.randperm(E, generator=g).float() / E * 6 - 3).to(dtype) for _ in range(12)])
            logits, weights, experts = router(x)
        assert torch.equal(logits, x)
        n = f"e{E}_k{k}_{'norm' if norm else 'raw'}_{DTYPES[dtype].lower()}"
        tensors |= {n + ".logits": logits.clone(), n + ".weights": weights.clone(), n + ".experts": experts.clone()}
        cases.append({"name": n, "experts": E, "top_k": k, "norm_topk_prob": norm, "dtype": DTYPES[dtype]})
    write_safetensors(os.path.join(folder, "router.safetensors"), tensors)
    with open(os.path.join(folder, "router.json"), "w") as f:
        json.dump({"note": "Qwen3MoeTopKRouter: logits [12,E] in, weights [12,k] in the logits' dtype and experts "
                           "i64[12,k] out, best first", "cases": cases}, f, indent=1)
        f.write("\n")


# ---------------------------------------------------------------------------


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--candidates", type=int, default=160, help="prompts to choose from")
    args = parser.parse_args()

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(min(4, os.cpu_count() or 1))
    versions = {"transformers": transformers.__version__, "torch": torch.__version__,
                "python": platform.python_version()}
    print(json.dumps(versions), torch.backends.cpu.get_cpu_capability(), flush=True)

    os.makedirs(os.path.join(args.output, "extra"), exist_ok=True)
    entries, failed = [], []
    with tempfile.TemporaryDirectory() as temp:
        for c in CASES:
            if args.only not in c["name"]:
                continue
            start = time.time()
            try:
                entry = make_case(args.output, temp, c, args.candidates)
            except Exception as e:
                failed.append({"name": c["name"], "shows": c["shows"],
                               "error": f"{type(e).__name__}: {str(e).strip()}"[:400]})
                shutil.rmtree(os.path.join(args.output, c["name"]), ignore_errors=True)
                print(f"{c['name']}: FAILED {failed[-1]['error']}", flush=True)
                continue
            entries.append(entry)
            keys = ("mean_margin", "min_greedy_margin", "max_diff_to_wider_dtype", "prompt_step_diff",
                    "max_diff_decode_to_one_pass", "min_router_gap", "max_diff_to_eager_experts",
                    "max_diff_without_feature", "greedy_changed_without_feature", "bytes")
            print(f"{c['name']} {time.time() - start:.1f}s",
                  " ".join(f"{k}={entry[k]}" for k in keys if k in entry), flush=True)
        probes = [{"what": what, "changes": {k: None if v is ABSENT else v for k, v in changes.items()},
                   "absent": [k for k, v in changes.items() if v is ABSENT], **probe(temp, merged(base, changes))}
                  for what, base, changes in PROBES]
    for p in probes:
        print(json.dumps({k: v for k, v in p.items() if k not in ("changes", "absent")}))
    extra = os.path.join(args.output, "extra")
    rope_table(extra)
    processor_table(extra)
    router_table(extra)
    with open(os.path.join(args.output, "manifest.json"), "w") as f:
        json.dump({"versions": versions, "note": "made by tools/make_goldens.py; see there what a case's files hold",
                   "cases": entries, "refused": failed, "probes": probes}, f, indent=1)
        f.write("\n")
    print(f"{len(entries)} cases, {sum(e.get('bytes', 0) for e in entries)} bytes made, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
