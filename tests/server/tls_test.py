#!/usr/bin/env python3
"""HTTPS: answers and streams, clients' certificates, files that do not fit, and those who shake hands slowly or not at all.

    python3 tests/server/tls_test.py build/release/cajal
"""
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

from serving import Server

PROGRAM = "cajal"
FOLDER = ""
COMPLETIONS = "/v1/completions"


def path(name):
    return os.path.join(FOLDER, name)


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=FOLDER)


def make_files():
    """An authority, a server's and a client's certificate that it signed, and some that fit nothing."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
    for name, extension in (("server", "subjectAltName=DNS:localhost,IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        with open(path("extension"), "w") as file:
            file.write(extension)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                "-extfile", "extension", "-out", f"{name}.pem")
    openssl("req", "-x509", *curve, "-keyout", "stranger.key", "-out", "stranger.pem", "-days", "2", "-subj", "/CN=stranger")
    openssl("ec", "-in", "server.key", "-aes256", "-passout", "pass:sesame", "-out", "locked.key")
    with open(path("both.pem"), "w") as both:
        both.write(open(path("server.pem")).read() + open(path("server.key")).read())
    with open(path("words.pem"), "w") as words:
        words.write("no certificate\n")


def client_context(certificate=None):
    context = ssl.create_default_context(cafile=path("ca.pem"))
    if certificate:
        context.load_cert_chain(path(f"{certificate}.pem"), path(f"{certificate}.key"))
    return context


SERVER = ["--ssl-certfile", lambda: path("server.pem"), "--ssl-keyfile", lambda: path("server.key")]


def arguments(*parts):
    return [p() if callable(p) else p for p in parts]


class Https(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(PROGRAM, *arguments(*SERVER), tls=client_context())

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    def test_answers_and_streams(self):
        self.assertEqual(self.server.scheme, "https")
        body = {"prompt": "Once", "max_tokens": 8, "temperature": 0}
        whole = self.server.request("POST", COMPLETIONS, body)[2]["choices"][0]["text"]
        connection = self.server.connect()
        for _ in range(2):  # on one connection
            connection.request("POST", COMPLETIONS, json.dumps({**body, "stream": True}))
            events = connection.getresponse().read().decode().split("\n\n")
            self.assertEqual(events[-2], "data: [DONE]")
            self.assertEqual("".join(json.loads(e[6:])["choices"][0]["text"] for e in events[:-2]), whole)
        connection.close()

    def test_reads_large_bodies_and_sends_large_answers(self):
        text = "word " * 200_000
        status, _, answer = self.server.request("POST", "/tokenize", {"prompt": text})
        self.assertEqual(status, 200)
        self.assertGreaterEqual(len(answer["tokens"]), 200_000)

    def test_speaks_new_versions_only_and_http_1(self):
        for version, good in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
            context = client_context()
            context.set_alpn_protocols(["h2", "http/1.1"])
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            with socket.create_connection(("127.0.0.1", self.server.port)) as plain:
                if not good:
                    with self.assertRaises((ssl.SSLError, ConnectionError)):
                        context.wrap_socket(plain, server_hostname="localhost")
                    continue
                with context.wrap_socket(plain, server_hostname="localhost") as secret:
                    self.assertEqual(secret.selected_alpn_protocol(), "http/1.1")

    def test_tells_who_comes_without_tls(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while piece := plain.recv(4096):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 400 "), head)
        self.assertIn("https://", json.loads(body)["error"]["message"])

    def test_ends_what_is_no_handshake(self):
        for garbage in (b"\x00\x01\x02", b"\x16\x03\x01\x00\x05hello", b"\x16" + os.urandom(3000), b"\n\n\n"):
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as plain:
                plain.sendall(garbage)
                try:
                    while plain.recv(4096):
                        pass
                except ConnectionError:
                    pass
        self.assertEqual(self.server.request("GET", "/health")[0], 200)

    def test_those_who_shake_hands_slowly_hold_nobody_up(self):
        before = self.server.descriptors()
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        slow = []
        for i in range(100):
            connection = socket.create_connection(("127.0.0.1", self.server.port))
            connection.sendall(hello[:i % len(hello)])
            slow.append(connection)
        begun = time.monotonic()
        for _ in range(5):
            self.assertEqual(self.server.request("GET", "/health")[0], 200)
        self.assertLess(time.monotonic() - begun, 5)
        for connection in slow:
            connection.close()
        deadline = time.monotonic() + 10
        while self.server.descriptors() > before + 2:
            self.assertLess(time.monotonic(), deadline, "connections stay open")
            time.sleep(0.05)

    def test_clients_may_leave_whenever_they_like(self):
        body = json.dumps({"prompt": "x", "max_tokens": 500, "ignore_eos": True, "stream": True})
        for size in (0, 100, 300):
            connection = self.server.connect()
            connection.request("POST", COMPLETIONS, body)
            if size:
                connection.getresponse().read(size)
            connection.sock and connection.sock.close()
            connection.close()
        self.server.wait_idle()


class ClientsCertificates(unittest.TestCase):
    def asks(self, server, certificate):
        server.tls = client_context(certificate)
        try:
            return server.request("GET", "/health")[0]
        except (ssl.SSLError, ConnectionError):
            return None

    def test_are_asked_for_and_checked(self):
        for reqs, expected in ((1, {None: 200, "client": 200, "stranger": None}), (2, {None: None, "client": 200, "stranger": None})):
            server = Server(PROGRAM, *arguments(*SERVER), "--ssl-ca-certs", path("ca.pem"), "--ssl-cert-reqs", reqs,
                            tls=client_context("client"))
            self.addCleanup(server.stop)
            self.assertEqual({c: self.asks(server, c) for c in expected}, expected, reqs)


class Files(unittest.TestCase):
    def refused(self, code, *given):
        ran = subprocess.run([PROGRAM, "serve", "--port", "0", *arguments(*given)], capture_output=True, text=True, timeout=60,
                             stdin=subprocess.DEVNULL)
        self.assertEqual(ran.returncode, code, ran.stderr)
        last = ran.stderr.splitlines()[-1]
        self.assertRegex(last, "^cajal: error: .+ — .+$")
        return last

    def test_that_do_not_fit_are_one_error_at_the_start(self):
        cert = ["--ssl-certfile", path("server.pem")]
        self.assertIn("/nothing.pem", self.refused(1, "--ssl-certfile", "/nothing.pem"))
        self.assertIn("no certificate", self.refused(1, "--ssl-certfile", path("words.pem"), "--ssl-keyfile", path("server.key")))
        self.assertIn("/nothing.key", self.refused(1, *cert, "--ssl-keyfile", "/nothing.key"))
        self.assertIn("no private key", self.refused(1, *cert, "--ssl-keyfile", path("words.pem")))
        self.assertIn("in --ssl-keyfile", self.refused(1, *cert))
        self.assertIn("is not the key of", self.refused(1, *cert, "--ssl-keyfile", path("stranger.key")))
        self.assertIn("is encrypted", self.refused(1, *cert, "--ssl-keyfile", path("locked.key")))
        self.assertIn("does not open", self.refused(1, *cert, "--ssl-keyfile", path("locked.key"),
                                                    "--ssl-keyfile-password", "sesam"))
        self.assertIn("--ssl-ca-certs", self.refused(1, *SERVER, "--ssl-ca-certs", path("words.pem"), "--ssl-cert-reqs", "2"))
        self.assertIn("--ssl-ca-certs", self.refused(2, *SERVER, "--ssl-cert-reqs", "2"))
        self.assertIn("--ssl-certfile", self.refused(2, "--ssl-keyfile", path("server.key")))
        self.assertIn("--ssl-cert-reqs", self.refused(2, *SERVER, "--ssl-cert-reqs", "3"))

    def test_may_be_one_and_may_be_locked(self):
        for given in (["--ssl-certfile", path("both.pem")],
                      ["--ssl-certfile", path("server.pem"), "--ssl-keyfile", path("locked.key"), "--ssl-keyfile-password", "sesame"]):
            server = Server(PROGRAM, *given, tls=client_context())
            self.assertEqual(server.request("GET", "/health")[0], 200)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else PROGRAM
    if not shutil.which("openssl"):
        print("skipped: the program openssl, which makes the certificates, is not here")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as FOLDER:
        make_files()
        unittest.main()
