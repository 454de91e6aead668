#!/usr/bin/env python3
"""The server as a process with the demo model: endpoints, streams, errors, disconnects, keys, draining.

    python3 tests/server/end_to_end_test.py build/release/cajal
"""
import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import sys
import time
import unittest

import serving

PROGRAM = "cajal"


class Server(serving.Server):
    def __init__(self, *arguments):
        super().__init__(PROGRAM, "--threads", 2, *arguments)

    def connect(self, timeout=120):
        return super().connect(timeout)

    def post(self, path, body, headers=None):
        return self.request("POST", path, body, headers)

    def stream(self, path, body):
        """The data of each event, parsed, without the [DONE] that must end it."""
        connection = self.connect()
        connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = [e for e in answer.read().decode().split("\n\n") if e and not e.startswith(":")]
        connection.close()
        assert events[-1] == "data: [DONE]", events[-3:]
        return [json.loads(e.removeprefix("data: ")) for e in events[:-1]]

    def metric(self, name):
        return self.metrics().get(name, 0)


HELLO = [{"role": "user", "content": "Who are you?"}]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Serving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-num-seqs", 8, "--max-num-waiting", 16)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    def assert_refused(self, answer, status, param=None):
        self.assertEqual(answer[0], status, answer)
        error = answer[2]["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        if param:
            self.assertEqual(error["param"], param)
        self.assertNotRegex(error["message"], r"0x[0-9a-f]{6,}")

    def test_says_how_it_is(self):
        for path in ("/health", "/ready"):
            self.assertEqual(self.server.request("GET", path)[0], 200)
        self.assertIn("version", self.server.request("GET", "/version")[2])
        models = self.server.request("GET", "/v1/models")[2]
        self.assertEqual([m["id"] for m in models["data"]], ["cajal-demo"])
        self.assertEqual(self.server.request("GET", "/v1/models/cajal-demo")[2]["id"], "cajal-demo")
        self.assert_refused(self.server.request("GET", "/v1/models/other"), 404, "model")
        self.assert_refused(self.server.request("GET", "/nothing"), 404)
        answer = self.server.request("GET", CHAT)
        self.assert_refused(answer, 405)
        self.assertEqual(answer[1]["Allow"], "POST")

    def test_has_a_page_that_runs_nothing_from_elsewhere(self):
        status, headers, text = self.server.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertTrue(headers["Content-Type"].startswith("text/html"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertIn("<html", text)

    def test_answers_chats_in_one_piece_and_in_chunks_alike(self):
        body = {"model": "cajal-demo", "messages": HELLO, "max_tokens": 20, "temperature": 0,
                "chat_template_kwargs": {"enable_thinking": False}}
        status, headers, whole = self.server.post(CHAT, body, {"X-Request-Id": "mine-7"})
        self.assertEqual((status, headers["X-Request-Id"]), (200, "mine-7"))
        choice = whole["choices"][0]
        self.assertTrue(choice["message"]["content"])
        self.assertIn(choice["finish_reason"], ("stop", "length"))
        usage = whole["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertIsInstance(usage["prompt_tokens_details"]["cached_tokens"], int)

        chunks = self.server.stream(CHAT, {**body, "stream_options": {"include_usage": True}})
        self.assertEqual(len({(c["id"], c["created"], c["model"], c["object"]) for c in chunks}), 1)
        self.assertEqual(chunks[0]["choices"][0]["delta"]["role"], "assistant")
        self.assertEqual((chunks[-1]["choices"], chunks[-1]["usage"]["completion_tokens"]), ([], usage["completion_tokens"]))
        self.assertTrue(all(c["usage"] is None for c in chunks[:-1]))
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1])
        self.assertEqual(text, choice["message"]["content"])
        finishes = [c["choices"][0]["finish_reason"] for c in chunks[:-1]]
        self.assertEqual(finishes[-1], choice["finish_reason"])
        self.assertEqual(set(finishes[:-1]), {None})

    def test_gives_several_answers_and_stops_where_it_is_told(self):
        body = {"messages": HELLO, "n": 3, "max_completion_tokens": 12, "temperature": 1.5, "seed": 5, "ignore_eos": True}
        whole = self.server.post(CHAT, body)[2]
        texts = [c["message"]["content"] for c in whole["choices"]]
        self.assertEqual(whole["usage"]["completion_tokens"], 36)
        streamed = ["", "", ""]
        for chunk in self.server.stream(CHAT, body):
            choice = chunk["choices"][0]
            streamed[choice["index"]] += choice["delta"].get("content", "")
        self.assertEqual(streamed, texts)
        plain = self.server.post(COMPLETIONS, {"prompt": "The", "max_tokens": 30, "temperature": 0})[2]["choices"][0]["text"]
        stop = plain[8:12]
        cut = self.server.post(COMPLETIONS, {"prompt": "The", "max_tokens": 30, "temperature": 0, "stop": [stop]})[2]
        self.assertEqual(cut["choices"][0]["text"], plain[:plain.index(stop)])
        self.assertEqual(cut["choices"][0]["finish_reason"], "stop")

    def test_leaves_control_tokens_out_of_text_unless_told(self):
        body = {"messages": HELLO, "max_tokens": 60, "temperature": 0, "ignore_eos": True, "reasoning_effort": "none"}
        texts = [self.server.post(CHAT, {**body, **more})[2]["choices"][0]["message"]["content"]
                 for more in ({}, {"skip_special_tokens": True}, {"skip_special_tokens": False})]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(texts[2].replace("<|im_end|>", ""), texts[0])
        self.assertIn("<|im_end|>", texts[2])

    def test_reports_logprobs_and_token_ids(self):
        body = {"messages": HELLO, "max_tokens": 4, "temperature": 0, "logprobs": True, "top_logprobs": 2,
                "return_token_ids": True}
        whole = self.server.post(CHAT, body)[2]
        content = whole["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), len(whole["choices"][0]["token_ids"]))
        self.assertTrue(whole["prompt_token_ids"])
        for token in content:
            self.assertLessEqual(token["logprob"], 0)
            self.assertEqual(len(token["top_logprobs"]), 2)
            self.assertEqual(token["top_logprobs"][0]["logprob"], token["logprob"])
        chunks = self.server.stream(CHAT, body)
        streamed = [t for c in chunks if c["choices"][0]["logprobs"] for t in c["choices"][0]["logprobs"]["content"]]
        self.assertEqual(streamed, content)

    def test_completes_texts_and_token_ids_in_batches(self):
        ids = self.server.post("/tokenize", {"prompt": "Once upon a time"})[2]
        self.assertEqual(ids["count"], len(ids["tokens"]))
        self.assertEqual(self.server.post("/detokenize", {"tokens": ids["tokens"]})[2]["prompt"], "Once upon a time")
        body = {"max_tokens": 8, "temperature": 0}
        one = self.server.post(COMPLETIONS, {**body, "prompt": "Once upon a time"})[2]["choices"][0]["text"]
        batch = self.server.post(COMPLETIONS, {**body, "prompt": [ids["tokens"], "Once upon a time", "Two"], "n": 2})[2]
        self.assertEqual([c["index"] for c in batch["choices"]], list(range(6)))
        self.assertEqual([c["text"] for c in batch["choices"][:4]], [one] * 4)
        chunks = self.server.stream(COMPLETIONS, {**body, "prompt": "Once upon a time"})
        self.assertEqual("".join(c["choices"][0]["text"] for c in chunks), one)

    def test_echoes_prompts_with_their_logprobs(self):
        body = {"prompt": "Once upon", "max_tokens": 0, "echo": True, "logprobs": 1}
        choice = self.server.post(COMPLETIONS, body)[2]["choices"][0]
        logprobs = choice["logprobs"]
        self.assertEqual(choice["text"], "Once upon")
        self.assertEqual("".join(logprobs["tokens"]), "Once upon")
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertTrue(all(x < 0 for x in logprobs["token_logprobs"][1:]))
        longer = self.server.post(COMPLETIONS, {**body, "max_tokens": 3, "temperature": 0})[2]["choices"][0]
        self.assertEqual("".join(longer["logprobs"]["tokens"]), longer["text"])
        self.assertEqual({len(v) for v in longer["logprobs"].values()}, {len(logprobs["tokens"]) + 3})

    def events(self, path, body):
        """[(name, data)] of a stream whose events have names, and which ends with the last of them."""
        connection = self.server.connect()
        connection.request("POST", path, json.dumps({**body, "stream": True}))
        text = connection.getresponse().read().decode()
        connection.close()
        return [(e.split("\n")[0].removeprefix("event: "), json.loads(e.split("\ndata: ")[1]))
                for e in text.split("\n\n") if e and not e.startswith(":")]

    def test_answers_responses_in_one_piece_and_in_events_alike(self):
        body = {"input": "Who are you?", "temperature": 0, "max_output_tokens": 60}
        whole = self.server.post("/v1/responses", body)[2]
        events = self.events("/v1/responses", body)
        self.assertEqual([data["sequence_number"] for _, data in events], list(range(len(events))))
        self.assertTrue(all(name == data["type"] for name, data in events))
        last = events[-1][1]["response"]
        plain = [[{k: v for k, v in item.items() if k != "id"} for item in r["output"]] for r in (whole, last)]
        self.assertEqual((plain[0], whole["status"]), (plain[1], last["status"]))
        self.assertEqual(whole["usage"]["output_tokens"], last["usage"]["output_tokens"])
        self.assert_refused(self.server.post("/v1/responses", {**body, "previous_response_id": "r"}), 400, "previous_response_id")

    def test_answers_messages_in_one_piece_and_in_events_alike(self):
        body = {"messages": HELLO, "temperature": 0, "max_tokens": 60, "thinking": {"type": "adaptive"}}
        whole = self.server.post("/v1/messages", body)[2]
        events = self.events("/v1/messages", body)
        self.assertTrue(all(name == data["type"] for name, data in events))
        texts = {}
        for _, data in events:
            if data["type"] == "content_block_delta":
                for name in ("thinking", "text"):
                    texts[data["index"]] = texts.get(data["index"], "") + data["delta"].get(name, "")
        self.assertEqual(list(texts.values()), [b.get("thinking") or b["text"] for b in whole["content"]])
        self.assertEqual(events[-2][1]["delta"]["stop_reason"], whole["stop_reason"])
        status, headers, error = self.server.post("/v1/messages", {"messages": HELLO}, {"X-Request-Id": "mine-8"})
        self.assertEqual((status, error), (400, {"type": "error", "request_id": "mine-8", "error": {
            "type": "invalid_request_error", "message": "max_tokens is missing"}}))
        self.assertEqual(headers["Request-Id"], "mine-8")

    def test_embeds_and_ranks(self):
        answer = self.server.post("/v1/embeddings", {"input": ["a", "b"], "dimensions": 16})[2]
        self.assertEqual([(d["index"], len(d["embedding"])) for d in answer["data"]], [(0, 16), (1, 16)])
        self.assert_refused(self.server.post("/v1/embeddings", {}), 400, "input")
        self.assert_refused(self.server.post("/v1/rerank", {"query": "a"}), 400, "documents")

    def test_refuses_what_makes_no_sense_and_goes_on(self):
        chat = {"messages": HELLO, "max_tokens": 1}
        for more, param in (({"temperature": -1}, "temperature"), ({"temperature": "warm"}, "temperature"),
                            ({"top_p": 0}, "top_p"), ({"n": 0}, "n"), ({"n": 2 ** 70}, "n"), ({"max_tokens": 0}, "max_tokens"),
                            ({"messages": []}, "messages"), ({"messages": [{"role": "pirate", "content": "x"}]}, "messages[0].role"),
                            ({"messages": [{"role": "user"}]}, "messages[0].content"),
                            ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
                            ({"logit_bias": {"1": 500}}, "logit_bias.1"), ({"response_format": {"type": "xml"}}, "response_format.type"),
                            ({"tools": [{}]}, "tools[0].function"), ({"tool_choice": "required"}, "tool_choice"),
                            ({"top_logprobs": 3}, "top_logprobs"), ({"stop": [1]}, "stop"),
                            ({"stream_options": {}}, "stream_options"), ({"model": "other"}, "model"),
                            ({"messages": [{"role": "user", "content": "word " * 5000}]}, "messages")):
            self.assert_refused(self.server.post(CHAT, {**chat, **more}), 404 if param == "model" else 400, param)
        for body in (b"", b"{", b"[]", b"\xff\xfe", b'{"messages": ' + b"[" * 5000, b'"text"', b"{} {}", b'{"prompt": NaN}'):
            for path in (CHAT, COMPLETIONS, "/v1/responses", "/v1/embeddings", "/v1/rerank", "/tokenize", "/detokenize"):
                self.assert_refused(self.server.post(path, body), 400)
        for prompt in ("", [], [[]], [2 ** 31], [-1], [10 ** 6], [1.5], {"a": 1}):
            self.assert_refused(self.server.post(COMPLETIONS, {"prompt": prompt}), 400)
        self.assert_refused(self.server.post(CHAT, b"x" * (17 << 20)), 413)
        self.assertEqual(self.server.post(CHAT, chat)[0], 200)

    def test_names_fields_that_nobody_knows(self):
        answer = self.server.post(CHAT, {"messages": HELLO, "max_tokens": 1, "temperatur": 1, "user": "u"})
        self.assertEqual((answer[0], answer[1]["X-Cajal-Ignored-Fields"]), (200, "temperatur"))

    def test_ends_what_nobody_waits_for(self):
        endless = {"messages": HELLO, "max_tokens": 1900, "ignore_eos": True}
        for stream in (True, False):
            for _ in range(3):
                connection = self.server.connect()
                connection.request("POST", CHAT, json.dumps({**endless, "stream": stream}))
                if stream:
                    connection.getresponse().read(200)
                else:
                    deadline = time.time() + 30
                    while not self.server.metric("vllm:num_requests_running"):
                        self.assertLess(time.time(), deadline)
                connection.close()
        self.server.wait_idle()

    def test_answers_many_at_once_as_each_alone(self):
        def ask(i):
            body = {"prompt": f"Number {i % 4}:", "max_tokens": 12, "temperature": 0.8, "seed": i % 4}
            return i % 4, "".join(c["choices"][0]["text"] for c in self.server.stream(COMPLETIONS, body))

        alone = dict(ask(i) for i in range(4))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for i, text in pool.map(ask, range(24)):
                self.assertEqual(text, alone[i])
        self.server.wait_idle()

    def test_refuses_more_than_may_wait(self):
        body = {"prompt": "x", "max_tokens": 300, "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(lambda _: self.server.post(COMPLETIONS, body), range(40)))
        self.assertEqual({a[0] for a in answers}, {200, 429})
        for answer in answers:
            if answer[0] == 429:
                self.assert_refused(answer, 429)
                self.assertTrue(answer[1]["Retry-After"])
        self.server.wait_idle()

    def test_ends_answers_that_take_too_long(self):
        body = {"messages": HELLO, "max_tokens": 1900, "ignore_eos": True, "timeout_ms": 50}
        self.assert_refused(self.server.post(CHAT, body), 504)
        self.assertEqual(self.server.stream(CHAT, body)[-1]["error"]["code"], "deadline_exceeded")

    def test_keeps_pages_from_elsewhere_out(self):
        body = {"messages": HELLO, "max_tokens": 1}
        self.assert_refused(self.server.post(CHAT, body, {"Origin": "http://evil.example"}), 403)
        evil = {"Origin": "http://evil.example:8000", "Host": "evil.example:8000"}  # a name that leads to this machine
        self.assert_refused(self.server.post(CHAT, body, evil), 403)
        answer = self.server.post(CHAT, body, {"Origin": "http://localhost:3000"})
        self.assertEqual((answer[0], answer[1]["Access-Control-Allow-Origin"]), (200, "http://localhost:3000"))
        answer = self.server.request("OPTIONS", CHAT, None, {"Origin": "http://localhost:3000"})
        self.assertEqual(answer[0], 204)
        self.assertIn("POST", answer[1]["Access-Control-Allow-Methods"])

    def test_counts_for_prometheus(self):
        text = self.server.request("GET", "/metrics")[2]
        for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
                     "vllm:cache_config_info", "cajal:http_requests_total"):
            self.assertRegex(text, rf"(?m)^{name}(?:{{[^}}]*}})? \S+$")
        self.assertIn('model_name="cajal-demo"', text)


class Keys(unittest.TestCase):
    def test_every_path_but_probes_wants_a_key(self):
        server = Server("--api-key", "one", "--api-key", "two", "--served-model-name", "a", "--served-model-name", "b")
        self.addCleanup(server.stop)
        routes = [("GET", p) for p in ("/v1/models", "/v1/models/a", "/metrics", "/version", "/nothing", "/V1/models",
                                       "//v1/models", "/v1/../v1/models", "/%761/models")]
        routes += [("POST", p) for p in (CHAT, COMPLETIONS, "/v1/responses", "/v1/responses/input_tokens", "/v1/messages",
                                         "/v1/messages/count_tokens", "/v1/embeddings", "/v1/rerank", "/rerank", "/tokenize",
                                         "/detokenize")]
        for method, path in routes:
            for headers in ({}, {"Authorization": "Bearer three"}, {"Authorization": "Bearer on"}, {"Authorization": "one"},
                            {"X-Api-Key": "onee"}, {"Authorization": "Bearer "}):
                self.assertEqual(server.request(method, path, None, headers)[0], 401, (path, headers))
            for headers in ({"Authorization": "Bearer one"}, {"X-Api-Key": "two"}, {"authorization": "bearer two"}):
                self.assertNotEqual(server.request(method, path, None, headers)[0], 401, (path, headers))
        for path in ("/health", "/ready", "/"):
            self.assertEqual(server.request("GET", path)[0], 200)
        key = {"Authorization": "Bearer one"}
        self.assertEqual(server.post(COMPLETIONS, {"model": "b", "prompt": "x", "max_tokens": 1}, key)[2]["model"], "b")


class Ending(unittest.TestCase):
    def test_requests_under_way_end_before_the_server(self):
        server = Server()
        body = {"prompt": "x", "max_tokens": 400, "ignore_eos": True}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.stream, COMPLETIONS, body)
            while not server.metric("vllm:num_requests_running"):
                time.sleep(0.005)
            server.process.send_signal(signal.SIGTERM)
            deadline = time.time() + 20
            while server.request("GET", "/ready")[0] != 503:
                self.assertLess(time.time(), deadline)
            refused = server.post(COMPLETIONS, body)
            self.assertEqual((refused[0], refused[2]["error"]["code"]), (503, "draining"))
            self.assertEqual(answer.result()[-1]["choices"][0]["finish_reason"], "length")
        self.assertEqual(server.process.wait(30), 0)
        server.process.stderr.close()

    def test_a_timeout_cuts_what_goes_on_and_a_second_signal_does_not_wait(self):
        for timeout, signals, code in ((0, 1, 0), (600, 2, 128 + signal.SIGTERM)):
            server = Server("--shutdown-timeout", timeout)
            connection = socket.create_connection(("127.0.0.1", server.port))
            body = json.dumps({"prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True})
            connection.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            connection.recv(100)
            for _ in range(signals):
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.2)
            self.assertEqual(server.process.wait(30), code)
            server.process.stderr.close()
            connection.close()

    def test_what_cannot_start_says_so(self):
        taken = socket.create_server(("127.0.0.1", 0))
        for arguments, words in ((["--port", taken.getsockname()[1]], "cannot listen"), (["/does/not/exist"], "/does/not/exist")):
            ran = subprocess.run([PROGRAM, "serve", *map(str, arguments)], capture_output=True, text=True, timeout=60)
            self.assertEqual(ran.returncode, 1)
            self.assertRegex(ran.stderr.splitlines()[-1], f"^cajal: error: .*{words}.* — .+$")
        taken.close()

    def test_prints_its_configuration_and_where_it_is_from(self):
        ran = subprocess.run([PROGRAM, "serve", "--port", "77", "--print-config"], capture_output=True, text=True, timeout=60,
                             env={**os.environ, "CAJAL_MAX_NUM_SEQS": "3"})
        self.assertEqual(ran.returncode, 0, ran.stderr)
        for line in ("port: 77  # command line", "max-num-seqs: 3  # environment", "host: 127.0.0.1  # default"):
            self.assertIn(line, ran.stdout.splitlines())


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else PROGRAM
    unittest.main()
