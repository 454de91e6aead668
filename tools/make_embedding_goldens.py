#!/usr/bin/env python3
"""Make the golden checkpoints under tests/data/goldens_embedding with Transformers and sentence-transformers.

    python3 tools/make_embedding_goldens.py tests/data/goldens_embedding

Needs torch, transformers (5.17 was used), sentence-transformers (see manifest.json for the version) and safetensors.
Every case is one folder: a tiny checkpoint with random weights and a tokenizer of some 300 tokens, and expected.json.
Of an embedding model that holds
  texts   [{"text", "prompt_name"?, "instruction"?, "dimensions"?, "max_length"?, "input_ids", "embedding"}]
where `embedding` is what SentenceTransformer.encode gives for each text by itself, or, where the folder has no
modules.json, the last row of AutoModel's last_hidden_state, normalised. Of a reranker
  pairs   [{"instruction"?, "query", "document", "input_ids", "score"}]
as the code on Qwen3-Reranker's model card computes it.
"""

import argparse
import json
import os
import pathlib
import shutil

import sentence_transformers
import torch
import transformers
from make_goldens import DENSE, MOE, make_weights, merged, write_safetensors
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
ADDED = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
WORDS = ["yes", "no", "the", " the", " of", " and", " is", "query", "ing", "er"]
TASK = "Given a web search query, retrieve relevant passages that answer the query"
PROMPTS = {"query": f"Instruct: {TASK}\nQuery:", "document": ""}
TEXTS = [
    "The neuron doctrine", "a", "", "  spaces around  ", "神经元 are drawn by Ramón y Cajal 🧠",
    "What is 47 + 38?\nIt is 85.", "control <|im_end|> token", "long text " * 30,
]

# What Qwen3's pre-tokenizer splits by, and the bytes of byte-level BPE.
QWEN3 = json.loads((HERE / "../tests/data/qwen3-tokenizer/tokenizer.json").read_text())


def byte_alphabet():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def tokenizer_json(end_token):
    """A tokenizer of all bytes and some words; with `end_token` its post-processor appends <|endoftext|>."""
    alphabet = byte_alphabet()
    vocab, merges = {c: i for i, c in enumerate(alphabet[b] for b in range(256))}, []
    for word in WORDS:
        pieces = [alphabet[b] for b in word.encode()]
        while len(pieces) > 1:
            merge = [pieces[0], pieces[1]]
            if "".join(merge) not in vocab:
                vocab["".join(merge)] = len(vocab)
                merges.append(merge)
            pieces[:2] = ["".join(merge)]
    added = [{"id": len(vocab) + i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": t.startswith("<|")} for i, t in enumerate(ADDED)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    end = {"id": ADDED[0], "ids": [added[0]["id"]], "tokens": [ADDED[0]]}
    special = {"SpecialToken": {"id": ADDED[0], "type_id": 0}}
    text = [{"Sequence": {"id": i, "type_id": 0}} for i in "AB"]
    template = {"type": "TemplateProcessing", "single": [text[0], special], "pair": [text[0], special, text[1], special],
                "special_tokens": {ADDED[0]: end}}
    post = {"type": "Sequence", "processors": [byte_level, template]} if end_token else byte_level
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": QWEN3["normalizer"], "pre_tokenizer": QWEN3["pre_tokenizer"], "post_processor": post,
            "decoder": QWEN3["decoder"],
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": vocab, "merges": merges}}


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def modules(*names):
    return [{"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{n}",
             "type": f"sentence_transformers.models.{n}"} for i, n in enumerate(names)]


def pooling(hidden, kind):
    kinds = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    return {"word_embedding_dimension": hidden, **{f"pooling_mode_{k}": k == kind for k in kinds},
            "include_prompt": True}


def write_checkpoint(folder, case):
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer = tokenizer_json(case.get("end_token", True))
    size = len(tokenizer["model"]["vocab"]) + len(ADDED)
    cfg = merged(case["base"], {"vocab_size": size, "eos_token_id": size - len(ADDED), **case["config"]})
    head = "ForCausalLM" if case["head"] else "Model"
    cfg["architectures"] = [("Qwen3Moe" if case["base"] is MOE else "Qwen3") + head]
    dump(folder / "config.json", cfg)
    dump(folder / "tokenizer.json", tokenizer)
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer", "pad_token": ADDED[0], "eos_token": ADDED[2],
                                            "model_max_length": 131072, "split_special_tokens": False})
    weights = make_weights(cfg, case["seed"])
    if not case["head"] or cfg["tie_word_embeddings"]:
        weights.pop("lm_head.weight")
    if not case["head"]:
        weights = {n.removeprefix("model."): t for n, t in weights.items()}
    dtype = getattr(torch, cfg["torch_dtype"])
    write_safetensors(folder / "model.safetensors", {n: t.to(dtype) for n, t in weights.items()})
    if case.get("pooling"):
        names = ["Transformer", "Pooling", *(["Normalize"] if case.get("normalize", True) else [])]
        dump(folder / "modules.json", modules(*names))
        dump(folder / "1_Pooling/config.json", pooling(cfg["hidden_size"], case["pooling"]))
        dump(folder / "config_sentence_transformers.json",
             {"prompts": PROMPTS, "default_prompt_name": case.get("default_prompt_name"), "similarity_fn_name": "cosine"})
    return cfg


def load(kind, folder, **more):
    model, info = kind.from_pretrained(folder, attn_implementation="eager", output_loading_info=True, **more)
    wrong = {k: sorted(v) for k, v in info.items() if v and not (k == "unexpected_keys" and list(v) == ["lm_head.weight"])}
    assert not wrong, wrong
    return model.eval()


def wanted_texts(case):
    yield from ({"text": t} for t in TEXTS)
    if not case.get("pooling"):
        return
    for name in PROMPTS:
        yield {"text": TEXTS[0], "prompt_name": name}
    yield {"text": TEXTS[0], "instruction": "Find the proof"}
    for dimensions in (1, 5, 16):
        yield {"text": TEXTS[5], "dimensions": dimensions}
    yield {"text": TEXTS[7], "max_length": 40}


def prefix_of(case, wanted):
    if "instruction" in wanted:
        return f"Instruct: {wanted['instruction']}\nQuery:"
    return PROMPTS.get(wanted.get("prompt_name", case.get("default_prompt_name")), "")


def embeddings(folder, case):
    dtype = torch.float32
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load(AutoModel, folder, dtype=dtype)
    st = None
    if case.get("pooling"):
        st = SentenceTransformer(str(folder), device="cpu",
                                 model_kwargs={"dtype": dtype, "attn_implementation": "eager"})
        st.max_seq_length = 1 << 17
    for wanted in wanted_texts(case):
        cut = {"truncation": True, "max_length": wanted["max_length"]} if "max_length" in wanted else {}
        ids = tokenizer(prefix_of(case, wanted) + wanted["text"], **cut)["input_ids"]
        with torch.no_grad():
            model(input_ids=torch.tensor([[0]]))  # dynamic frequencies stay as a longer text left them until a short one
            rows = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        dimensions = wanted.get("dimensions")
        # Cut, then normalised where the model normalises.
        vector = {"lasttoken": rows[-1], "mean_tokens": rows.mean(0), "cls_token": rows[0]}[case.get("pooling", "lasttoken")]
        vector = vector[:dimensions]
        if case.get("normalize", True):
            vector = torch.nn.functional.normalize(vector, dim=0)
        if st and not cut:
            names = {"prompt_name": wanted["prompt_name"]} if "prompt_name" in wanted else {}
            if "instruction" in wanted:
                names = {"prompt": prefix_of(case, wanted)}
            st.encode("a", prompt="")
            other = st.encode(wanted["text"], truncate_dim=dimensions, convert_to_tensor=True,
                              normalize_embeddings=case.get("normalize", True), **names)
            difference = (other - vector).abs().max().item()
            assert difference < 1e-6, (wanted, difference)
            vector = other
        yield {**wanted, "input_ids": ids, "embedding": [float(f"{x:.9g}") for x in vector.tolist()]}


PREFIX = ("<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
          "provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n")
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
PAIRS = [(None, "Who drew the neuron?", d) for d in
         ("Ramón y Cajal drew the neuron.", "Water boils.", "", "the query of yes and no " * 12)] + [
             ("Find the proof", "47 + 38", "85"), ("Find the proof", "", "is\nthe sum")]


def scores(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load(AutoModelForCausalLM, folder, dtype=torch.float32)
    around = [tokenizer.encode(t, add_special_tokens=False) for t in (PREFIX, SUFFIX)]
    no, yes = (tokenizer.convert_tokens_to_ids(w) for w in ("no", "yes"))
    for instruction, query, document in PAIRS:
        body = f"<Instruct>: {instruction or TASK}\n<Query>: {query}\n<Document>: {document}"
        ids = around[0] + tokenizer([body])["input_ids"][0] + around[1]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        score = torch.nn.functional.log_softmax(torch.stack([logits[no], logits[yes]]), dim=0)[1].exp().item()
        more = {"instruction": instruction} if instruction else {}
        yield {**more, "query": query, "document": document, "input_ids": ids, "score": score}


CASES = {
    "dense": {"shows": "Qwen3Model without prefix and head", "base": DENSE, "head": False, "pooling": "lasttoken",
              "config": {"tie_word_embeddings": True}},
    "dense_untied": {"shows": "an untied Qwen3Model without a head; the mean, not normalised; a default prompt",
                     "base": DENSE, "head": False, "pooling": "mean_tokens", "normalize": False,
                     "default_prompt_name": "query", "config": {"tie_word_embeddings": False}},
    "dense_cls": {"shows": "the first token, bf16 on disk", "base": DENSE, "head": False, "pooling": "cls_token",
                  "config": {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}},
    "moe": {"shows": "Qwen3MoeModel without prefix and head", "base": MOE, "head": False, "pooling": "lasttoken",
            "config": {"tie_word_embeddings": False}},
    "causal": {"shows": "the base model inside of a Qwen3ForCausalLM, no modules.json, yarn", "base": DENSE, "head": True,
               "config": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}}},
    "dynamic": {"shows": "frequencies that depend on the text's length", "base": DENSE, "head": False,
                "pooling": "lasttoken", "config": {"tie_word_embeddings": True, "max_position_embeddings": 64,
                                                   "rope_scaling": {"rope_type": "dynamic", "factor": 8.0}}},
    "reranker": {"shows": "a reranker with a head of its own", "base": DENSE, "head": True, "rerank": True,
                 "end_token": False, "config": {"max_position_embeddings": 1024}},
    "reranker_moe": {"shows": "a reranker of experts whose tokenizer appends an end token", "base": MOE, "head": True,
                     "rerank": True, "config": {"tie_word_embeddings": True, "max_position_embeddings": 1024}},
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=pathlib.Path)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    for seed, (name, case) in enumerate(CASES.items()):
        folder = args.output / name
        write_checkpoint(folder, case | {"seed": 1000 + seed})
        dump(folder / "expected.json", {"pairs": list(scores(folder))} if case.get("rerank")
             else {"texts": list(embeddings(folder, case))})
        print(name, sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()), "bytes", flush=True)
    dump(args.output / "manifest.json", {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__,
                     "sentence_transformers": sentence_transformers.__version__},
        "note": "made by tools/make_embedding_goldens.py; see there what a case's files hold",
        "cases": {name: case["shows"] for name, case in CASES.items()}})


if __name__ == "__main__":
    main()
