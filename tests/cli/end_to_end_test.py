#!/usr/bin/env python3
"""The program as a process: exit codes, what goes to which stream, Ctrl-C, closed pipes, full disks.

    python3 tests/cli/end_to_end_test.py build/release/cajal
"""
import json
import os
import pathlib
import pty
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

PROGRAM = "cajal"
TOKENIZER = pathlib.Path(__file__).resolve().parent.parent / "data" / "qwen3-tokenizer"
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 32, "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "rope_theta": 1000000, "tie_word_embeddings": True, "torch_dtype": "bfloat16", "eos_token_id": 151645,
}
LAST_LINE = r"^cajal: error: .+ — .+$"


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CAJAL_", "HF_"))}
    return {**kept, **more}


def cajal(*arguments, input=b"", **options):
    options.setdefault("env", environment())
    return subprocess.run([PROGRAM, *map(str, arguments)], input=input, capture_output=True, timeout=120, **options)


def start(*arguments, **options):
    options.setdefault("env", environment())
    return subprocess.Popen([PROGRAM, *map(str, arguments)], **options)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, *arguments, **variables):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execve(PROGRAM, [PROGRAM, *map(str, arguments)], environment(**variables))
            finally:
                os._exit(127)

    def type(self, text):
        os.write(self.fd, text)

    def read_until(self, wanted, more=0, seconds=60):
        """Reads up to `wanted` and that many bytes after it."""
        seen, deadline = b"", time.time() + seconds
        while wanted not in seen or len(seen.split(wanted, 1)[1]) < more:
            if time.time() > deadline:
                raise TimeoutError(f"{wanted!r} did not come, only {seen[-300:]!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    piece = os.read(self.fd, 4096)
                except OSError:  # the other side is closed
                    piece = b""
                if not piece:
                    raise EOFError(f"{wanted!r} did not come, only {seen[-300:]!r}")
                seen += piece
        return seen

    def exit_code(self):
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


class EndToEnd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="cajal-end-to-end-")
        cls.model = pathlib.Path(cls.folder.name) / "model"
        cls.model.mkdir()
        (cls.model / "config.json").write_text(json.dumps(CONFIG))
        for file in TOKENIZER.glob("*.json"):
            (cls.model / file.name).symlink_to(file)
        cls.dummy = (cls.model, "--load-format", "dummy", "--threads", "2")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def assert_failed(self, ran, code):
        self.assertEqual(ran.returncode, code, ran.stderr.decode())
        self.assertEqual(ran.stdout, b"")
        self.assertRegex(ran.stderr.decode().rstrip("\n").split("\n")[-1], LAST_LINE)

    def test_done_is_0_with_results_on_standard_output_only(self):
        ran = cajal("tokenize", TOKENIZER, input=b"Hello, world")
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, b"9707 11 1879\n", b""))
        for arguments in (["--version"], ["--help"], ["help", "generate"], ["doctor"], ["doctor", "--json"]):
            ran = cajal(*arguments)
            self.assertEqual((ran.returncode, ran.stderr), (0, b""), arguments)
            self.assertTrue(ran.stdout, arguments)

    def test_failed_is_1(self):
        self.assert_failed(cajal("tokenize", "/does/not/exist"), 1)
        self.assert_failed(cajal("tokenize", TOKENIZER, input=b"\xff"), 1)
        self.assert_failed(cajal("detokenize", TOKENIZER, input=b"1 x"), 1)
        self.assert_failed(cajal("generate", self.model, "--prompt", "x"), 1)
        self.assert_failed(cajal("generate", *self.dummy, "--token-ids", "151936"), 1)

    def test_misused_is_2(self):
        for arguments in ([], ["nonsense"], ["generate", "--nonsense"], ["serve", "--api-key", ""],
                          ["generate", *self.dummy], ["generate", *self.dummy, "--prompt", "a", "--top-p", "2"]):
            self.assert_failed(cajal(*arguments), 2)

    def test_environment_and_configuration_file(self):
        file = pathlib.Path(self.folder.name) / "run.yaml"
        file.write_text(f"model: {self.model}\nload_format: dummy\nmax_new_tokens: 3\nignore_eos: true\n")
        more = environment(CAJAL_CONFIG=str(file), CAJAL_MAX_NEW_TOKENS="2")
        ran = cajal("generate", "--token_ids", "1", "--json", env=more)
        self.assertEqual(len(json.loads(ran.stdout)["choices"][0]["token_ids"]), 2, ran.stderr)
        ran = cajal("generate", "--token-ids=1", "--json", "--max-new-tokens", "1", env=more)
        self.assertEqual(len(json.loads(ran.stdout)["choices"][0]["token_ids"]), 1, ran.stderr)

    def test_models_come_from_the_cache_by_name(self):
        hub = pathlib.Path(self.folder.name) / "hub"
        snapshot = hub / "models--Qwen--Test" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (hub / "models--Qwen--Test" / "refs").mkdir()
        (hub / "models--Qwen--Test" / "refs" / "main").write_text("abc")
        for file in TOKENIZER.glob("*.json"):
            (snapshot / file.name).symlink_to(file)
        ran = cajal("tokenize", "Qwen/Test", input=b"hi", env=environment(HF_HUB_CACHE=str(hub)))
        self.assertEqual(ran.stdout, b"6023\n", ran.stderr)

    def test_bytes_pass_unchanged(self):
        text = "a\r\nb\u00e9\U0001f600\0c\n\n".encode()
        ids = cajal("tokenize", TOKENIZER, input=text).stdout
        self.assertEqual(cajal("detokenize", TOKENIZER, input=ids).stdout, text)

    def test_lines_of_json_are_answered_one_by_one(self):
        process = start("tokenize", TOKENIZER, "--jsonl", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)
        process.stdin.write(b'"a"\n')
        process.stdin.flush()
        self.assertEqual(json.loads(process.stdout.readline())["token_ids"], [64])  # while standard input is open
        process.stdin.write(b"nonsense\n")
        process.stdin.flush()
        self.assertIn("error", json.loads(process.stdout.readline()))
        out, err = process.communicate()
        self.assertEqual((process.returncode, out), (1, b""))
        self.assertRegex(err.decode().rstrip("\n"), LAST_LINE)

    def test_generate_streams_what_json_says(self):
        arguments = (*self.dummy, "--prompt", "Once", "--max-new-tokens", "12", "--ignore-eos")
        plain = cajal("generate", *arguments)
        whole = json.loads(cajal("generate", *arguments, "--json").stdout)["choices"][0]
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertEqual(plain.stdout.decode().rstrip("\n"), whole["text"].rstrip("\n"))
        ids = " ".join(map(str, whole["token_ids"])).encode()
        self.assertEqual(cajal("detokenize", TOKENIZER, "--skip-special-tokens", input=ids).stdout.decode(),
                         whole["text"])

    def test_a_drawn_seed_is_printed_and_repeats_the_text(self):
        arguments = ("generate", *self.dummy, "--prompt", "Once", "--max-new-tokens", "8", "--temperature", "1")
        first = cajal(*arguments)
        self.assertRegex(first.stderr.decode(), r"^cajal: seed \d+\n$")
        seed = first.stderr.split()[-1].decode()
        again = cajal(*arguments, "--seed", seed)
        self.assertEqual((again.stdout, again.stderr), (first.stdout, b""))

    def test_logits_are_a_safetensors_file(self):
        path = pathlib.Path(self.folder.name) / "logits.safetensors"
        ran = cajal("score", *self.dummy, "--prompt", "Hello, world", "--dump-logits", path)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        data = path.read_bytes()
        size, = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + size])
        self.assertEqual((header["logits"]["dtype"], header["logits"]["shape"]), ("F32", [3, CONFIG["vocab_size"]]))

    def test_ctrl_c_is_130_while_reading(self):
        process = start("tokenize", TOKENIZER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out), (130, b""))

    def test_ctrl_c_is_130_while_generating(self):
        process = start("generate", *self.dummy, "--prompt", "Once", "--max-new-tokens", "30000", "--ignore-eos",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)

    def test_ctrl_c_leaves_no_partial_file(self):
        path = pathlib.Path(self.folder.name) / "interrupted.safetensors"
        ids = ",".join(["1"] * 4000)
        process = start("score", *self.dummy, "--token-ids", ids, "--dump-logits", path,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.time() + 60
        partial = path.with_name(path.name + ".partial")
        while not partial.exists() and process.poll() is None and time.time() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (130, b""))
        self.assertFalse(partial.exists() or path.exists())

    def test_chat_answers_in_a_pipe(self):
        arguments = (*self.dummy, "--max-new-tokens", "3")
        once = cajal("generate", *arguments, "--chat", "--prompt", "hi")
        ran = cajal("chat", *arguments, input=b"hi\n/clear\n/nonsense\nhi")
        self.assertEqual((ran.returncode, ran.stdout), (0, once.stdout + b"\n" + once.stdout), ran.stderr)
        self.assertNotIn(b"> ", ran.stderr)
        self.assertIn(b"/nonsense is no command", ran.stderr)
        process = start("chat", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write(b"hi\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.read(len(once.stdout)), once.stdout)  # while standard input is open
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130)

    def test_ctrl_c_stops_an_answer_and_not_the_chat(self):
        terminal = Terminal("chat", *self.dummy)
        terminal.read_until(b"> ")
        for _ in range(2):
            terminal.type(b"hi\n")
            terminal.read_until(b"hi\r\n", more=20)  # the random model's answer, which would go on for long
            terminal.type(b"\x03")
            terminal.read_until(b"(stopped)\r\n> ")
        terminal.type(b"/system Be brief.\n")
        terminal.read_until(b"> ")
        terminal.type(b"half a line\x03")
        terminal.read_until(b"once more ends the chat, as /exit and Ctrl-D do)\r\n> ")
        terminal.type(b"/nonsense\n")
        terminal.read_until(b"a message that begins with /\r\n> ")
        terminal.type(b"\x03")
        terminal.read_until(b"once more")
        terminal.type(b"\x03")
        self.assertEqual(terminal.exit_code(), 130)

    def test_lines_can_be_changed_and_come_back(self):
        terminal = Terminal("chat", *self.dummy, TERM="xterm")
        terminal.read_until(b"> ")
        terminal.type("/systen\x7fm 神\x7fBe brief.\x01\x1b[C\x1b[3~s\r".encode())
        terminal.read_until(b"(the system message is set)\r\n> ")
        terminal.type(b"/clear\r")
        terminal.read_until(b"(a new conversation)\r\n> ")
        terminal.type(f"\x1b[A\x1b[A\x7f!\r/save {self.model}/edited.json\r".encode())
        terminal.read_until(b"wrote 1 message")
        terminal.type(b"\x04")
        self.assertEqual(terminal.exit_code(), 0)
        saved = json.loads((self.model / "edited.json").read_text())
        self.assertEqual(saved["messages"], [{"role": "system", "content": "Be brief!"}])

    def test_a_chat_leaves_the_terminal_as_it_was(self):
        for end, code in ((b"\x04", 0), (b"\x03\x03", 130), (None, 130)):
            ours, theirs = pty.openpty()
            before = termios.tcgetattr(theirs)
            process = start("chat", *self.dummy, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"))
            self.read_until(ours, b"> ")
            self.assertNotEqual(termios.tcgetattr(theirs), before, "while a line is edited keys come one by one")
            if end:
                os.write(ours, end)
            else:
                process.send_signal(signal.SIGINT)
                self.read_until(ours, b"once more")
                process.send_signal(signal.SIGINT)
            self.assertEqual((process.wait(60), termios.tcgetattr(theirs)), (code, before))
            os.close(ours)
            os.close(theirs)

    @staticmethod
    def read_until(fd, wanted):
        seen = b""
        while wanted not in seen:
            seen += os.read(fd, 4096)

    def test_ctrl_d_ends_a_chat(self):
        terminal = Terminal("chat", *self.dummy)
        terminal.read_until(b"> ")
        terminal.type(b"\x04")
        self.assertEqual(terminal.exit_code(), 0)

    def test_the_demo_model_is_taken_where_none_is_named(self):
        env = environment(CAJAL_DEMO_MODEL=str(self.model))
        ran = cajal("tokenize", input=b"hi", env=env)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, b"6023\n", b""))
        self.assert_failed(cajal("tokenize", env=environment(CAJAL_DEMO_MODEL="/does/not/exist")), 2)

    def test_a_request_and_a_template_may_come_through_pipes(self):
        reader, writer = os.pipe()
        os.write(writer, b"{{ greeting }}!")
        os.close(writer)
        ran = cajal("render", "--template", f"/dev/fd/{reader}", "--input", "/dev/stdin", input=b'{"greeting": "hi"}',
                    pass_fds=[reader])
        os.close(reader)
        self.assertEqual((ran.returncode, ran.stdout, ran.stderr), (0, b"hi!", b""))

    def test_a_closed_pipe_ends_it_quietly(self):
        process = start("generate", *self.dummy, "--prompt", "Once", "--max-new-tokens", "30000", "--ignore-eos",
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read()
        process.stderr.close()
        self.assertEqual((process.wait(timeout=60), err), (0, b""))

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full here")
    def test_a_full_disk_is_1_with_a_reason(self):
        for arguments in (["--version"], ["tokenize", TOKENIZER], ["doctor"],
                          ["generate", *self.dummy, "--prompt", "a", "--max-new-tokens", "2"]):
            with open("/dev/full", "wb") as full:
                process = start(*arguments, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE)
                _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1, arguments)
            self.assertRegex(err.decode().rstrip("\n").split("\n")[-1], LAST_LINE)
            self.assertIn("standard output", err.decode())

    def test_an_export_that_ends_early_leaves_nothing(self):
        # Interrupted as soon as its folder is there, and without room for its weights.
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "out")
            arguments = ["export", *self.dummy, "-o", out, "--sequence-length", "2048"]
            process = start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while process.poll() is None and not os.listdir(folder):
                pass
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            self.assertIn(process.returncode, (0, 130))  # 0: it was done by then
            self.assertEqual(os.listdir(folder), [] if process.returncode else ["out"], err)

            def little_room():
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

            other = os.path.join(folder, "other")
            ran = cajal("export", *self.dummy, "-o", other, preexec_fn=little_room)
            self.assert_failed(ran, 1)
            self.assertNotIn("other", " ".join(os.listdir(folder)))

    def test_remarks_take_the_form_that_is_asked_for(self):
        ran = cajal("tokenize", TOKENIZER, "--reasoning-parser", "qwen3", "--log-format", "json", input=b"hi")
        self.assertEqual((ran.returncode, ran.stdout), (0, b"6023\n"))
        self.assertEqual(json.loads(ran.stderr)["level"], "warning")
        ran = cajal("tokenize", TOKENIZER, "--reasoning-parser", "qwen3", "--log-level", "error", input=b"hi")
        self.assertEqual(ran.stderr, b"")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: end_to_end_test.py PATH-OF-CAJAL [unittest arguments]")
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
