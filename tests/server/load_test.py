#!/usr/bin/env python3
"""The server under load, in a storm, overloaded, and asked nonsense.

    python3 tests/server/load_test.py build/release/cajal [--seconds 60] [--streams 256] [--disconnects 2000]

Whatever happens, a text is what it is when asked alone, nothing is left over afterwards, and who asks nonsense is told so, alone.
"""
import argparse
import asyncio
import json
import random
import statistics
import sys
import time
import unittest

from serving import Server

OPTIONS = argparse.Namespace(program="cajal", seconds=60.0, streams=256, disconnects=2000)
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def body_of(number):
    """One of 24 requests that differ in length, in sampling and in what they share."""
    body = {"prompt": f"Story {number % 6}: " + "once upon a time " * (number % 5 * 6), "max_tokens": 8 + number % 7 * 8,
            "ignore_eos": True, "seed": number, "temperature": [0, 0.8, 1.2][number % 3], "stream": True}
    return body if number % 2 else {**body, "top_p": 0.9, "frequency_penalty": 0.5}


def request_bytes(path, body, headers=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def read_head(reader):
    """(status, headers with small letters)"""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    return int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:] if line)


async def read_body(reader, headers):
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


class Stream:
    """What came of one streamed completion."""

    def __init__(self):
        self.text, self.first, self.longest_silence, self.status = "", None, 0.0, 0

    async def run(self, port, body, stop_after=None, wait=None):
        """Leaves after `stop_after` chunks. `wait` seconds go by before each read."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            begun = last = time.monotonic()
            writer.write(request_bytes(COMPLETIONS, body))
            self.status, self.headers = await read_head(reader)
            if self.status != 200:
                self.error = json.loads(await read_body(reader, self.headers))["error"]
                return self
            done, chunks = False, 0
            while True:
                if wait:
                    await asyncio.sleep(wait)
                size = int((await reader.readline()).strip() or b"0", 16)
                piece = await reader.readexactly(size + 2)
                if size == 0:
                    break
                now = time.monotonic()
                self.first = self.first or now - begun
                self.longest_silence, last = max(self.longest_silence, now - last), now
                for line in piece.decode().split("\n"):
                    if line == "data: [DONE]":
                        done = True
                    elif line.startswith("data: "):
                        event = json.loads(line[6:])
                        if "error" in event:
                            raise AssertionError(event)
                        self.text += "".join(c["text"] for c in event["choices"])
                chunks += 1
                if chunks == stop_after:
                    return self
            assert done, "no [DONE]"
            return self
        finally:
            writer.close()


async def raw(port, data, seconds=30):
    """(status, headers, error or other JSON) of bytes that need be no request; status 0: the connection ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        try:
            status, headers = await asyncio.wait_for(read_head(reader), seconds)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, {}, None
        text = await asyncio.wait_for(read_body(reader, headers), seconds)
        return status, headers, json.loads(text) if text else None
    finally:
        writer.close()


class State:
    """What must be as before when all is over."""

    def __init__(self, server):
        server.wait_idle()
        time.sleep(0.2)
        self.usage = server.metrics()["vllm:kv_cache_usage_perc"]
        self.descriptors, self.resident = server.descriptors(), server.resident_bytes()

    def __str__(self):
        return f"{self.descriptors} descriptors, {self.resident / 2**20:.1f} MiB resident, {self.usage:.4f} of blocks in use"


class Load(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(OPTIONS.program, "--threads", "1", "--max-num-waiting", "4096", "--disable-access-log",
                            "--kv-cache-memory-bytes", 24 << 20)  # all of it is touched soon
        cls.port = cls.server.port
        cls.alone = {n: asyncio.run(Stream().run(cls.port, body_of(n))).text for n in range(24)}
        # Pools and the prefix cache fill up once.
        asyncio.run(cls.ask_side_by_side(cls("assert_nothing_is_left"), OPTIONS.streams, min(5, OPTIONS.seconds / 2), 0.05, {}))

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log[-20:])

    def assert_nothing_is_left(self, before, grace=10):
        deadline = time.monotonic() + grace
        while self.server.descriptors() > before.descriptors + 2:
            self.assertLess(time.monotonic(), deadline, "connections stay open")
            time.sleep(0.1)
        after = State(self.server)
        print(f"  before: {before}\n  after:  {after}", flush=True)
        self.assertEqual(after.usage, before.usage)
        self.assertLess(after.resident, before.resident * 1.05 + (16 << 20))

    async def keep_asking(self, until, cancels, seen, seed):
        """One client that asks one thing after another, and leaves in the middle of some."""
        dice = random.Random(seed)
        while time.monotonic() < until:
            number = dice.randrange(24)
            if dice.random() < cancels:
                await Stream().run(self.port, body_of(number), stop_after=dice.randrange(1, 6))
                seen["left"] = seen.get("left", 0) + 1
                continue
            stream = await Stream().run(self.port, body_of(number))
            self.assertEqual(stream.status, 200)
            self.assertEqual(stream.text, self.alone[number], body_of(number))
            seen.setdefault("first", []).append(stream.first)
            seen.setdefault("silence", []).append(stream.longest_silence)

    async def ask_side_by_side(self, streams, seconds, cancels, seen):
        until = time.monotonic() + seconds
        await asyncio.gather(*(self.keep_asking(until, cancels, seen, seed) for seed in range(streams)))

    def test_many_streams_get_what_each_gets_alone(self):
        before, seen = State(self.server), {}
        asyncio.run(self.ask_side_by_side(OPTIONS.streams, OPTIONS.seconds, 0.05, seen))
        first, silence = sorted(seen["first"]), max(seen["silence"])
        print(f"\n{OPTIONS.streams} streams: {len(first)} answers and {seen.get('left', 0)} that were left; first token after "
              f"{statistics.median(first) * 1e3:.0f} ms, at most {first[-1] * 1e3:.0f}; longest silence {silence * 1e3:.0f} ms")
        # Who comes first is served first: nobody waits for many times what others do.
        self.assertLess(first[-1], 10 * statistics.median(first) + 5)
        self.assert_nothing_is_left(before)

    async def neighbours(self, seconds):
        """The median time of a short answer, asked again and again."""
        until, times = time.monotonic() + seconds, []
        while time.monotonic() < until or len(times) < 5:
            begun = time.monotonic()
            stream = await Stream().run(self.port, body_of(7))
            self.assertEqual(stream.text, self.alone[7])
            times.append(time.monotonic() - begun)
        return statistics.median(times)

    async def slow_header(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for byte in b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n":
                writer.write(bytes([byte]))
                await asyncio.sleep(1)
        finally:
            writer.close()

    async def slow_reader(self, number):
        """Reads next to nothing of a long answer, through a small window."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=256)
        try:
            writer.get_extra_info("socket").setsockopt(1, 8, 2048)  # SO_RCVBUF
            body = {"prompt": "x" * number, "max_tokens": 4, "logprobs": 5, "stream": True, "n": 2}
            writer.write(request_bytes(COMPLETIONS, body))
            while True:
                await reader.read(1)
                await asyncio.sleep(1)
        finally:
            writer.close()

    def test_those_who_are_slow_hold_nobody_up(self):
        async def storm():
            quiet = await self.neighbours(OPTIONS.seconds / 20)
            slow = [asyncio.create_task(self.slow_header()) for _ in range(200)]
            slow += [asyncio.create_task(self.slow_reader(i % 50 + 1)) for i in range(100)]
            await asyncio.sleep(1)
            loud = await self.neighbours(OPTIONS.seconds / 20)
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            return quiet, loud

        before = State(self.server)
        quiet, loud = asyncio.run(storm())
        print(f"\nbeside 200 slow headers and 100 slow readers: {loud * 1e3:.2f} ms an answer, alone {quiet * 1e3:.2f}")
        self.assertLess(loud, 5 * quiet + 0.1)  # it does not wait for them; the figure is above
        self.assert_nothing_is_left(before)

    async def leave_at_some_byte(self, dice):
        data = request_bytes(COMPLETIONS, {**body_of(dice.randrange(24)), "stream": dice.random() < 0.7, "max_tokens": 400})
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            kind = dice.random()
            writer.write(data[:dice.randrange(len(data))] if kind < 0.4 else data)
            await writer.drain()
            if kind > 0.6:
                left = dice.randrange(1, 3000)
                while left > 0 and (piece := await asyncio.wait_for(reader.read(left), 0.5)):
                    left -= len(piece)
        except (asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            if dice.random() < 0.5:
                writer.transport.abort()
            writer.close()

    def test_clients_leave_at_any_byte_and_leave_nothing(self):
        async def storm():
            dice, places = random.Random(1), asyncio.Semaphore(64)

            async def one():
                async with places:
                    await self.leave_at_some_byte(dice)

            leaving = asyncio.gather(*(one() for _ in range(OPTIONS.disconnects)))
            answers = 0
            while not leaving.done():  # and those who stay get theirs
                number = answers % 24
                self.assertEqual((await Stream().run(self.port, body_of(number))).text, self.alone[number])
                answers += 1
            await leaving
            return answers

        before = State(self.server)
        print(f"\n{OPTIONS.disconnects} clients left; {asyncio.run(storm())} answers beside them")
        self.assert_nothing_is_left(before)


class Crowd(unittest.TestCase):
    def test_of_idle_connections_keeps_nobody_out(self):
        server = Server(OPTIONS.program, "--threads", "1", "--disable-access-log", descriptors=200)
        self.addCleanup(server.stop)
        idle = [server.connect() for _ in range(500)]
        for connection in idle:
            connection.connect()
        for _ in range(5):
            self.assertEqual(server.request("GET", "/health")[0], 200)
        self.assertLess(server.descriptors(), 200)
        for connection in idle:
            connection.close()


class Overload(unittest.TestCase):
    def test_is_refused_politely_and_gone_when_it_is_over(self):
        server = Server(OPTIONS.program, "--threads", "1", "--max-num-seqs", "4", "--max-num-waiting", "16", "--disable-access-log")
        self.addCleanup(server.stop)
        alone = asyncio.run(Stream().run(server.port, body_of(3))).text

        async def flood():
            return await asyncio.gather(*(Stream().run(server.port, {**body_of(3), "max_tokens": 200} if i % 10 else body_of(3))
                                          for i in range(200)))

        before, answers = State(server), asyncio.run(flood())
        self.assertEqual({a.status for a in answers}, {200, 429})
        for i, answer in enumerate(answers):
            if answer.status == 429:
                self.assertIn(answer.error["code"], ("queue_full", "overloaded"))
                self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
            elif i % 10 == 0:
                self.assertEqual(answer.text, alone)
        self.assertGreaterEqual(sum(a.status == 200 for a in answers), 16)  # those that may wait, at least
        self.assertEqual(asyncio.run(Stream().run(server.port, body_of(3))).text, alone)
        self.assertEqual(State(server).usage, before.usage)


# What is no request, and the status that says so; 0: the connection may just end.
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
BAD_HTTP = [
    (b"\r\n\r\n\x00\x01\x02 nonsense\r\n\r\n", {400}), (b"GET\r\n\r\n", {400}), (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", {400}),
    (b"GET /health HTTP/1.1\r\n\r\n", {400}), (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", {400}),
    (b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n", {400}), (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
    (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", {400}), (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", {431}),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20000 + b"\r\n\r\n", {431}),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", {431}),
    (HEAD + b"Content-Length: -1\r\n\r\n", {400}), (HEAD + b"Content-Length: 5x\r\n\r\n", {400}),
    (HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", {400, 413}), (HEAD + b"Content-Length: 999999999999\r\n\r\n", {413}),
    (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12", {400}),
    (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", {400}), (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", {400}),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", {400}),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", {400, 413}),
]
GOOD = {"prompt": "x", "max_tokens": 2}
BAD_BODIES = [
    b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe{}", b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b'{"prompt": "x"} x',
    b"[" * 100000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"prompt": "x", "temperature": NaN}', b'{"prompt": "x", "temperature": Infinity}',
    b'{"prompt": "x", "max_tokens": 1e999}',
] + [{**GOOD, key: value} for key, values in {
    "max_tokens": [-1, 2**63, 1e308, 1.5, "5", [], {}], "temperature": [-1, "hot", [], 1e308],
    "top_p": [-0.1, 1.1, "x"], "n": [0, -1, 10**9, 1.5], "logprobs": [-1, 10**6, "x"], "seed": ["x", 1.5, [1]],
    "stop": [5, ["x"] * 1000, "y" * 100000, {}], "stream": ["yes", 1], "top_k": [1.5, "x"],
    "presence_penalty": [99, "x"], "prompt": [None, [], "", {}, 5, [[]], [-1], [2**31], [10**9], ["a", 5], "word " * 100000],
    "model": ["nobody", 5], "stop_token_ids": [["x"], [-5], 5], "stream_options": [5, "x"], "timeout_ms": [-1, "x"],
}.items() for value in values]
HI = [{"role": "user", "content": "hi"}]
BAD_CHATS = [{"messages": m, "max_tokens": 2} for m in (
    None, [], {}, "hi", [5], [{}], [{"role": "user"}], [{"role": "king", "content": "x"}], [{"role": 5, "content": "x"}],
    [{"role": "user", "content": 5}], [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
    [{"role": "user", "content": "word " * 100000}], [{"content": "x"}])] + [
    {"messages": HI, "tools": "x"}, {"messages": HI, "tools": [{}]}, {"messages": HI, "tool_choice": "perhaps"},
    {"messages": HI, "top_logprobs": 99, "logprobs": True}, {"messages": HI, "chat_template_kwargs": 5},
    {"messages": HI, "reasoning_effort": 5}]


class Nonsense(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(OPTIONS.program, "--threads", "1", "--disable-access-log", "--max-request-bytes", 4 << 20)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def setUp(self):
        self.canary = asyncio.run(Stream().run(self.server.port, body_of(5))).text

    def tearDown(self):
        self.assertEqual(asyncio.run(Stream().run(self.server.port, body_of(5))).text, self.canary)

    def assert_error(self, answer, statuses, what):
        status, _, json_body = answer
        self.assertIn(status, statuses, (what, answer))
        if status:
            self.assertEqual(set(json_body["error"]), {"message", "type", "param", "code"}, what)
            self.assertTrue(json_body["error"]["message"], what)
            self.assertNotRegex(json_body["error"]["message"], r"0x[0-9a-f]{6,}|\.cpp")

    def test_in_http_is_answered_or_hung_up_on(self):
        for data, statuses in BAD_HTTP:
            self.assert_error(asyncio.run(raw(self.server.port, data)), statuses, data[:80])

    def test_in_bodies_is_an_error_of_that_request(self):
        async def ask(path, body):
            return await raw(self.server.port, request_bytes(path, body, "Connection: close\r\n"))

        for path, bodies in ((COMPLETIONS, BAD_BODIES), (CHAT, BAD_BODIES[:14] + BAD_CHATS)):
            for body in bodies:
                self.assert_error(asyncio.run(ask(path, body)), range(400, 500), (path, str(body)[:100]))

    def test_a_body_beyond_the_limit_is_refused_however_it_comes(self):
        big = b'{"prompt": "' + b"x" * (5 << 20) + b'"}'
        chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100000\r\n" + b"x" * (1 << 20) + b"\r\n") * 5
        for data in (request_bytes(COMPLETIONS, big), chunked):
            try:
                self.assert_error(asyncio.run(raw(self.server.port, data)), {413}, "big")
            except ConnectionError:
                pass  # it was hung up on while it still sent

    def test_beside_others_changes_nothing_for_them(self):
        async def both():
            async def nonsense():
                for body in BAD_BODIES[:20]:
                    await raw(self.server.port, request_bytes(COMPLETIONS, body))

            done = await asyncio.gather(*(Stream().run(self.server.port, body_of(5)) for _ in range(8)), *(nonsense() for _ in range(4)))
            return [s.text for s in done[:8]]

        self.assertEqual(asyncio.run(both()), [self.canary] * 8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=OPTIONS.seconds)
    parser.add_argument("--streams", type=int, default=OPTIONS.streams)
    parser.add_argument("--disconnects", type=int, default=OPTIONS.disconnects)
    OPTIONS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
