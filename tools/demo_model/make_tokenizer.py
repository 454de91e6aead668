#!/usr/bin/env python3
"""Trains the demo models' tokenizer: byte-level BPE with Qwen's split pattern and Qwen3's special tokens.

make_tokenizer.py DIR    writes DIR/tokenizer.json, DIR/tokenizer_config.json
"""
import argparse
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import make_data

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|>
<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
ADDED = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>
<tool_response> </tool_response> <think> </think>""".split()
VOCAB_SIZE = 4096  # the added tokens are its last ones
MAX_LENGTH = 2048


def corpus(count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        text = "".join(make_data.texts(make_data.train_example(rng)))
        for token in SPECIAL + ADDED:
            text = text.replace(token, "\n")
        yield text


def train(count, seed):
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE - len(SPECIAL) - len(ADDED), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  min_frequency=5, show_progress=False)
    tokenizer.train_from_iterator(corpus(count, seed), trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in ADDED])
    return tokenizer


def config_of(tokenizer, template):
    added = {}
    for token in SPECIAL + ADDED:
        added[str(tokenizer.token_to_id(token))] = {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                                                    "special": token in SPECIAL}
    return {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": added, "additional_special_tokens": SPECIAL[1:],
            "bos_token": None, "chat_template": template, "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "model_max_length": MAX_LENGTH, "pad_token": "<|endoftext|>", "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=60000, help="examples to learn from")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    tokenizer = train(args.count, args.seed)
    assert tokenizer.get_vocab_size() == VOCAB_SIZE, tokenizer.get_vocab_size()
    tokenizer.save(str(args.dir / "tokenizer.json"), pretty=False)
    template = (pathlib.Path(__file__).parent / "chat_template.jinja").read_text().rstrip("\n")
    (args.dir / "tokenizer_config.json").write_text(json.dumps(config_of(tokenizer, template), indent=2, ensure_ascii=False) + "\n")
    print(f"{tokenizer.get_vocab_size()} tokens, <|endoftext|> is {tokenizer.token_to_id('<|endoftext|>')}")


if __name__ == "__main__":
    main()
