#!/usr/bin/env python3
"""Writes src/text/jinja/case_tables.cpp: what Python's str methods know about characters, as compact ranges.

usage: make_case_tables.py > src/text/jinja/case_tables.cpp
"""
import sys

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def ranges(predicate):
    """(first, last, stride); surrogates, which are not in UTF-8, never break a range."""
    runs = []
    for c in POINTS:
        if not predicate(chr(c)):
            continue
        if runs:
            first, last, stride = runs[-1]
            gap = c - last if (last, c) != (0xD7FF, 0xE000) else 1
            if gap in (1, 2) and stride in (0, gap):
                runs[-1] = (first, c, gap)
                continue
        runs.append((c, c, 0))
    return [(f, l, s or 1) for f, l, s in runs]


def mappings(function):
    """(first, last, stride, delta) of what maps to one other character; and the rest, which maps to several."""
    runs, several = [], []
    for c in POINTS:
        mapped = function(chr(c))
        if mapped == chr(c):
            continue
        if len(mapped) > 1:
            several.append((c, mapped))
            continue
        delta = ord(mapped) - c
        if runs:
            first, last, stride, old = runs[-1]
            gap = c - last
            if old == delta and gap in (1, 2) and (stride in (0, gap)):
                runs[-1] = (first, c, gap, delta)
                continue
        runs.append((c, c, 0, delta))
    return [(f, l, s or 1, d) for f, l, s, d in runs], several


def lines(items):
    text, line = [], " "
    for item in items:
        if len(line) + len(item) + 2 > 120:
            text.append(line)
            line = " "
        line += " " + item + ","
    return "\n".join(text + [line])


def literal(text):
    return "U\"" + "".join(f"\\U{ord(c):08x}" for c in text) + "\""


def main():
    print("// Written by tools/make_case_tables.py from Python's data (Unicode "
          f"{__import__('unicodedata').unidata_version}); do not edit.\n"
          "// clang-format off\n"
          '#include "text/jinja/case_tables.h"\n\nnamespace cajal::jinja::case_tables {\nnamespace {\n')
    classes = {
        "unprintable": lambda c: not c.isprintable(),
        "decimals": str.isdecimal,
        "lowers": str.islower,
        "uppers": str.isupper,
        "titles": lambda c: c.istitle() and not c.isupper(),
    }
    for name, predicate in classes.items():
        body = lines(f"{{0x{f:x}, 0x{l:x}, {s}}}" for f, l, s in ranges(predicate))
        print(f"constexpr Range k_{name}[] = {{\n{body}\n}};\n")
    maps = {"upper": str.upper, "lower": str.lower, "title": str.title}
    for name, function in maps.items():
        runs, several = mappings(function)
        body = lines(f"{{0x{f:x}, 0x{l:x}, {s}, {d}}}" for f, l, s, d in runs)
        print(f"constexpr Mapping k_{name}[] = {{\n{body}\n}};\n")
        body = lines(f"{{0x{c:x}, {literal(t)}}}" for c, t in several)
        print(f"constexpr Several k_{name}_several[] = {{\n{body}\n}};\n")
    print("}  // namespace\n")
    for name in classes:
        print(f"std::span<const Range> {name}() {{ return k_{name}; }}")
    for name in maps:
        print(f"std::span<const Mapping> {name}() {{ return k_{name}; }}")
        print(f"std::span<const Several> {name}_several() {{ return k_{name}_several; }}")
    print("\n}  // namespace cajal::jinja::case_tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
