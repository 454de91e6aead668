"""`cajal serve` as a process, for the tests of this folder."""
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import threading
import time

DEMO = "cajal-demo"


class Server:
    """On a free port, with the demo model, ready. Its log is read all the time, so that it never waits for us."""

    def __init__(self, program, *arguments, tls=None, environment=None, descriptors=None):
        self.tls = tls  # an ssl.SSLContext of a client, where the server speaks HTTPS
        clean = {k: v for k, v in os.environ.items() if not k.startswith("CAJAL_")}
        self.process = subprocess.Popen(
            [program, "serve", "--port", "0", *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True, env={**clean, **(environment or {})},
            preexec_fn=descriptors and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors // 2, descriptors))))
        self.log, self.port = [], None
        self.has_port = threading.Event()
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        self.has_port.wait(60)
        if not self.port:
            self.process.kill()
            raise RuntimeError("the server did not start: " + "".join(self.log))
        self.wait_ready()

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(r"serving on (https?)://[^:]+:(\d+)", line):
                self.scheme, self.port = match[1], int(match[2])
                self.has_port.set()
        self.has_port.set()

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def connect(self, timeout=60):
        if self.tls:
            return http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, JSON or text)"""
        connection = self.connect()
        data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return answer.status, answer.headers, json.loads(text) if is_json else text

    def wait_ready(self, seconds=120):
        deadline = time.time() + seconds
        while self.request("GET", "/ready")[0] != 200:
            if time.time() > deadline or self.process.poll() is not None:
                raise RuntimeError("the server did not become ready: " + "".join(self.log))
            time.sleep(0.01)

    def metrics(self):
        """{name: sum over labels}"""
        result = {}
        for line in self.request("GET", "/metrics")[2].splitlines():
            if match := re.match(r"([\w:]+)(?:\{.*\})? (\S+)$", line):
                result[match[1]] = result.get(match[1], 0) + float(match[2])
        return result

    def wait_idle(self, seconds=60):
        deadline = time.time() + seconds
        while True:
            metrics = self.metrics()
            if not metrics["vllm:num_requests_running"] and not metrics["vllm:num_requests_waiting"]:
                return
            if time.time() > deadline:
                raise AssertionError("requests go on")
            time.sleep(0.02)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        """The exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self.reader.join(10)
        self.process.stderr.close()
        return code
