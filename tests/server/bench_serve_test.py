#!/usr/bin/env python3
"""`cajal bench serve` against `cajal serve`: counts, files, keys, HTTPS, and servers that are not there or misbehave.

    python3 tests/server/bench_serve_test.py build/release/cajal
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from serving import Server

PROGRAM = "cajal"


def bench(*arguments, environment=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CAJAL_") and k != "OPENAI_API_KEY"}
    return subprocess.run([PROGRAM, "bench", "serve", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env={**clean, **(environment or {})})


class Bench(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, "--api-key", "sesame", "--threads", "2")

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def results(self, *arguments, key="sesame"):
        ran = bench("--base-url", self.server.url, "--json", *arguments, environment={"OPENAI_API_KEY": key})
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return json.loads(ran.stdout)

    def test_counts_what_was_asked_and_answered(self):
        for backend in ("openai", "openai-chat"):
            result = self.results("--backend", backend, "--num-prompts", 12, "--random-input-len", 20, "--random-output-len", 6,
                                  "--max-concurrency", 4, "--save-detailed", "--num-warmups", 2, "--goodput", "e2el:60000",
                                  "ttft:60000", "--temperature", "0")
            self.assertEqual((result["completed"], result["failed"], result["total_input_tokens"], result["total_output_tokens"]),
                             (12, 0, 240, 72))
            self.assertEqual(result["output_lens"], [6] * 12)
            self.assertLessEqual(result["max_concurrent_requests"], 4)
            self.assertGreaterEqual(result["max_concurrent_requests"], 2)
            self.assertAlmostEqual(result["request_goodput"], result["request_throughput"])
            self.assertEqual(result["model_id"], "cajal-demo")
            for ttft, itls, latency in zip(result["ttfts"], result["itls"], result["latencies"]):
                self.assertGreater(ttft, 0)
                self.assertAlmostEqual(ttft + sum(itls), latency, delta=1e-6)

    def test_sends_requests_when_it_is_told_to(self):
        result = self.results("--num-prompts", 20, "--random-input-len", 4, "--random-output-len", 1, "--request-rate", 40,
                              "--save-detailed")
        self.assertGreaterEqual(result["duration"], 0.5)
        self.assertEqual(result["start_times"], sorted(result["start_times"]))
        self.assertGreaterEqual(result["start_times"][-1], 0.5)

    def test_reads_prompts_and_traces(self):
        with tempfile.TemporaryDirectory() as folder:
            custom, trace = os.path.join(folder, "custom.jsonl"), os.path.join(folder, "trace.jsonl")
            with open(custom, "w") as file:
                file.write('{"prompt": "Once upon a time", "output_tokens": 3}\n{"prompt": "Hello"}\n')
            with open(trace, "w") as file:
                for i in range(3):
                    file.write(json.dumps({"timestamp": i * 100, "input_length": 30, "output_length": 2 + i, "hash_ids": [5]}) + "\n")
            result = self.results("--dataset-name", "custom", "--dataset-path", custom, "--num-prompts", 4,
                                  "--custom-output-len", 5, "--ignore-eos", "--save-detailed")
            self.assertEqual(result["output_lens"], [3, 5, 3, 5])
            result = self.results("--dataset-name", "trace", "--dataset-path", trace, "--save-detailed")
            self.assertEqual(result["output_lens"], [2, 3, 4])
            self.assertGreaterEqual(result["start_times"][2], 0.2)

    def test_writes_the_file_that_vllm_does(self):
        with tempfile.TemporaryDirectory() as folder:
            ran = bench("--base-url", self.server.url, "--num-prompts", 2, "--random-input-len", 4, "--random-output-len", 2,
                        "--save-result", "--result-dir", os.path.join(folder, "new"), "--result-filename", "r.json", "--metadata",
                        "version=0.1", "gpu=none", environment={"OPENAI_API_KEY": "sesame"})
            self.assertEqual(ran.returncode, 0, ran.stderr)
            self.assertIn(" Serving Benchmark Result ", ran.stdout)
            with open(os.path.join(folder, "new", "r.json")) as file:
                result = json.load(file)
        self.assertEqual((result["version"], result["gpu"], result["request_rate"]), ("0.1", "none", "inf"))
        self.assertNotIn("sesame", json.dumps(result))
        for key in ("date", "backend", "num_prompts", "p99_ttft_ms", "p99_tpot_ms", "p99_itl_ms", "output_throughput"):
            self.assertIn(key, result)

    def test_many_streams_at_a_time_are_all_answered(self):
        result = self.results("--num-prompts", 256, "--random-input-len", 8, "--random-output-len", 8, "--random-range-ratio", 0.9)
        self.assertEqual((result["completed"], result["failed"]), (256, 0))

    def assert_fails(self, words, code, *arguments, **keywords):
        ran = bench(*arguments, **keywords)
        self.assertEqual(ran.returncode, code, ran.stderr)
        self.assertRegex(ran.stderr.splitlines()[-1], f"^cajal: error: .*{words}.* — .+$")

    def test_says_what_is_wrong(self):
        at = ["--base-url", self.server.url, "--model", "cajal-demo"]
        self.assert_fails("401", 1, "--base-url", self.server.url)
        self.assert_fails("401", 1, *at, environment={"OPENAI_API_KEY": "wrong"})
        key = {"OPENAI_API_KEY": "sesame"}
        self.assert_fails("404", 1, *at, "--endpoint", "/nothing", environment=key)
        self.assert_fails("other", 1, *at, "--served-model-name", "other", environment=key)
        self.assert_fails("is no address", 1, "--base-url", "localhost:8000")
        self.assert_fails("Connection refused", 1, "--port", "1", "--model", "m")
        self.assert_fails("handshake", 1, "--base-url", self.server.url.replace("http:", "https:"), "--model", "m")
        self.assert_fails("--goodput", 2, *at, "--goodput", "ttfx:3", environment=key)
        self.assert_fails("--percentile-metrics", 2, *at, "--percentile-metrics", "ttft,x", environment=key)
        self.assert_fails("needs a file", 2, *at, "--dataset-name", "custom", environment=key)
        self.assert_fails("no flag of cajal bench serve", 2, "--request-rat", "3")

    def test_survives_servers_that_break_off(self):
        """A server that answers the first request and ends the connection in the middle of every other."""
        listener = socket.create_server(("127.0.0.1", 0))
        event = b'data: {"choices":[{"text":"a"}]}\n\n'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

        def chunk(data):
            return b"%x\r\n%s\r\n" % (len(data), data)

        def serve():
            for i in range(4):
                connection, _ = listener.accept()
                connection.recv(65536)
                whole = head + chunk(event) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
                connection.sendall([whole, head + chunk(event), b"nonsense\r\n\r\n", whole][i])
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        ran = bench("--port", listener.getsockname()[1], "--model", "m", "--num-prompts", 3, "--max-concurrency", 1, "--json",
                    "--save-detailed")
        thread.join()
        listener.close()
        self.assertEqual(ran.returncode, 0, ran.stderr)
        result = json.loads(ran.stdout)
        self.assertEqual((result["completed"], result["failed"]), (1, 2))
        self.assertIn("ended before", result["errors"][0])
        self.assertIn("no HTTP/1.1", result["errors"][1])


class Https(unittest.TestCase):
    def test_believes_who_it_is_told_to(self):
        if not shutil.which("openssl"):
            self.skipTest("the program openssl is not here")
        with tempfile.TemporaryDirectory() as folder:
            cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                            "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
                           check=True, capture_output=True)
            import ssl
            server = Server(PROGRAM, "--ssl-certfile", cert, "--ssl-keyfile", key, tls=ssl.create_default_context(cafile=cert))
            self.addCleanup(server.stop)
            short = ["--num-prompts", 8, "--random-input-len", 4, "--random-output-len", 4]
            named, numbered = f"https://localhost:{server.port}", f"https://127.0.0.1:{server.port}"
            for arguments, code in (([named, "--ssl-ca-certs", cert], 0), ([numbered, "--insecure"], 0), ([named], 1),
                                    ([numbered, "--ssl-ca-certs", cert], 1)):
                ran = bench("--base-url", *arguments, *short)
                self.assertEqual(ran.returncode, code, (arguments, ran.stderr))
                if code:
                    self.assertIn("handshake failed", ran.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else PROGRAM
    unittest.main()
