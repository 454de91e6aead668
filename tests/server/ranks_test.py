#!/usr/bin/env python3
"""The server on ranks: the same answers, a drain that all ranks see the end of, and a name for the rank that is lost.

    python3 tests/server/ranks_test.py build/release/cajal
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from serving import DEMO, Server

PROGRAM = "cajal"
LIMITS = ["--device", "cpu", "--max-model-len", "512", "--max-num-seqs", "64"]
MODEL = pathlib.Path(__file__).resolve().parent.parent.parent / "share" / "demo-model"
LIMIT = 60  # seconds; whatever takes longer hangs


def chat(text, **more):
    return {"model": DEMO, "messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 24, **more}


def streamed(server, body):
    """The text of a streamed chat, or its error."""
    connection = server.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}),
                       {"Content-Type": "application/json"})
    text = ""
    with contextlib.closing(connection):
        for line in connection.getresponse():
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                return event
            for choice in event["choices"]:
                text += choice["delta"].get("content") or ""
    return text


def answer(server, body):
    status, _, answer = server.request("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    return answer["choices"][0]["message"]["content"]


class Processes:
    """A server of two processes, started as torchrun starts them."""

    def __init__(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        rank = lambda r: {"RANK": str(r), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CAJAL_")}
        self.other = subprocess.Popen([PROGRAM, "serve", "--port", "0", *LIMITS, "-tp", "2"], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True, env={**clean, **rank(1)})
        try:
            self.server = Server(PROGRAM, *LIMITS, "-tp", "2", environment=rank(0))
        except RuntimeError:
            self.other.kill()
            raise

    def codes(self):
        return [process.wait(LIMIT) for process in (self.server.process, self.other)]

    def close(self):
        for process in (self.server.process, self.other):
            if process.poll() is None:
                process.kill()
            process.wait()
        self.server.stop()
        self.other.stdout.close()


class RankThreads(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.alone, cls.ranks = Server(PROGRAM, *LIMITS), Server(PROGRAM, *LIMITS, "-tp", "2")

    @classmethod
    def tearDownClass(cls):
        for server in (cls.alone, cls.ranks):
            server.stop()

    def test_says_what_it_runs_on(self):
        self.assertIn("2 threads as ranks", "".join(self.ranks.log))

    def test_answers_are_those_of_one_rank(self):
        for body in (chat("What is 47 + 38?"), chat("Tell me of the sea.", temperature=1, seed=3, logprobs=True)):
            expected = answer(self.alone, body)
            self.assertEqual(answer(self.ranks, body), expected)
            self.assertEqual(streamed(self.ranks, body), expected)

    def test_embeddings_are_those_of_one_rank(self):
        body = {"model": DEMO, "input": ["The sky is blue.", "A boat."]}
        vectors = [s.request("POST", "/v1/embeddings", body)[2]["data"] for s in (self.alone, self.ranks)]
        self.assertEqual(vectors[0], vectors[1])

    def test_an_export_is_served_on_the_ranks_that_it_was_made_for(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([PROGRAM, "export", MODEL, "-o", folder + "/out", "--target", "cpu", "-tp", "2",
                            "--sequence-length", "256"], check=True, capture_output=True, timeout=LIMIT)
            server = Server(PROGRAM, folder + "/out", "--served-model-name", DEMO)
            self.addCleanup(server.stop)
            self.assertIn("2 threads as ranks", "".join(server.log))
            body = chat("What is 47 + 38?")
            self.assertEqual(answer(server, body), answer(self.alone, body))

    def test_64_requests_at_once_are_answered_as_each_alone(self):
        bodies = [chat(f"What is {i} + {2 * i}?", max_tokens=12) for i in range(64)]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            together = list(pool.map(lambda body: answer(self.ranks, body), bodies))
        self.assertEqual(together[::9], [answer(self.alone, body) for body in bodies[::9]])
        self.ranks.wait_idle()


class RankProcesses(unittest.TestCase):
    def setUp(self):
        self.processes = Processes()
        self.addCleanup(self.processes.close)
        self.server = self.processes.server

    def long_request(self):
        """One that goes on when this returns; its end, or what went wrong, is appended to the list that comes back."""
        got = []

        def ask():
            try:
                got.append(streamed(self.server, chat("Tell me of the sea.", max_tokens=400, ignore_eos=True)))
            except OSError as error:
                got.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        self.addCleanup(thread.join)
        end = time.monotonic() + LIMIT
        while not self.server.metrics()["vllm:num_requests_running"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.005)
        return got, thread

    def test_sigterm_to_all_ends_what_runs_and_then_all_ranks(self):
        got, thread = self.long_request()
        for process in (self.processes.other, self.server.process):
            process.send_signal(signal.SIGTERM)
        self.assertEqual(self.processes.codes(), [0, 0], "".join(self.server.log))
        thread.join(LIMIT)
        self.assertIsInstance(got[0], str, got)
        self.assertEqual(self.processes.other.stdout.read(), "")

    def test_a_rank_that_is_killed_is_named_to_those_who_wait_and_ends_the_server(self):
        got, thread = self.long_request()
        start = time.monotonic()
        self.processes.other.kill()
        ready = 200
        while ready == 200 and time.monotonic() < start + LIMIT:
            try:
                ready = self.server.request("GET", "/ready")[0]
            except OSError:
                ready = 0  # it has ended already
        self.assertEqual(self.processes.codes(), [1, -signal.SIGKILL])
        self.assertLess(time.monotonic() - start, 5)
        thread.join(LIMIT)
        self.assertIsInstance(got[0], dict, got)
        self.assertIn("rank 1 died", got[0]["error"]["message"])
        self.assertNotEqual(ready, 200)
        self.assertIn("cajal: error: rank 1 died", "".join(self.server.log))

    def test_a_rank_that_is_killed_while_nothing_runs_ends_the_server(self):
        self.assertEqual(self.server.request("GET", "/ready")[0], 200)
        self.processes.other.kill()
        self.assertEqual(self.processes.codes(), [1, -signal.SIGKILL])
        self.server.reader.join(10)
        self.assertIn("cajal: error: rank 1 died", "".join(self.server.log))

    def test_without_rank_0_no_rank_is_left(self):
        self.server.process.kill()
        self.assertEqual(self.processes.codes(), [-signal.SIGKILL, 1])


if __name__ == "__main__":
    PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main(verbosity=2)
