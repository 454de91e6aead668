#!/usr/bin/env python3
"""Draws docs/chat.svg, the terminal in README.md, from a chat that really takes place.

    tools/make_picture.py build/release/cajal docs/chat.svg

The demo model decodes greedily, so that the same build gives the same picture.
"""
import html
import os
import pathlib
import pty
import re
import select
import sys

MESSAGES = ["What is 47 + 38?", "/think off", "What is the capital of Japan?", "What can you do?", "Tell me a story about a cat named Milo."]
COLUMNS, LINE, WIDTH = 92, 19, 8.43
PROMPT = b"> "
STYLE = """text { font: 14px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; fill: #1f2328; white-space: pre }
rect { fill: #f6f8fa; stroke: #d1d9e0 } .dim { fill: #6e7781 } .typed { fill: #0550ae }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } rect { fill: #0d1117; stroke: #3d444d } .dim { fill: #8b949e } .typed { fill: #79c0ff }
}"""


def read_until_prompt(fd):
    seen = b""
    while not seen.endswith(b"\n" + PROMPT):
        if not select.select([fd], [], [], 60)[0]:
            sys.exit(f"make_picture: no prompt came, only {seen!r}")
        seen += os.read(fd, 4096)
    return seen


def record(program):
    """What the terminal showed, with every message as it was typed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(program, [program, "chat", "share/demo-model"], dict(os.environ, TERM="xterm"))
    shown = read_until_prompt(fd)
    for message in MESSAGES:
        os.write(fd, message.encode() + b"\r")
        shown += read_until_prompt(fd)
    os.write(fd, b"\x04")
    os.waitpid(pid, 0)
    return shown.decode().removesuffix(PROMPT.decode()).replace("\r\n", "\n")


def pieces(text):
    """[[(class, text)]] for every row of the screen, broken as a terminal breaks it."""
    rows, dim = [[("", "$ "), ("typed", "build/release/cajal chat share/demo-model")]], False
    for line in text.rstrip("\n").split("\n"):
        typed = line.startswith("> ")
        row, column = [], 0
        for part in re.split(r"(\x1b\[[0-9;]*m)", line[2:] if typed else line):
            if part.startswith("\x1b["):
                dim = part == "\x1b[2m"
                continue
            if "\x1b" in part:
                sys.exit(f"make_picture: {part!r} is more than this can draw")
            while part:
                kept, part = part[:COLUMNS - column], part[COLUMNS - column:]
                row.append(("dim" if dim else "typed" if typed else "", kept))
                column += len(kept)
                if part:
                    rows.append(row)
                    row, column = [], 0
        rows.append([("dim", "> ")] + row if typed else row)
    return rows


def draw(rows):
    width, height = COLUMNS * WIDTH + 40, len(rows) * LINE + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" role="img" '
           'aria-label="A chat with the demo model in a terminal">', f"<style>{STYLE}</style>",
           f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>']
    for number, row in enumerate(rows):
        spans = "".join(f'<tspan class="{kind}">{html.escape(text)}</tspan>' if kind else html.escape(text) for kind, text in row)
        if spans:
            out.append(f'<text x="20" y="{number * LINE + 28}" xml:space="preserve">{spans}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    os.chdir(pathlib.Path(__file__).resolve().parents[1])
    pathlib.Path(sys.argv[2]).write_text(draw(pieces(record(os.path.abspath(sys.argv[1])))))
