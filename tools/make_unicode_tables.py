#!/usr/bin/env python3
"""Writes src/text/unicode_class_tables.cpp and src/text/unicode_nfc_tables.cpp.

The tables state how the Hugging Face tokenizers library behaves, code point by code point, because its Unicode data are
of several ages: normalisation is Unicode 9.0, the pattern engines are newer. Needs `pip install tokenizers`; nothing at
build or run time does.
"""
import pathlib
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

TEXT = pathlib.Path(__file__).resolve().parent.parent / "src" / "text"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL = "".join(map(chr, CODE_POINTS))
HANGUL = range(0xAC00, 0xD7A4)


def ranges(code_points):
    out = []
    for c in sorted(code_points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def matched_by(pattern):
    rest = pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(ALL)
    return set(CODE_POINTS) - {ord(c) for piece, _ in rest for c in piece}


def word_characters():
    """Code points next to which a single_word token does not match."""
    probe = "\x01"
    tokenizer = Tokenizer(models.BPE(vocab={}, merges=[]))
    tokenizer.add_tokens([AddedToken(probe, single_word=True, normalized=False)])
    others = [c for c in CODE_POINTS if c != 1]
    encoded = tokenizer.encode("".join("\n" + chr(c) + probe for c in others))
    matched = {begin // 3 for begin, _ in encoded.offsets}
    return {c for i, c in enumerate(others) if i not in matched}


def combining_classes():
    """Classes never change once assigned; what the library's Unicode version lacks does not reorder there."""
    nfd = normalizers.NFD()

    def reorders(a, b):
        return nfd.normalize_str("a" + a + b) == "a" + b + a

    out = {}
    for c in CODE_POINTS:
        known = unicodedata.combining(chr(c))
        if known and (reorders("\u0345", chr(c)) or reorders(chr(c), "\u0334") or reorders("\u0301", chr(c))):
            out[c] = known
    return out


def normalisation():
    nfc, nfd = normalizers.NFC(), normalizers.NFD()
    full = {c: nfd.normalize_str(chr(c)) for c in CODE_POINTS if c not in HANGUL}
    full = {c: s for c, s in full.items() if s != chr(c)}
    pairs = []
    for c, s in full.items():
        if nfc.normalize_str(s) != chr(c):
            continue  # a singleton or a composition exclusion
        first = nfc.normalize_str(s[:-1])
        assert len(first) == 1, hex(c)
        pairs.append((ord(first), ord(s[-1]), c))
    return full, sorted(pairs)


def rows(items, width=118):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return "\n".join(lines + [line])


def array(kind, name, items):
    items = list(items)
    return f"constexpr {kind} {name}[] = {{\n{rows(items)}\n}};\n"


def write(name, body, accessors):
    head = (f"// Written by tools/make_unicode_tables.py from the behaviour of tokenizers {tokenizers.__version__}. "
            "Do not edit.\n"
            '#include "text/unicode_tables.h"\n\n// clang-format off\nnamespace cajal::unicode_tables {\nnamespace {\n\n')
    functions = "\n".join(f"std::span<const {kind}> {function}() {{ return {constant}; }}"
                          for kind, function, constant in accessors)
    (TEXT / name).write_text(head + "\n".join(body) + "\n}  // namespace\n\n" + functions +
                             "\n\n}  // namespace cajal::unicode_tables\n")


def main():
    classes = {"kLetters": matched_by(r"\p{L}"), "kNumbers": matched_by(r"\p{N}"), "kSpaces": matched_by(r"\s"),
               "kWords": word_characters()}
    assert not (classes["kLetters"] & classes["kNumbers"] or classes["kSpaces"] & classes["kLetters"])
    write("unicode_class_tables.cpp",
          [array("Range", name, (f"{{{a:#x},{b:#x}}}" for a, b in ranges(s))) for name, s in classes.items()],
          [("Range", name[1:].lower(), name) for name in classes])

    combining = combining_classes()
    combining_rows = []
    for value in sorted(set(combining.values())):
        combining_rows += [(a, b, value) for a, b in ranges(c for c, v in combining.items() if v == value)]
    full, pairs = normalisation()
    pool, entries = "", []
    for c, s in sorted(full.items()):
        at = pool.find(s)
        if at < 0:
            at = len(pool)
            pool += s
        entries.append(f"{{{c:#x},{at},{len(s)}}}")
    write("unicode_nfc_tables.cpp", [
        array("CombiningRange", "kCombiningClasses", (f"{{{a:#x},{b:#x},{v}}}" for a, b, v in sorted(combining_rows))),
        array("Decomposition", "kDecompositions", entries),
        array("char32_t", "kDecompositionPool", (f"{ord(c):#x}" for c in pool)),
        array("Composition", "kCompositions", (f"{{{a:#x},{b:#x},{c:#x}}}" for a, b, c in pairs)),
    ], [("CombiningRange", "combining_classes", "kCombiningClasses"), ("Decomposition", "decompositions", "kDecompositions"),
        ("char32_t", "decomposition_pool", "kDecompositionPool"), ("Composition", "compositions", "kCompositions")])


if __name__ == "__main__":
    main()
