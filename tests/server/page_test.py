#!/usr/bin/env python3
"""The page of `cajal serve` in Chromium, driven over WebDriver as a user's hands would.

    python3 tests/server/page_test.py build/release/cajal        (needs Debian's chromium and chromium-driver)
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest
import urllib.error
import urllib.request

PROGRAM = "cajal"
ENTER, UP, ESCAPE = "\ue007", "\ue013", "\ue00c"
WEATHER = [{"type": "function", "function": {
    "name": "get_weather", "description": "Get the weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Browser:
    """A session of chromedriver."""

    def __init__(self):
        self.port = free_port()
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL)
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,900"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": options}}}
        for _ in range(100):
            try:
                self.session = self.call("POST", "/session", wanted)["sessionId"]
                return
            except urllib.error.URLError:
                time.sleep(0.1)
        raise RuntimeError("chromedriver does not answer")

    def call(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)["value"]

    def open(self, url):
        self.call("POST", f"/session/{self.session}/url", {"url": url})
        self.wait("!document.getElementById('model').textContent.startsWith('connecting')")

    def run(self, script):
        return self.call("POST", f"/session/{self.session}/execute/sync", {"script": script, "args": []})

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not self.run(f"return {condition}"):
            if time.monotonic() > end:
                raise AssertionError(f"never came: {condition}")
            time.sleep(0.05)

    def element(self, selector):
        found = self.call("POST", f"/session/{self.session}/element", {"using": "css selector", "value": selector})
        return f"/session/{self.session}/element/{next(iter(found.values()))}"

    def type(self, selector, text):
        self.call("POST", self.element(selector) + "/value", {"text": text})

    def click(self, selector):
        self.call("POST", self.element(selector) + "/click", {})

    def ask(self, text, answers):
        self.type("#prompt", text + ENTER)
        self.wait(f"document.querySelectorAll('.figures').length === {answers}")
        return self.run("return [...document.querySelectorAll('article.assistant .markdown')].pop().innerText")

    def complaints(self):
        return [line for line in self.call("POST", f"/session/{self.session}/se/log", {"type": "browser"})
                if line["level"] in ("WARNING", "SEVERE")]

    def close(self):
        self.call("DELETE", f"/session/{self.session}")
        self.driver.terminate()
        self.driver.wait()


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CAJAL_", "HF_"))}
        cls.server = subprocess.Popen([PROGRAM, "serve", "--port", "0", "--device", "cpu"], stderr=subprocess.PIPE, text=True,
                                      env={**kept, **{k: v for k, v in os.environ.items() if k == "CAJAL_DEMO_MODEL"}})
        for line in cls.server.stderr:
            if found := re.search(r"serving on (http://\S+)", line):
                cls.url = found[1]
                break
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.server.terminate()
        cls.server.communicate(timeout=60)

    def setUp(self):
        self.browser.open(self.url)
        self.browser.run("localStorage.clear()")
        self.browser.open(self.url)

    def tearDown(self):
        self.assertEqual(self.browser.complaints(), [], "the browser has nothing to complain of, the policy included")

    def set(self, **settings):
        self.browser.run(f"localStorage['cajal.settings'] = JSON.stringify({json.dumps(settings)})")
        self.browser.open(self.url)

    def test_thoughts_are_folded_and_the_answer_is_shown(self):
        self.assertIn("42", self.browser.ask("What is 12 plus 30?", 1))
        self.assertFalse(self.browser.run("return document.querySelector('details.reasoning').open"))
        self.assertTrue(self.browser.run("return document.querySelector('details.reasoning > div').textContent.length > 0"))
        self.assertRegex(self.browser.run("return document.querySelector('.figures').textContent"), r"\d+ tokens .* a second")

    def test_a_conversation_goes_on_and_is_there_after_a_reload(self):
        self.set(thinking=False)
        self.assertIn("Paris", self.browser.ask("What is the capital of France?", 1))
        self.assertIn("Rome", self.browser.ask("And of Italy? What is the capital of Italy?", 2))
        self.browser.open(self.url)
        self.assertEqual(self.browser.run("return document.querySelectorAll('article').length"), 4)
        self.browser.click("#new")
        self.assertEqual(self.browser.run("return document.querySelectorAll('article').length"), 0)

    def test_a_message_can_be_edited_and_an_answer_asked_for_again(self):
        self.set(thinking=False)
        self.browser.ask("What is the capital of France?", 1)
        self.browser.type("#prompt", UP)
        self.browser.run("document.querySelector('article.editing textarea').value = 'What is the capital of Japan?'")
        self.browser.type("article.editing textarea", ENTER)
        self.browser.wait("[...document.querySelectorAll('.markdown')].pop()?.innerText.includes('Tokyo')")
        self.browser.wait("!document.querySelector('article.writing')")
        self.assertEqual(self.browser.run("return document.querySelectorAll('article').length"), 2)
        self.browser.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Regenerate').click()")
        self.browser.wait("!document.querySelector('article.writing') && document.querySelectorAll('.figures').length === 1")
        self.assertIn("Tokyo", self.browser.run("return document.querySelector('.markdown').innerText"))

    def test_calls_of_tools_are_shown_and_take_results(self):
        self.set(thinking=False, tools=json.dumps(WEATHER))
        self.browser.ask("What is the weather in Paris?", 1)
        self.assertIn("get_weather", self.browser.run("return document.querySelector('.call').innerText"))
        self.browser.type(".call textarea", '{"temperature": 21, "sky": "sunny"}')
        self.browser.click(".call button")
        self.browser.wait("document.querySelectorAll('.figures').length === 2")
        self.assertIn("21", self.browser.run("return [...document.querySelectorAll('.markdown')].pop().innerText"))

    def test_an_answer_can_be_stopped(self):
        self.set(thinking=False, temperature=1.9)
        self.browser.type("#prompt", "Tell me a very long story." + ENTER)
        self.browser.wait("!document.querySelector('#stop').hidden || document.querySelector('.figures')")
        self.browser.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}))")
        self.browser.wait("document.querySelector('#stop').hidden")

    def test_what_a_model_writes_cannot_run(self):
        hostile = ("<img src=x onerror=\"window.ran=1\"><script>window.ran=1</script> [a](javascript:window.ran=1) "
                   "**bold** `code`\n\n```js\nwindow.ran=1\n```\n\n| a | b |\n|---|---|\n| 1 | <b>2</b> |")
        self.browser.run("localStorage['cajal.messages'] = JSON.stringify([{role: 'assistant', content: "
                         f"{json.dumps(hostile)}}}])")
        self.browser.open(self.url)
        self.assertIsNone(self.browser.run("return window.ran ?? null"))
        names = self.browser.run("return [...document.querySelectorAll('.markdown *')].map(n => n.nodeName)")
        self.assertLessEqual(set(names), {"P", "STRONG", "CODE", "PRE", "BUTTON", "DIV", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD"})
        self.assertIn("STRONG", names)

    def test_everything_is_reached_by_keyboard_and_has_a_name(self):
        self.browser.ask("What is 2 plus 2?", 1)
        nameless = self.browser.run("""
            return [...document.querySelectorAll('button, input, textarea, a, summary')].filter(e => e.offsetParent)
                .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.title))
                .map(e => e.outerHTML)""")
        self.assertEqual(nameless, [])
        self.assertEqual(self.browser.run("return document.querySelectorAll('[tabindex]:not([tabindex=\"0\"])').length"), 0)
        self.assertEqual(self.browser.run("return document.getElementById('status').getAttribute('aria-live')"), "polite")

    def test_it_asks_nobody_else(self):
        self.browser.ask("What is 3 plus 4?", 1)
        asked = self.browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
        self.assertEqual([name for name in asked if not name.startswith((self.url, "data:"))], [])


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    for needed in ("chromium", "chromedriver"):
        if shutil.which(needed) is None:
            print(f"page_test: skipped: {needed} is not installed (Debian: apt install chromium chromium-driver)")
            sys.exit(77)
    unittest.main()
