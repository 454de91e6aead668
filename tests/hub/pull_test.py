#!/usr/bin/env python3
"""`cajal pull` against a server that speaks the hub's protocol, on loopback.

    python3 tests/hub/pull_test.py build/release/cajal
"""
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

PROGRAM = "cajal"
SHA = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = os.urandom(1 << 20)


def git_blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub:
    """A repository org/model; what it does wrong is set by a test."""

    def __init__(self):
        self.files = {"config.json": b'{"model_type": "qwen3"}', "tokenizer.json": b"{}", "README.md": b"# no",
                      "pytorch_model.bin": b"no", "1_Pooling/config.json": b"{}", "model.safetensors": WEIGHTS}
        self.names = None          # a list of names instead of the true one
        self.token = None          # that it demands
        self.fail_next = []        # statuses to answer next to a GET of a file's content
        self.cut_after = None      # bytes after which a connection breaks, once
        self.damage = False        # a wrong byte in the weights
        self.knows_ranges = True
        self.gets = []             # (path, Range, Authorization) of contents
        self.requests = 0
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                if "Content_Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                hub.requests += 1
                path = urllib.parse.unquote(self.path)
                if hub.token and not path.startswith("/cdn/") and self.headers["Authorization"] != f"Bearer {hub.token}":
                    return self.answer(401, b'{"error": "no"}')
                if path in (f"/api/models/org/model/revision/{r}" for r in ("main", "v1", SHA)):
                    names = hub.names or list(hub.files)
                    return self.answer(200, json.dumps({"sha": SHA, "siblings": [{"rfilename": n} for n in names]}).encode())
                if path.startswith(f"/org/model/resolve/{SHA}/"):
                    return self.resolve(path.split("/", 5)[5])
                if path.startswith("/cdn/"):
                    return self.content(path[5:], hub.files[path[5:]])
                return self.answer(404, b'{"error": "Repository not found"}')

            def resolve(self, name):
                content = hub.files[name]
                if not name.endswith(".safetensors"):
                    if self.command == "HEAD":
                        return self.answer(200, ETag=f'"{git_blob(content)}"', Content_Length=str(len(content)))
                    return self.content(name, content)
                # Large files lie on another host: same machine, other name.
                self.answer(302, Location=f"http://localhost:{hub.port}/cdn/{name}", X_Linked_Size=str(len(content)),
                            X_Linked_Etag=f'"{hashlib.sha256(content).hexdigest()}"', ETag='"other"')

            def content(self, name, content):
                hub.gets.append((name, self.headers["Range"], self.headers["Authorization"]))
                if hub.fail_next:
                    return self.answer(hub.fail_next.pop(0))
                if hub.damage and name.endswith(".safetensors"):
                    content = content[:-1] + bytes([content[-1] ^ 1])
                status, extra = 200, {}
                if self.headers["Range"] and hub.knows_ranges:
                    begin = int(self.headers["Range"].split("=")[1].rstrip("-"))
                    status, extra = 206, {"Content_Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"}
                    content = content[begin:]
                if hub.cut_after is not None and len(content) > hub.cut_after:
                    cut, hub.cut_after = hub.cut_after, None
                    self.answer(status, content[:cut], Content_Length=str(len(content)), **extra)
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return None
                return self.answer(status, content, **extra)

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                pass  # clients that leave are part of the game

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Pull(unittest.TestCase):
    def setUp(self):
        self.hub = Hub()
        self.cache = pathlib.Path(tempfile.mkdtemp(prefix="cajal-pull-"))
        self.addCleanup(shutil.rmtree, self.cache)
        self.addCleanup(self.hub.close)

    def cajal(self, *arguments, **variables):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CAJAL_", "HF_", "http_", "https_"))}
        kept.update(HF_ENDPOINT=f"http://127.0.0.1:{self.hub.port}", HF_HUB_CACHE=str(self.cache), no_proxy="*", **variables)
        return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60, env=kept)

    def pulled(self, *arguments, **variables):
        ran = self.cajal("pull", "org/model", *arguments, **variables)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stderr, "", "quiet where nobody looks")
        return pathlib.Path(ran.stdout.strip())

    def refused(self, *arguments, **variables):
        ran = self.cajal(*arguments, **variables)
        self.assertEqual(ran.returncode, 1, ran.stderr)
        self.assertRegex(ran.stderr.splitlines()[-1], r"^cajal: error: .+ — .+$")
        self.assertFalse((self.cache / "models--org--model" / "refs" / "main").exists(), "an incomplete model has no name")
        return ran.stderr

    def test_the_cache_is_laid_out_as_hugging_face_does(self):
        folder = self.pulled()
        root = self.cache / "models--org--model"
        self.assertEqual(folder, root / "snapshots" / SHA)
        self.assertEqual((root / "refs" / "main").read_text(), SHA)
        found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())
        self.assertEqual(found, ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"])
        for name in found:
            link = folder / name
            self.assertTrue(link.is_symlink() and not os.path.isabs(os.readlink(link)), name)
            self.assertEqual(link.read_bytes(), self.hub.files[name], name)
        self.assertEqual(os.path.realpath(folder / "model.safetensors"),
                         str(root.resolve() / "blobs" / hashlib.sha256(WEIGHTS).hexdigest()))

    def test_what_is_there_is_not_fetched_again(self):
        self.pulled()
        fetched, asked = len(self.hub.gets), self.hub.requests
        self.pulled()
        self.assertEqual(len(self.hub.gets), fetched)
        self.assertEqual(self.hub.requests, asked + 1, "only what the revision is now")

    def test_a_broken_connection_goes_on_where_it_broke(self):
        self.hub.cut_after = 300_000
        self.pulled()
        ranges = [r for name, r, _ in self.hub.gets if name == "model.safetensors"]
        self.assertEqual(ranges, [None, "bytes=300000-"])

    def test_an_earlier_try_is_taken_up(self):
        blobs = self.cache / "models--org--model" / "blobs"
        blobs.mkdir(parents=True)
        (blobs / (hashlib.sha256(WEIGHTS).hexdigest() + ".incomplete")).write_bytes(WEIGHTS[:1000])
        self.pulled()
        self.assertIn(("model.safetensors", "bytes=1000-", None), self.hub.gets)

    def test_a_server_without_ranges_begins_anew(self):
        self.hub.knows_ranges = False
        self.hub.cut_after = 300_000
        self.assertEqual((self.pulled() / "model.safetensors").read_bytes(), WEIGHTS)

    def test_a_busy_server_is_asked_again(self):
        self.hub.fail_next = [503, 500]
        self.pulled()

    def test_a_damaged_file_is_not_kept(self):
        self.hub.damage = True
        self.assertIn("has the checksum", self.refused("pull", "org/model"))
        self.assertEqual([p.name for p in (self.cache / "models--org--model" / "blobs").iterdir() if len(p.name) > 60], [])
        self.hub.damage = False
        self.pulled()

    def test_the_token_goes_to_the_hub_and_nowhere_else(self):
        self.hub.token = "hf_secret"
        self.assertIn("HF_TOKEN", self.refused("pull", "org/model"))
        self.pulled(HF_TOKEN="hf_secret")
        for name, _, authorization in self.hub.gets:
            self.assertEqual(authorization, None if name == "model.safetensors" else "Bearer hf_secret", name)

    def test_a_token_may_lie_in_a_file(self):
        self.hub.token = "hf_filed"
        (self.cache / "token").write_text("hf_filed\n")
        self.pulled(HF_TOKEN_PATH=str(self.cache / "token"))

    def test_revisions_have_their_names(self):
        self.pulled("--revision", "v1")
        self.assertTrue((self.cache / "models--org--model" / "refs" / "v1").exists())
        self.pulled("--revision", SHA)
        self.assertFalse((self.cache / "models--org--model" / "refs" / SHA).exists())
        self.assertIn("nosuch", self.refused("pull", "org/model", "--revision", "nosuch"))

    def test_unknown_models_and_bad_names(self):
        self.assertIn("the hub has no such thing", self.refused("pull", "org/other"))
        self.assertIn("is not the name of a model", self.cajal("pull", "../up").stderr)
        self.assertEqual(self.cajal("pull").returncode, 2)

    def test_a_file_that_would_lie_elsewhere_is_refused(self):
        for name in ("../x.json", "/etc/x.json", "a/../../x.json", "a\\x.json"):
            self.hub.names = ["config.json", name]
            self.assertIn("does not stay inside", self.refused("pull", "org/model"))

    def test_something_that_is_no_model_says_so(self):
        self.hub.names = ["README.md", "model-q4.gguf"]
        self.assertIn("no config.json", self.refused("pull", "org/model"))

    def test_offline_only_the_cache_answers(self):
        self.assertIn("HF_HUB_OFFLINE", self.refused("pull", "org/model", HF_HUB_OFFLINE="1"))
        self.assertEqual(self.hub.requests, 0)
        folder = self.pulled()
        asked = self.hub.requests
        self.assertEqual(self.pulled(HF_HUB_OFFLINE="1"), folder)
        self.assertEqual(self.hub.requests, asked)

    def test_a_name_is_downloaded_only_when_asked_for(self):
        self.assertIn("cajal pull org/model", self.refused("inspect", "org/model"))
        self.assertEqual(self.hub.requests, 0)
        self.cajal("tokenize", "org/model", "--download")
        self.assertTrue((self.cache / "models--org--model" / "refs" / "main").exists())

    def test_two_at_once_share_the_work(self):
        results = []
        threads = [threading.Thread(target=lambda: results.append(self.cajal("pull", "org/model"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([r.returncode for r in results], [0, 0, 0], [r.stderr for r in results])
        self.assertEqual(sum(name == "model.safetensors" for name, _, _ in self.hub.gets), 1)

    def test_a_hub_that_is_not_there_is_named(self):
        started = time.monotonic()
        self.hub.server.shutdown()
        self.hub.server.server_close()
        ran = self.cajal("pull", "org/model")
        self.assertEqual(ran.returncode, 1)
        self.assertIn(f"127.0.0.1:{self.hub.port}", ran.stderr)
        self.assertLess(time.monotonic() - started, 30)

    def test_a_path_opens_no_socket(self):
        if shutil.which("unshare") is None or subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
            self.skipTest("network namespaces are not allowed here")
        folder = self.pulled()
        local = self.cache / "plain"
        shutil.copytree(folder, local)
        trace = self.cache / "trace"
        if shutil.which("strace") is None:
            ran = subprocess.run(["unshare", "-rn", PROGRAM, "inspect", str(local)], capture_output=True, text=True)
        else:
            ran = subprocess.run(["unshare", "-rn", "strace", "-f", "-e", "trace=socket", "-o", str(trace), PROGRAM, "inspect",
                                  str(local)], capture_output=True, text=True)
            self.assertNotIn("socket(", trace.read_text())
        self.assertNotIn("hub", ran.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
