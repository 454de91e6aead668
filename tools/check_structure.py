#!/usr/bin/env python3
"""Checks that the tree keeps its shape: layers, headers, sizes, flags. Run by ctest as lint.structure and by `make lint`.

The layers and what each may use are read from the cajal_layer() lines of CMakeLists.txt, so that the build and this check
cannot disagree. A layer may include itself and whatever it uses, directly or through others.
"""
import ast
import pathlib
import re
import subprocess
import sys

CODE = {".h", ".cpp", ".cu", ".cuh"}
HEADERS = {".h", ".cuh"}
CODE_FOLDERS = ("src", "include", "tests", "fuzz", "bench")
SKIPPED = ("tests/data/", "fuzz/corpus/", "share/", "build/", ".deps/")  # data, not text of ours

MAX_LINES = 600
MAX_SCRIPT_LINES = 1000  # a script stands alone, in one file
# Tables that a script writes; each says so at its head.
GENERATED = {
    "src/text/unicode_class_tables.cpp",
    "src/text/unicode_nfc_tables.cpp",
}

# Layers that may include the public headers, include/cajal/*.h; programs outside src/ may too.
PUBLIC_API_USERS = {"api", "engine", "server", "cli"}

# Roots of one person's machine: whoever reads the repository does not have them.
MACHINE_PATH = re.compile(r"(?<![\w.~$}<>*-])/(?:work|farm|home|root|Users|scratch)/")
# Flags that pick an instruction set. Kernels use target regions instead, because such a flag also compiles the inline
# functions of every included header, and the linker may then keep those copies for the whole program.
MACHINE_FLAG = re.compile(r"(?<![\w/.-])-m(?:arch|cpu|tune|fpu|native|avx|sse|ssse|fma|bmi|amx|f16c|popcnt|prefer)[\w.=-]*")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+(?:"([^"]+)"|<([^>]+)>)', re.M)


def files_of(root):
    """Every file that is, or could be, committed, as a path relative to root."""
    git = subprocess.run(["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True) if (root / ".git").exists() else None
    if git and git.returncode == 0:
        names = [n for n in git.stdout.split("\0") if n]
    else:
        names = [p.relative_to(root).as_posix() for p in root.rglob("*")]
    return sorted({n for n in names if not n.startswith(SKIPPED) and ".git/" not in n and (root / n).is_file()})


def read_layers(cmake):
    """{layer: every layer that it may include}, from lines such as cajal_layer(graph USES tensor)."""
    direct = {name: uses.split()
              for name, uses in re.findall(r"^cajal_layer\((\w+)(?:\s+USES\s+([^)]*))?\)", cmake, re.M)}

    def closure(name, seen):
        for used in direct.get(name, []):
            if used in direct and used not in seen:
                seen.add(used)
                closure(used, seen)
        return seen

    return {name: closure(name, {name}) for name in direct}


def check_include(root, name, layers, quoted, angled):
    parts = name.split("/")
    is_src = parts[0] == "src"
    if angled is not None:
        if angled.startswith("cajal/") or angled.split("/")[0] in layers and (root / "src" / angled).exists():
            yield f"{name}: <{angled}> is ours; include it with quotes"
        return
    roots = ["src", "include"] + ([] if is_src else ["tests", "bench", "fuzz"])
    if not is_src and parts[0] != "include":
        roots.append("/".join(parts[:-1]))  # a test's helpers may stand beside it
    if ".." in quoted.split("/") or not any((root / r / quoted).is_file() for r in roots):
        yield f'{name}: "{quoted}" is no file of ours; name ours from the root of src/ and use <> for a library\'s'
        return
    target = quoted.split("/")
    if parts[0] == "include":
        if target[0] != "cajal":
            yield f"{name}: a public header may include public headers only, not {quoted}"
        return
    if not is_src:
        return
    layer = parts[1]
    if target[0] == "cajal":
        if layer not in PUBLIC_API_USERS:
            yield f"{name}: {layer} may not include the public header {quoted}"
        return
    if target[0] not in layers[layer]:
        yield f"{name}: {layer} may not include {quoted}"
    elif layer == target[0] == "backends" and len(parts) > 3 and len(target) > 2 and parts[2] != target[1]:
        yield f"{name}: a backend may not include another ({quoted})"


def check_code(root, name, text, layers):
    parts = name.split("/")
    if parts[0] == "src":
        if len(parts) < 3 or parts[1] not in layers:
            yield f"{name}: every file of src/ belongs to the folder of a layer in CMakeLists.txt"
            return
    if pathlib.Path(name).suffix in HEADERS:
        if not text.startswith("#pragma once\n"):
            yield f"{name}: the first line of a header must be #pragma once"
        if re.search(r"^using[ \t]+namespace\b", text, re.M):  # indented it stands in a function, where it is harmless
            yield f"{name}: using namespace in a header"
    for quoted, angled in INCLUDE.findall(text):
        yield from check_include(root, name, layers, quoted or None, angled or None)


def problems(root):
    layers = read_layers((root / "CMakeLists.txt").read_text())
    for name in files_of(root):
        path = root / name
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        lines = text.count("\n")
        suffix = path.suffix
        is_code = suffix in CODE and name.split("/")[0] in CODE_FOLDERS
        if is_code:
            yield from check_code(root, name, text, layers)
        limit = MAX_LINES if is_code else MAX_SCRIPT_LINES if suffix == ".py" else lines
        if lines > limit and name not in GENERATED:
            yield f"{name}: {lines} lines, at most {limit} (a generated table is named in tools/check_structure.py)"
        if suffix == ".cmake" or path.name in ("CMakeLists.txt", "CMakePresets.json"):
            for number, line in enumerate(text.split("\n"), 1):
                if found := MACHINE_FLAG.search(line.split("#")[0]):
                    yield f"{name}:{number}: {found[0]}: instruction sets are chosen by target regions, never by flags"
        if suffix == ".py":
            try:
                ast.parse(text, name)
            except SyntaxError as e:
                yield f"{name}:{e.lineno}: {e.msg}"
        if found := MACHINE_PATH.search(text):
            yield f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0]}… is a path of one machine"


def main(arguments):
    if len(arguments) != 1:
        print("usage: check_structure.py ROOT", file=sys.stderr)
        return 2
    found = list(problems(pathlib.Path(arguments[0]).resolve()))
    print("\n".join(found) or "structure ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
