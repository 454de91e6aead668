#!/usr/bin/env python3
"""Two servers behind the routers that others wrote for vLLM and SGLang, as they come from PyPI.

    python3 tests/server/router_test.py build/release/cajal [--install]

vllm-router and smg are looked for in build/routers, a virtual environment that --install makes.
"""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.request
import venv

from serving import Server

PROGRAM = "cajal"
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "build" / "routers"
VERSIONS = {"vllm-router": "0.1.17", "smg": "1.13.0"}
CHAT = {"model": "cajal-demo", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 24, "temperature": 0}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def install():
    venv.create(FOLDER, with_pip=True)
    subprocess.run([FOLDER / "bin" / "pip", "install", "--quiet", *(f"{n}=={v}" for n, v in VERSIONS.items())], check=True)


class Router:
    def __init__(self, command, workers):
        self.port = free_port()
        self.log = []
        self.process = subprocess.Popen(
            [str(FOLDER / "bin" / command[0]), *command[1:], "--host", "127.0.0.1", "--port", str(self.port), "--policy",
             "round_robin", "--prometheus-port", str(free_port()), "--worker-urls", *workers],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def post(self, path, body, timeout=60):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read().decode()

    def chat(self):
        return json.loads(self.post("/v1/chat/completions", CHAT))["choices"][0]["message"]["content"]

    def stream(self):
        events = self.post("/v1/chat/completions", {**CHAT, "stream": True}).split("\n\n")
        assert "data: [DONE]" in events, events[-3:]
        chunks = [json.loads(e[6:]) for e in events if e.startswith("data: {")]
        return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])

    def wait_ready(self, seconds=90):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.chat()
            except (OSError, urllib.error.URLError, KeyError, ValueError) as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError(f"no answer through the router ({error}):\n" + "".join(self.log[-30:])) from error
                time.sleep(0.3)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()


class BehindRouters(unittest.TestCase):
    def answers_of(self, server):
        return server.metrics()["vllm:request_success_total"]

    def check(self, command):
        servers = [Server(PROGRAM, "--threads", "1", "--disable-access-log") for _ in range(2)]
        for server in servers:
            self.addCleanup(server.stop)
        router = Router(command, [s.url for s in servers])
        self.addCleanup(router.stop)
        text = router.wait_ready()
        self.assertTrue(text)
        before = [self.answers_of(s) for s in servers]
        for _ in range(6):
            self.assertEqual(router.chat(), text)
            self.assertEqual(router.stream(), text)
        completion = json.loads(router.post("/v1/completions", {"model": "cajal-demo", "prompt": "Once", "max_tokens": 4}))
        self.assertEqual(completion["usage"]["completion_tokens"], 4)
        for server, count in zip(servers, before):
            self.assertGreater(self.answers_of(server), count, "a server was never asked")

        # One is drained while it streams: the stream comes to its end, and the router goes on with the other.
        long = {**CHAT, "max_tokens": 1500, "ignore_eos": True, "stream": True}
        streams = [threading.Thread(target=lambda: results.append(router.post("/v1/chat/completions", long))) for _ in range(2)]
        results = []
        for thread in streams:
            thread.start()
        deadline = time.monotonic() + 30
        while not servers[0].metrics()["vllm:num_requests_running"]:
            self.assertLess(time.monotonic(), deadline, "the streams are over, or were never asked")
        servers[0].process.send_signal(signal.SIGTERM)
        failures = self.ask_until(router, text, 10)
        for thread in streams:
            thread.join(60)
        self.assertEqual(len(results), 2)
        self.assertTrue(all("data: [DONE]" in r for r in results))
        self.assertEqual(servers[0].process.wait(30), 0)
        print(f"\n{command[0]}: one drained, {failures} of its requests failed before the router saw it", flush=True)

    def ask_until(self, router, text, in_a_row):
        """How many failed until so many in a row did not."""
        failures, good, deadline = 0, 0, time.monotonic() + 90
        while good < in_a_row:
            self.assertLess(time.monotonic(), deadline, "the router does not go on:\n" + "".join(router.log[-30:]))
            try:
                self.assertEqual(router.chat(), text)
                good += 1
            except (OSError, urllib.error.URLError):
                failures, good = failures + 1, 0
                time.sleep(0.3)
        return failures

    def check_killed(self, command):
        servers = [Server(PROGRAM, "--threads", "1", "--disable-access-log") for _ in range(2)]
        self.addCleanup(servers[1].stop)
        router = Router(command, [s.url for s in servers])
        self.addCleanup(router.stop)
        text = router.wait_ready()
        servers[0].process.kill()
        servers[0].stop()
        failures = self.ask_until(router, text, 10)
        print(f"\n{command[0]}: one killed, {failures} requests failed before the router saw it", flush=True)

    def test_vllm_router_goes_on_when_one_is_drained(self):
        self.check(["vllm-router"])

    def test_vllm_router_goes_on_when_one_is_killed(self):
        self.check_killed(["vllm-router"])

    def test_smg_goes_on_when_one_is_drained(self):
        self.check(["smg", "launch"])

    def test_smg_goes_on_when_one_is_killed(self):
        self.check_killed(["smg", "launch"])


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else PROGRAM
    if "--install" in sys.argv:
        sys.argv.remove("--install")
        install()
    missing = [name for name in VERSIONS if not (FOLDER / "bin" / name).exists()]
    if missing:
        print(f"skipped: {' and '.join(missing)} of PyPI are not in {os.path.relpath(FOLDER)}; --install puts them there")
        sys.exit(77)
    unittest.main()
