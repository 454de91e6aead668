#!/usr/bin/env python3
"""Installs a build into an empty folder and uses it as somebody would who has nothing else of cajal.

check_install.py BUILD SOURCE: builds and runs a C and a C++ program by find_package and by pkg-config, and those of
docs/library.md; compiles every header by itself; looks at what libcajal.so shows. Prints what it found wrong, then exits 1.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import text_model

CXX, CC = os.environ.get("CXX", "c++"), os.environ.get("CC", "cc")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


class Failed(Exception):
    pass


def run(*command, environment=None, stdin=None):
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, input=stdin,
                            env={**os.environ, **(environment or {})})
    if result.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


def library_folder(prefix):
    return next(prefix.glob("**/libcajal.so")).parent


def check_tree(prefix):
    for pattern in ("bin/cajal", "include/cajal/cajal.h", "include/cajal/c_api.h", "**/libcajal.so", "**/libcajal.so.0",
                    "**/cmake/cajal/cajalConfig.cmake", "**/cmake/cajal/cajalConfigVersion.cmake",
                    "**/pkgconfig/cajal.pc", "share/man/man1/cajal.1", "share/bash-completion/completions/cajal",
                    "share/zsh/site-functions/_cajal", "share/fish/vendor_completions.d/cajal.fish",
                    "share/doc/cajal/LICENSE", "share/cajal/demo-model/model.safetensors"):
        if not list(prefix.glob(pattern)):
            raise Failed(f"nothing is installed as {pattern}")
    if "cajal \\- run" not in (prefix / "share/man/man1/cajal.1").read_text():
        raise Failed("share/man/man1/cajal.1 is not the manual page")


def check_headers(prefix):
    """Each compiles alone, and those that C may include as C11 too."""
    for header in sorted((prefix / "include/cajal").iterdir()):
        text = f"#include <cajal/{header.name}>\n#include <cajal/{header.name}>\n"
        flags = [*WARNINGS, "-fsyntax-only", f"-I{prefix}/include"]
        run(CXX, "-std=c++20", *flags, "-x", "c++", "-", stdin=text)
        if header.name in ("c_api.h", "export.h"):
            run(CC, "-std=c11", "-pedantic", *flags, "-x", "c", "-", stdin=text + "typedef int not_empty;\n")


def check_symbols(prefix):
    """The library shows every function of c_api.h, names of the C++ interface, and nothing else."""
    shown = run("nm", "-D", "-C", "--defined-only", library_folder(prefix) / "libcajal.so").splitlines()
    names = [line.split(" ", 2)[2] for line in shown]
    allowed = re.compile(r"cajal_\w+$|((typeinfo|typeinfo name|vtable) for )?cajal::v1::(?!Engine::Impl)")
    for name in names:
        if not allowed.match(name):
            raise Failed(f"libcajal.so shows {name}")
    declared = re.findall(r"^CAJAL_API [^;]*?\b(cajal_\w+)\(", (prefix / "include/cajal/c_api.h").read_text(), re.M)
    if len(declared) < 20:
        raise Failed("c_api.h: found only " + " ".join(declared))
    if missing := set(declared) - set(names):
        raise Failed(f"libcajal.so lacks {' '.join(sorted(missing))}")
    if extra := {n for n in names if n.startswith("cajal_")} - set(declared):
        raise Failed(f"c_api.h does not declare {' '.join(sorted(extra))}")


def flags_of_package(prefix):
    path = {"PKG_CONFIG_PATH": str(next(prefix.glob("**/pkgconfig")))}
    return run("pkg-config", "--cflags", "--libs", "cajal", environment=path).split()


def expected_line(prefix, model):
    """What the installed program says follows tokens 1, 2, 3, in the words of the consumers."""
    answer = json.loads(run(prefix / "bin/cajal", "generate", model, "--token-ids", "1,2,3", "--max-new-tokens", "8", "--json"))
    choice = answer["choices"][0]
    return " ".join(map(str, choice["token_ids"])) + f" {choice['finish_reason']}\n"


def check_consumers(prefix, source, work, model):
    expected = expected_line(prefix, model)

    def check(program, environment=None):
        if (printed := run(program, model, environment=environment)) != expected:
            raise Failed(f"{program} prints {printed!r}, and cajal generate {expected!r}")

    build = work / "consumers"
    run("cmake", "-S", source / "tests/install", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Debug")
    run("cmake", "--build", build)
    check(build / "consumer_cpp")
    check(build / "consumer_c")
    # A tree that was moved is as good as one that was not.
    moved = work / "elsewhere"
    shutil.copytree(prefix, moved, symlinks=True)
    path = {"LD_LIBRARY_PATH": str(library_folder(moved))}
    here = source / "tests/install"
    for compiler, standard, file in ((CXX, "-std=c++20", "consumer_cpp.cpp"), (CC, "-std=c11", "consumer_c.c")):
        run(compiler, standard, *WARNINGS, here / file, "-o", work / "program", *flags_of_package(moved))
        check(work / "program", path)


DEMO = """#include <cajal/cajal.h>
#include <iostream>
int main() {
  cajal::Engine engine;
  const std::vector<cajal::ChatMessage> messages{{"user", "What is 47 + 38?"}};
  std::cout << engine.generate(engine.apply_chat_template(messages).token_ids, {.max_tokens = 80}).text();
}
"""


def check_demo_model(prefix, work):
    """A program that names no model gets the one that is installed, wherever the tree lies."""
    (work / "demo.cpp").write_text(DEMO)
    run(CXX, "-std=c++20", *WARNINGS, work / "demo.cpp", "-o", work / "demo", *flags_of_package(prefix))
    path = {"LD_LIBRARY_PATH": str(library_folder(prefix))}
    if "= 85." not in (said := run(work / "demo", environment=path)):
        raise Failed(f"the demo model says {said!r}")


def check_documents(prefix, source, work):
    """The C and C++ programs of docs/library.md. Those in Python are python/tests' business."""
    model = text_model.write_text_model(work / "text-model", source / "tests/data/qwen3-tokenizer")
    path = {"LD_LIBRARY_PATH": str(library_folder(prefix))}
    blocks = re.findall(r"^```(cpp|c)\n(.*?)^```$", (source / "docs/library.md").read_text(), re.M | re.S)
    if len(blocks) < 4:
        raise Failed("docs/library.md: where are its programs?")
    for number, (language, text) in enumerate(blocks, 1):
        file = work / f"snippet{number}.{language}"
        file.write_text(text)
        compiler = [CXX, "-std=c++20"] if language == "cpp" else [CC, "-std=c11"]
        run(*compiler, *WARNINGS, file, "-o", work / "snippet", *flags_of_package(prefix))
        if not run(work / "snippet", model, environment=path).strip():
            raise Failed(f"docs/library.md: program {number} prints nothing")


def main(build, source):
    golden = source / "tests/data/goldens/d_bf16_tied"
    with tempfile.TemporaryDirectory(prefix="cajal-install-") as folder:
        work = pathlib.Path(folder)
        prefix = work / "prefix"
        run("cmake", "--install", build, "--prefix", prefix)
        check_tree(prefix)
        check_headers(prefix)
        check_symbols(prefix)
        check_consumers(prefix, source, work, golden)
        check_documents(prefix, source, work)
        check_demo_model(prefix, work)
    print("install ok")


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve())
    except Failed as failure:
        sys.exit(f"check_install: {failure}")
