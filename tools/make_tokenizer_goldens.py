#!/usr/bin/env python3
"""Writes tests/data/text/tokenizer_goldens.json: what the Hugging Face tokenizers library answers.

Three parts: texts through Qwen3's tokenizer, ids through its decoder, and variants of a small tokenizer that exercise what
Qwen3's does not use. Needs `pip install tokenizers`; the tests need the file alone.
"""
import copy
import json
import pathlib
import random

import tokenizers
from tokenizers import Tokenizer

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data"
RANDOM = random.Random(20261121)

QUIRKS = """I'm you're IT'S we'VE he'd o'clock|it'\u017fun '\u017f|rock\u2019n\u2019roll|1234567890 3.14 \u0663\u0664 \u00b2\u00bd\u216b|a     b|\
a\t\t b|x  \n  \n\n  y|!\n|?!\r\n\r\n x|\u00a0a\u3000b\u2003c\u0085d\u2028e|\u200dab\u200ccd\ufeffef\u00adgh|\x00\x01\x7f a\x00b|\u0301abc \u0301\
|cafe\u0301 A\u030a|\u212a \u2126 \uf900 \u0344|\u1112\u1161\u11ab \u1100\u1161 \uac00\u11a8|\u0958 \u2adc \u0958\u093c|a\u0323\u0307 a\u0307\u0323 \u1e69\
|x\u1df9\u0323 \u07fd\u0316 \U0001e130\u0301|\U00011935\U00011930|\U0001f468\u200d\U0001f469\u200d\U0001f467|\U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \
|e\ufffd\u0301|\uff21\uff11\u3000\uff01|\ue000 \U000f0000 \U0010ffff|\ufdd0\ufffe|'|''s|' s|'s's|-'re|\r|\n|\r\n\r| \n| |  |   \n   x| !|  !|\t!a""".split("|")

WORLD = ["The quick brown fox jumps over the lazy dog.", "Größenwahn, Öl und Maß; façade naïve.", "Привет, мир! Как дела?",
         "Η γλώσσα είναι ωραία.", "שלום עולם", "السلام عليكم ٣ مرات", "नमस्ते दुनिया, कैसे हो?", "বাংলা ভাষা", "สวัสดีชาวโลก",
         "你好，世界！今天天气很好。", "日本語のテキスト、カタカナ。", "안녕하세요 세계", "Tiếng Việt có dấu", "ქართული ენა", "Հայերեն",
         "አማርኛ", "தமிழ்", "Cześć, świecie", "🎉🚀 emoji ✨", "∑ x² ≤ ∞ → ℝ", "ⅣⅫ ①②", "ʼn ﬁ ﬀ ß ẞ İ ı"]

CODE = ["def f(x):\n    return x ** 2  # square\n", "for (int i = 0; i < n; ++i) {\n\ta[i] += b[i];\n}\n",
        "SELECT * FROM t WHERE a >= 10 AND b != 'x';", "<div class=\"a\">\r\n\t<p>&nbsp;</p>\r\n</div>", "{\"k\": [1, 2.5, null]}",
        "https://example.org/a?b=c&d=%20#e", "snake_case camelCase kebab-case SCREAMING_CASE", "$ ls -la | grep '^d' && echo ok",
        "\\begin{equation}\n\\alpha^{2}\n\\end{equation}", "0xDEADBEEF 1e-10 1_000"]

TOKENS = ["<|im_start|>user\nhi<|im_end|>\n", "<|im_end", "<|im_end|>>", "<<|im_end|>", "a<think>b</think>c", "<tool_call>\n{}\n</tool_call>",
          "e<|endoftext|>\u0301", "A<|im_end|>\u030a", "  <|im_start|>  ", "<|im_start|><|im_start|>", "<|\u200bim_start|>", "<think",
          "<|fim_prefix|>x<|fim_suffix|>y<|fim_middle|>", "<|IM_START|>", "\u1100<|im_end|>\u1161"]

RUNS = [" " * 1000, "\n" * 200, "a" * 500, "ab" * 300, "1" * 100, "!" * 300, "\u4f60" * 100, "\u0301" * 100, "\t \n" * 50, "x" + " " * 37 + "y",
        "e" + "\u0323\u0301" * 20, "\U0001f600" * 40, "=" * 80 + "\n" + "-" * 80, "\r\n" * 33]


def random_text(pool, longest):
    return "".join(RANDOM.choice(RANDOM.choice(pool)) for _ in range(RANDOM.randint(1, longest)))


def qwen_texts(tokenizer):
    added = [t.content for t in tokenizer.get_added_tokens_decoder().values()]
    everything = [chr(RANDOM.choice([c for c in (RANDOM.randrange(0x110000),) if not 0xD800 <= c < 0xE000] or [65]))
                  for _ in range(4000)]
    marks = [chr(c) for c in range(0x300, 0x370)] + list("\u093c\u0941\u05b4\u0651\u1161\u11a8\u0345")
    pool = [list(" \n\r\t\u00a0\u3000\u2028\u0085"), list("abcdeXYZ"), list("'sStTmMdDlLvVrReE\u017f"), list("0123456789\u0663\u2167"),
            list(".,!?-_/\\(){}[]<>|#"), marks, list("\u4f60\u597d\u3042\uac00\u1100"), everything]
    texts = [""] + QUIRKS + WORLD + CODE + TOKENS + RUNS
    texts += [random_text(pool, 40) for _ in range(250)]
    texts += [random_text(pool + [added, [a[:-1] for a in added]], 16) for _ in range(100)]
    return texts


def qwen(tokenizer):
    cases = []
    for text in qwen_texts(tokenizer):
        ids = tokenizer.encode(text).ids
        cases.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    tokenizer.encode_special_tokens = True
    plain = [{"text": text, "ids": tokenizer.encode(text).ids} for text in TOKENS]
    tokenizer.encode_special_tokens = False
    decoding = []
    for _ in range(200):
        ids = [RANDOM.choice([RANDOM.randrange(151700), RANDOM.randrange(94, 256), RANDOM.randrange(151640, 151675)])
               for _ in range(RANDOM.randint(1, 14))]
        decoding.append({"ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                         "skipped": tokenizer.decode(ids, skip_special_tokens=True)})
    return {"cases": cases, "without_special": plain, "decoding": decoding}


def alphabet():
    printable = list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(0x100 + i) for i in range(len(others))]


MERGES = ["h e", "l l", "ll o", "he llo", "\u0120 hello", "\u0120 \u0120", "1 2", "a b", "b c", "ab c", "\u010a \u010a", "e \u0120", "\u00c3 \u00a9",
          "x x", "xx xx", "c ab"]


def base():
    vocab = {c: i for i, c in enumerate(alphabet())}
    for merge in MERGES:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    vocab["unreached"] = len(vocab)
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": MERGES}}


def added(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False} | flags


def variants():
    """name, members of tokenizer.json to replace, members of its model to replace."""
    def split(pattern, behavior="Isolated", invert=False):
        return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}

    def byte_level(prefix=False, regex=False):
        return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": False, "use_regex": regex}

    def sequence(*parts):
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(parts)}}

    qwen_pattern = json.load(open(DATA / "qwen3-tokenizer" / "tokenizer.json"))["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    out = [("GPT-2", {}, {}),
           ("GPT-2 with prefix space", {"pre_tokenizer": byte_level(True, True)}, {}),
           ("whole text", {"pre_tokenizer": byte_level()}, {}),
           ("whole text with prefix space", {"pre_tokenizer": byte_level(True)}, {}),
           ("three digits", sequence(split({"Regex": qwen_pattern.replace(r"\p{N}|", r"\p{N}{1,3}|")}), byte_level()), {}),
           ("prefix space for every piece", sequence(split({"Regex": qwen_pattern}), byte_level(True)), {}),
           ("empty matches", sequence(split({"Regex": "l*"}), byte_level()), {}),
           ("empty matches removed", sequence(split({"Regex": "(?=l)|x+"}, "Removed"), byte_level()), {}),
           ("line starts", sequence(split({"Regex": r"^[ae]|.$"}), byte_level()), {}),
           ("look-behind", sequence(split({"Regex": r"(?<=l)o|b(?!c)"}), byte_level()), {}),
           ("two splits", sequence(split({"String": "l"}), split({"Regex": r"\s+"}, "MergedWithNext"), byte_level(False, True)), {}),
           ("Qwen's pattern removed", sequence(split({"Regex": qwen_pattern}, "Removed"), byte_level()), {})]
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for pattern in ({"String": "l"}, {"Regex": "[el]"}):
                out.append((f"{behavior} {invert} {pattern}", sequence(split(pattern, behavior, invert), byte_level()), {}))
    nfc = {"normalizer": {"type": "NFC"}}
    flags = [added("<s>", special=True), added("<l>", lstrip=True), added("<r>", rstrip=True), added("<lr>", lstrip=True, rstrip=True),
             added("hell", single_word=True), added("<s><l>"), added(" ", single_word=True), added("\u4e2d\u6587"), added("\u00e9", special=True),
             added("<n>", normalized=True, special=True), added("\u212ab", normalized=True), added("a\u0301", normalized=True, single_word=True)]
    out += [("flags", {"added_tokens": flags}, {}), ("flags and NFC", {"added_tokens": flags} | nfc, {}),
            ("tokens of spaces", {"added_tokens": [added("<r>", rstrip=True), added("  "), added(" x", lstrip=True)]}, {}),
            ("a token of one space that strips", {"added_tokens": [added(" ", lstrip=True, rstrip=True), added("<r>", rstrip=True)]}, {}),
            ("a token of the vocabulary", {"added_tokens": [added("hello", special=True), added("\u0120\u0120")]}, {}),
            ("NFC in a sequence", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFC"}]}}, {}),
            ("ignore_merges", {}, {"ignore_merges": True, "merges": MERGES[:3]}),
            ("pairs", {}, {"merges": [m.split(" ") for m in MERGES]}),
            ("repeated merges", {}, {"merges": ["a b", "#version: 0.2"] + MERGES + ["l l", "a b"]}),
            ("template", {"added_tokens": [added("<s>", special=True), added("</s>", special=True)],
                          "post_processor": {"type": "Sequence", "processors": [
                              {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
                              {"type": "TemplateProcessing",
                               "single": [{"SpecialToken": {"id": "S", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                          {"SpecialToken": {"id": "E", "type_id": 0}}],
                               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                               "special_tokens": {"S": {"id": "S", "ids": ["<s>", "<s>"], "tokens": ["<s>", "<s>"]},
                                                  "E": {"id": "E", "ids": ["</s>"], "tokens": ["</s>"]}}}]},
                          "decoder": {"type": "Sequence", "decoders": [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                                                                         "use_regex": True}, {"type": "Fuse"}]}}, {})]
    for unknown in (None, "<unk>"):
        for fuse in (False, True):
            vocab = {"<unk>": 0}
            for token in ["a", "b", "c", "\u0120", "ab", "l", "ll", "o"]:
                vocab[token] = len(vocab)
            out.append((f"missing bytes, unknown {unknown}, fused {fuse}", {},
                        {"vocab": vocab, "merges": ["a b", "l l"], "unk_token": unknown, "fuse_unk": fuse}))
    return out


TEXTS = ["", "hello", " hello hello", "hellohello  hello", "a b c abc abcab", "12 123 1234567", "he  l l\n\nlo\r\n", "<s>hello<l> <r>  x <lr> \u00a0 x",
         "  <l>  <r>  <lr>  <s> ", "hell hello hell, xhell \u00e9hell \u0301hell", "<s><l><s>", "\u4e2d\u6587 caf\u00e9 cafe\u0301", "\u212ab Kb a\u0301 \u00e1 \u00e1x",
         "unreached", "xxxx xxxxx", "don't I'LL", "x  x   y", "<r>   x", "<r>     ", "   x", "l", "lll", "elle", "a<n>b< n>", "e\u0301<s>\u0301"]


def variant_cases(tokenizer):
    pool = [list("hello abc\n"), list(" <>lrsnx"), ["<s>", "<l>", "<r>", "<lr>", "hello", "hell", "  ", "\u4e2d\u6587", "a\u0301", "\u00e9", "\u0301", "<n>"]]
    cases = []
    for text in TEXTS + [random_text(pool, 12) for _ in range(30)]:
        ids = tokenizer.encode(text).ids
        case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "skipped": tokenizer.decode(ids, skip_special_tokens=True), "bare": tokenizer.encode(text, add_special_tokens=False).ids}
        tokenizer.encode_special_tokens = True
        case["without_special"] = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = False
        cases.append({k: v for k, v in case.items() if k in ("text", "ids") or v != case["decoded" if k == "skipped" else "ids"]})
    return cases


def main():
    small = base()
    written = []
    for name, top, model in variants():
        config = copy.deepcopy(small) | copy.deepcopy(top)
        config["model"] |= model
        ids = dict(config["model"]["vocab"])
        for token in config["added_tokens"]:
            token["id"] = ids.setdefault(token["content"], len(ids))
        text = json.dumps(config)
        for token in ("<s>", "</s>"):  # templates name their tokens by id
            if token in ids:
                text = text.replace(f'"ids": ["{token}"', f'"ids": [{ids[token]}').replace(f', "{token}"], "tokens"', f', {ids[token]}], "tokens"')
        config = json.loads(text)
        patch = {k: v for k, v in config.items() if k != "model" and v != small[k]}
        written.append({"name": name, "replace": patch, "replace_in_model": model,
                        "cases": variant_cases(Tokenizer.from_str(text))})
    goldens = {"source": f"Hugging Face tokenizers {tokenizers.__version__}",
               "qwen3": qwen(Tokenizer.from_file(str(DATA / "qwen3-tokenizer" / "tokenizer.json"))), "base": small, "variants": written}
    (DATA / "text" / "tokenizer_goldens.json").write_text(json.dumps(goldens, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
