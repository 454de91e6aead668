#!/usr/bin/env python3
"""Trains a demo model from scratch on one GPU and writes it as a Hugging Face folder.

train.py data ROWS.npz --tokenizer DIR           makes the training rows (all cores)
train.py dense|moe ROWS.npz OUT --tokenizer DIR  trains, writes OUT, says how the held-out prompts go
"""
import argparse
import json
import math
import multiprocessing
import pathlib
import random
import shutil
import time

import numpy as np

import make_data

ROW = 640  # tokens of a training row; no example is longer

COMMON = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": None, "eos_token_id": None, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 192, "initializer_range": 0.02, "max_position_embeddings": 2048, "num_attention_heads": 4, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
    "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False, "vocab_size": 4096,
}
CONFIGS = {
    "dense": dict(COMMON, architectures=["Qwen3ForCausalLM"], model_type="qwen3", intermediate_size=384, num_hidden_layers=6,
                  max_window_layers=6),
    "moe": dict(COMMON, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", intermediate_size=384, num_hidden_layers=5,
                max_window_layers=5, decoder_sparse_step=1, mlp_only_layers=[], moe_intermediate_size=64, norm_topk_prob=True,
                num_experts=8, num_experts_per_tok=2, output_router_logits=False, router_aux_loss_coef=0.001),
}


# ---------------------------------------------------------------- data

def make_rows(job):
    """Packs one shard's examples into rows: ids, which example each token is of, loss weights."""
    seed, count, path = job
    from tokenizers import Tokenizer
    tokenizer, rng = Tokenizer.from_file(path), random.Random(seed)
    held, encoded = make_data.held_questions(), []
    for _ in range(count):
        example = make_data.train_example(rng)
        if "messages" in example and example["messages"][-1]["content"] in held:
            continue
        prompt, answer = make_data.texts(example)
        p = tokenizer.encode(prompt, add_special_tokens=False).ids
        a = tokenizer.encode(answer, add_special_tokens=False).ids
        if len(p) + len(a) <= ROW:
            encoded.append((p, a))
    rows = []  # [free, [examples]]; first fit among the rows that are not full yet
    for p, a in encoded:
        n = len(p) + len(a)
        row = next((r for r in rows[-40:] if r[0] >= n), None)
        if row is None:
            row = [ROW, []]
            rows.append(row)
        row[0] -= n
        row[1].append((p, a))
    ids = np.zeros((len(rows), ROW), np.int16)
    part = np.zeros((len(rows), ROW), np.uint8)
    place = np.zeros((len(rows), ROW), np.int16)
    weight = np.zeros((len(rows), ROW), np.float16)
    for i, (_, examples) in enumerate(rows):
        at = 0
        for k, (p, a) in enumerate(examples):
            n = len(p) + len(a)
            ids[i, at:at + n], part[i, at:at + n], place[i, at:at + n] = p + a, k + 1, range(n)
            # Longer answers count for more, but not in proportion: a sum is as much to learn as a story.
            weight[i, at + len(p):at + n] = len(a) ** -0.5
            if not p:
                weight[i, at] = 0  # nothing comes before a raw text's first token
            at += n
    return ids, part, place, weight


def make_all_rows(args):
    start = time.time()
    jobs = [(args.seed * 100000 + shard, args.per_shard, str(args.tokenizer / "tokenizer.json")) for shard in range(args.shards)]
    with multiprocessing.Pool() as pool:
        shards = pool.map(make_rows, jobs, chunksize=1)
    ids, part, place, weight = (np.concatenate(x) for x in zip(*shards))
    np.savez(args.rows, ids=ids, part=part, place=place, weight=weight)
    print(f"{len(ids)} rows, {(part > 0).sum() / 1e6:.1f}M tokens, {(part > 0).mean():.3f} full, {time.time() - start:.0f} s", flush=True)


# ---------------------------------------------------------------- model

def full_config(kind, tokenizer):
    config = dict(CONFIGS[kind])
    config["bos_token_id"], config["eos_token_id"] = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    return config


def new_model(kind, config, seed):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
    torch.manual_seed(seed)
    plain = {k: v for k, v in config.items() if k not in ("torch_dtype", "architectures", "model_type")}
    made = Qwen3Config(**plain) if kind == "dense" else Qwen3MoeConfig(**plain)
    made._attn_implementation = "sdpa"
    return (Qwen3ForCausalLM if kind == "dense" else Qwen3MoeForCausalLM)(made).float()


def compute_all_experts():
    """The same function as Transformers' experts, written as two matrix products over all of them: fast while they are this small."""
    import torch
    from transformers.models.qwen3_moe import modeling_qwen3_moe as m

    def experts(self, x, chosen, shares):
        dense = torch.zeros(x.shape[0], self.num_experts, dtype=shares.dtype, device=x.device).scatter(1, chosen, shares)
        gate, up = torch.nn.functional.linear(x, self.gate_up_proj.flatten(0, 1)).unflatten(1, (self.num_experts, -1)).chunk(2, dim=-1)
        h = self.act_fn(gate) * up * dense.unsqueeze(-1)
        return torch.nn.functional.linear(h.flatten(1), self.down_proj.permute(1, 0, 2).flatten(1))

    plain_router = m.Qwen3MoeTopKRouter.forward

    def router(self, x):
        logits, shares, chosen = plain_router(self, x)
        probs = logits.float().softmax(-1)
        used = torch.zeros_like(probs).scatter(1, chosen, 1.0)
        self.imbalance = self.num_experts * (used.mean(0) * probs.mean(0)).sum() / self.top_k
        return logits, shares, chosen

    m.Qwen3MoeExperts.forward = experts
    m.Qwen3MoeTopKRouter.forward = router


def save(kind, model, config, args):
    """Writes the folder: weights as bfloat16 under their published names, config.json with the keys that Qwen3's have."""
    import torch
    from tokenizers import Tokenizer
    out = args.out
    out.mkdir(parents=True, exist_ok=True)
    model.to("cpu", torch.bfloat16).save_pretrained(out)
    (out / "config.json").write_text(json.dumps(dict(sorted(config.items())), indent=2) + "\n")
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    end, stop = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    (out / "generation_config.json").write_text(
        json.dumps({"bos_token_id": end, "do_sample": False, "eos_token_id": [stop, end], "pad_token_id": end}, indent=2) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if args.tokenizer.resolve() != out.resolve():
            shutil.copyfile(args.tokenizer / name, out / name)


# ---------------------------------------------------------------- training

def train(args):
    import torch
    from tokenizers import Tokenizer
    torch.backends.cuda.matmul.allow_tf32 = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = args.what
    if kind == "moe":
        compute_all_experts()
    config = full_config(kind, Tokenizer.from_file(str(args.tokenizer / "tokenizer.json")))
    model = new_model(kind, config, args.seed).to(device)
    count = sum(p.numel() for p in model.parameters())
    print(f"{kind}: {count / 1e6:.2f}M parameters, {count * 2 / 1e6:.2f} MB", flush=True)
    rows = np.load(args.rows)
    data = {k: torch.from_numpy(rows[k]).to(device) for k in ("ids", "part", "place", "weight")}
    total = len(data["ids"])
    causal = torch.ones(ROW, ROW, dtype=torch.bool, device=device).tril()

    def loss_of(ids, part, place, weight):
        mask = (part[:, :, None] == part[:, None, :]) & causal
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = model(input_ids=ids, position_ids=place, attention_mask=mask[:, None], use_cache=False).logits
        each = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        weight = weight[:, 1:].flatten()
        loss = (each * weight).sum() / weight.sum()
        if kind == "moe":
            return loss, sum(layer.mlp.gate.imbalance for layer in model.model.layers) / len(model.model.layers)
        return loss, loss.detach() * 0

    step_loss = torch.compile(loss_of, dynamic=False, backend=args.backend) if args.backend != "none" else loss_of
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=args.lr,
                                  betas=(0.9, 0.98), fused=device == "cuda")
    generator = torch.Generator().manual_seed(args.seed)
    order, at, step, progress = torch.randperm(total, generator=generator), 0, 0, 0.0
    begin = last = time.time()
    shown = []
    model.train()
    while progress < 1 and step < args.steps:
        if at + args.batch > total:
            order, at = torch.randperm(total, generator=generator), 0
        pick = order[at:at + args.batch].to(device)
        at += args.batch
        rate = args.lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, imbalance = step_loss(data["ids"][pick].long(), data["part"][pick], data["place"][pick].long(), data["weight"][pick].float())
        (loss + 0.01 * imbalance).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        shown.append(loss.detach())
        if step == 20:
            loss.item()
            begin = time.time()  # compiling is not training
            last, shown = time.time(), []
        elapsed = time.time() - begin
        progress = step / args.steps if args.max_seconds is None else max(step / args.steps, elapsed / args.max_seconds)
        if step % 250 == 0:
            mean = torch.stack(shown).mean().item()
            print(f"{kind} step {step} loss {mean:.4f} imbalance {float(imbalance):.3f} rate {rate:.2e} "
                  f"{len(shown) * args.batch * ROW / (time.time() - last) / 1e6:.2f}M tokens/s {time.time() - begin:.0f} s", flush=True)
            last, shown = time.time(), []
    print(f"{kind}: {step} steps, {time.time() - begin:.0f} s", flush=True)
    save(kind, model, config, args)


def try_out(args):
    """A first look at the held-out prompts with Transformers; the gate itself is evaluate.py."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    import judge
    start = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(args.out, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.bfloat16).to(device).eval()
    tests = make_data.held_prompts()
    order = sorted(range(len(tests)), key=lambda i: len(tests[i]["prompt"]))
    tally, texts = judge.Tally(), {}
    for first in range(0, len(order), 320):
        group = order[first:first + 320]
        inputs = tokenizer([tests[i]["prompt"] for i in group], return_tensors="pt", padding=True).to(device)
        with torch.no_grad():
            out = model.generate(**inputs, max_new_tokens=112, do_sample=False)[:, inputs.input_ids.shape[1]:]
        for i, ids in zip(group, out):
            texts[i] = tokenizer.decode(ids, skip_special_tokens=True)
    for i, test in enumerate(tests):
        tally.add(test, texts[i])
    print("\n".join([args.what, *tally.lines()]), f"{time.time() - start:.0f} s", flush=True)
    if args.wrong:
        args.wrong.write_text("".join(json.dumps(w, ensure_ascii=False) + "\n" for w in tally.wrong))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "dense", "moe"])
    parser.add_argument("rows", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path, nargs="?")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="folder that make_tokenizer.py wrote")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shards", type=int, default=80)
    parser.add_argument("--per-shard", type=int, default=20000, help="examples of a shard")
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--max-seconds", type=float, help="end the schedule by then even if steps are left (not repeatable)")
    parser.add_argument("--batch", type=int, default=80, help="rows of a step")
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--backend", default="inductor", help="torch.compile's, or none")
    parser.add_argument("--wrong", type=pathlib.Path, help="write wrong answers to held-out prompts here")
    args = parser.parse_args()
    if args.what == "data":
        make_all_rows(args)
        return
    train(args)
    try_out(args)


if __name__ == "__main__":
    main()
