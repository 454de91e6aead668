"""The server that all tests of this folder share, clients of it, and what they ask."""
import contextlib

import anthropic
import openai
from serving import DEMO, Server  # of tests/server

KEY = "the-key"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ABOUT = {"name": "get_weather", "description": "Get the weather of a city"}
WEATHER_CHAT = [{"type": "function", "function": {**ABOUT, "parameters": CITY}}]
WEATHER_RESPONSES = [{"type": "function", **ABOUT, "parameters": CITY, "strict": False}]
WEATHER_MESSAGES = [{**ABOUT, "input_schema": CITY}]
ASK_CAPITAL, CAPITAL = "What is the capital of France?", "The capital of France is Paris."
ASK_WEATHER = "What is the weather in Paris?"
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
          "required": ["name", "age"], "additionalProperties": False}

server = None


@contextlib.contextmanager
def serving(program):
    global server
    server = Server(program, "--api-key", KEY, "--max-num-seqs", "8", "--threads", "2")
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()


def openai_client(**options):
    return openai.OpenAI(**{"base_url": server.url + "/v1", "api_key": KEY, "max_retries": 0, "timeout": 60, **options})


def anthropic_client(**options):
    return anthropic.Anthropic(**{"base_url": server.url, "api_key": KEY, "max_retries": 0, "timeout": 60, **options})


def metrics():
    """Counters by name; the server wants its key for them."""
    result = {}
    for line in server.request("GET", "/metrics", headers={"X-Api-Key": KEY})[2].splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = name.split("{")[0]
            result[name] = result.get(name, 0) + float(value)
    return result


def has_structured_outputs():
    """Whether the program was built with grammars."""
    try:
        openai_client().completions.create(model=DEMO, prompt="x", max_tokens=1, extra_body={"structured_outputs": {"choice": ["a"]}})
        return True
    except openai.BadRequestError:
        return False
