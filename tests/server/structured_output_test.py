"""Answers that have to follow something: random JSON schemas, whose answers an independent validator reads, forced calls of
tools in both forms, choices, regular expressions, budgets of thoughts. structured_output_test.py CAJAL [--schemas N] [--seed S]"""
import argparse
import json
import os
import pathlib
import random
import re
import sys
import tempfile
import threading

from serving import DEMO, Server

try:
    import jsonschema
except ImportError:
    print("skipped: there is no jsonschema for Python (python3-jsonschema) to validate answers with")
    sys.exit(77)

DEMO_FOLDER = pathlib.Path(__file__).resolve().parents[2] / "share" / "demo-model"
PATTERNS = ["^[a-z]{1,6}$", r"^\d{3}-\d{4}$", "^(red|green|blue)$", "^[A-Z][a-z]{0,5}$", r"^[\w.]{1,8}$", "^[^x]{1,4}$",
            r'^[\n"a-z]{1,4}]?$']  # of which newlines and quotes do not come
FORMATS = ["date", "time", "uuid", "ipv4"]


def random_schema(rng, depth=0, definitions=()):
    """A schema whose values are all short."""
    kinds = ["boolean", "null", "integer", "string", "enum", "const", "format", "pattern"]
    kinds += [] if depth == 3 else ["object", "object", "array", "anyOf", "types", "prefixItems", "values"]
    kinds += ["$ref"] if definitions else []
    kind = "object" if depth == 0 else rng.choice(kinds)
    inner = lambda: random_schema(rng, depth + 1, definitions)
    if kind in ("boolean", "null"):
        return {"type": kind}
    if kind == "integer":
        low = rng.randint(-200, 200)
        return {"type": "integer", rng.choice(["minimum", "exclusiveMinimum"]): low, "maximum": low + rng.randint(2, 500)}
    if kind == "string":
        return {"type": "string", "minLength": rng.randint(0, 3), "maxLength": rng.randint(3, 10)}
    if kind == "enum":
        return {"enum": rng.sample(["a", 'b"', "c\n", "é", 1, 2.5, None, True, [1], {"k": "v"}], rng.randint(1, 5))}
    if kind == "const":
        return {"const": rng.choice(["x", 7, False, {"y": [1, "2"]}])}
    if kind == "format":
        return {"type": "string", "format": rng.choice(FORMATS)}
    if kind == "pattern":
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if kind == "array":
        return {"type": "array", "items": inner(), "minItems": rng.randint(0, 1), "maxItems": rng.randint(1, 3)}
    if kind == "prefixItems":
        return {"type": "array", "prefixItems": [inner(), inner()], "items": False, "minItems": rng.randint(0, 2)}
    if kind == "anyOf":
        return {"anyOf": [inner() for _ in range(rng.randint(1, 3))]}
    if kind == "types":
        return {"type": ["null", "string", "boolean"], "maxLength": 5}
    if kind == "values":
        return {"type": "object", "propertyNames": {"pattern": "^[a-d]$"}, "additionalProperties": inner(), "maxProperties": 2}
    if kind == "$ref":
        return {"$ref": "#/$defs/" + rng.choice(definitions)}
    names = rng.sample(["name", "age", "a b", 'quo"te', "ключ", "x-y", "list", "other"], rng.randint(1, 4))
    schema = {"type": "object", "properties": {n: inner() for n in names}}
    schema["required"] = [n for n in names if rng.random() < 0.7]
    if rng.random() < 0.3:
        schema["additionalProperties"] = False
    return schema


def random_document(rng):
    definitions = ["node", "leaf"] if rng.random() < 0.3 else []
    schema = random_schema(rng, 0, definitions)
    if definitions:
        schema["$defs"] = {"leaf": {"type": "boolean"},
                           "node": {"type": "object", "required": ["leaf"], "properties": {
                               "leaf": {"$ref": "#/$defs/leaf"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}}}}
    return schema


def streamed(server, body):
    """As an answer in one piece: (content, reasoning, finish reason, calls)"""
    connection = server.connect(120)
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    content, reasoning, finish, calls = "", "", None, {}
    for event in text.split("\n\n"):
        if not event.startswith("data: {"):
            continue
        for choice in json.loads(event[6:])["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning") or ""
            finish = choice["finish_reason"] or finish
            for call in delta.get("tool_calls", []):
                entry = calls.setdefault(call["index"], {"name": "", "arguments": ""})
                entry["name"] += call["function"].get("name") or ""
                entry["arguments"] += call["function"].get("arguments") or ""
    return content, reasoning, finish, [calls[i] for i in sorted(calls)]


def whole(server, body):
    status, _, answer = server.request("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    choice = answer["choices"][0]
    message = choice["message"]
    calls = [{k: c["function"][k] for k in ("name", "arguments")} for c in message.get("tool_calls") or []]
    return message["content"] or "", message["reasoning"] or "", choice["finish_reason"], calls


def chat(text, thinking, **fields):
    return {"model": DEMO, "messages": [{"role": "user", "content": text}], "max_tokens": 900, "temperature": 1.0,
            "chat_template_kwargs": {"enable_thinking": thinking}, **fields}


def check_schemas(server, count, seed):
    """Every answer that is complete is valid; with and without thoughts and streams it is the same one."""
    complete = cut = thoughts = 0
    for i in range(count):
        rng = random.Random(f"{seed}.{i}")
        schema = random_document(rng)
        for thinking in (True, False):
            body = chat(rng.choice(["Tell me about Paris.", "Who are you?", "2+2?"]), thinking, seed=i, response_format={
                "type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}})
            answers = [whole(server, body), streamed(server, body)]
            where = f"seed {seed}, schema {i}, thinking {thinking}: {json.dumps(schema)}"
            assert answers[0] == answers[1], f"{where}\n{answers}"
            content, reasoning, finish, _ = answers[0]
            thoughts += bool(reasoning)
            assert thinking or not reasoning, f"{where}\n{reasoning}"
            if finish == "length":
                cut += 1
                continue
            complete += 1
            assert finish == "stop", f"{where}\n{finish}"
            try:
                jsonschema.validate(json.loads(content), schema)
            except (ValueError, jsonschema.ValidationError) as e:
                raise AssertionError(f"{where}\n{content!r}\n{e}") from e
    print(f"{count} schemas: {complete} answers complete and valid, {cut} cut by max_tokens, {thoughts} after a thought")
    assert complete > 3 * cut, "most answers should come to an end"
    assert count < 20 or thoughts > 0


TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "flip", "parameters": {
        "type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}}}]
SCHEMAS = {t["function"]["name"]: t["function"]["parameters"] for t in TOOLS}


def check_tools(server, form):
    for i in range(4):
        for thinking in (True, False):
            for choice in ("required", {"type": "function", "function": {"name": "flip"}}):
                body = chat("Hello!", thinking, seed=i, tools=TOOLS, tool_choice=choice, parallel_tool_calls=i % 2 == 0,
                            max_tokens=300, thinking_token_budget=20)
                for ask in (whole, streamed):
                    content, _, finish, calls = ask(server, body)
                    where = f"{form} {i} {thinking} {choice}: {content!r} {calls}"
                    if finish == "length":
                        continue
                    assert finish == "tool_calls" and calls and not content, where
                    assert choice == "required" or [c["name"] for c in calls] == ["flip"], where
                    assert i % 2 == 0 or len(calls) == 1, where
                    for call in calls:
                        arguments = json.loads(call["arguments"])
                        schema = json.loads(json.dumps(SCHEMAS[call["name"]]))
                        if form == "xml":  # lengths of texts that are not JSON are not kept to
                            schema["properties"].get("city", {}).pop("maxLength", None)
                        jsonschema.validate(arguments, schema)


def check_tools_beside_a_structure(server):
    """An answer is what the structure says, or calls."""
    for i, (question, strict) in enumerate((q, s) for q in ("Hello!", "What is the weather in Paris?") for s in (True, False)):
        tools = json.loads(json.dumps(TOOLS))
        tools[0]["function"]["strict"] = strict
        content, _, finish, calls = whole(server, chat(question, False, seed=i, tools=tools, response_format={
            "type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer", "minimum": 0, "maximum": 99}}}))
        assert finish == "length" or bool(calls) != bool(content), (content, calls)
        assert not content or 0 <= json.loads(content) <= 99, content
        for ask in (whole, streamed):  # strict tools: words are free, calls are not
            content, _, finish, calls = ask(server, chat(question, False, seed=i, tools=tools, temperature=0))
            for call in calls if finish == "tool_calls" and strict else []:
                jsonschema.validate(json.loads(call["arguments"]), SCHEMAS[call["name"]])


def check_other_ways(server):
    for thinking in (True, False):
        for structured, law in (
                ({"structured_outputs": {"choice": ["yes", "no", "perhaps"]}}, lambda t: t in ("yes", "no", "perhaps")),
                ({"guided_choice": ["left", "right"]}, lambda t: t in ("left", "right")),
                ({"structured_outputs": {"regex": r"\d{3}-[a-f]{2,4}"}}, lambda t: re.fullmatch(r"\d{3}-[a-f]{2,4}", t)),
                ({"guided_regex": "(ab|cd){2}"}, lambda t: re.fullmatch("(ab|cd){2}", t)),
                ({"structured_outputs": {"grammar": 'root ::= "<" [a-c]+ ">" | "none"'}},
                 lambda t: re.fullmatch("<[a-c]+>|none", t)),
                ({"guided_json": {"type": "integer", "minimum": 5, "maximum": 12}}, lambda t: 5 <= json.loads(t) <= 12),
                ({"response_format": {"type": "json_object"}}, lambda t: isinstance(json.loads(t), dict))):
            for ask in (whole, streamed):
                content, _, finish, _ = ask(server, chat("Is it so?", thinking, seed=3, temperature=0, **structured))
                assert finish == "length" or law(content), f"{structured} {thinking}: {content!r}"
    status, _, answer = server.request("POST", "/v1/completions", {
        "prompt": "Phone:", "max_tokens": 40, "structured_outputs": {"regex": r" \d{4}"}, "logprobs": 2})
    assert status == 200 and re.fullmatch(r" \d{4}", answer["choices"][0]["text"]), answer
    logprobs = answer["choices"][0]["logprobs"]["token_logprobs"]
    assert len(logprobs) == answer["usage"]["completion_tokens"] and all(l <= 0 for l in logprobs), answer


def check_bias_and_lengths(server):
    body = chat("Hello!", False, temperature=0, max_tokens=40)
    ids = server.request("POST", "/v1/chat/completions", {**body, "return_token_ids": True})[2]["choices"][0]["token_ids"]
    other = server.request("POST", "/v1/chat/completions",
                           {**body, "return_token_ids": True, "logit_bias": {str(ids[0]): -100}})[2]["choices"][0]["token_ids"]
    assert other[0] != ids[0]
    forced = server.request("POST", "/v1/chat/completions",
                            {**body, "return_token_ids": True, "logit_bias": {"100": 100}, "max_tokens": 5})[2]
    assert forced["choices"][0]["token_ids"] == [100] * 5, forced
    longer = server.request("POST", "/v1/chat/completions", {**body, "min_tokens": 39})[2]
    assert longer["usage"]["completion_tokens"] >= 39 > len(ids), (longer, ids)
    for budget in (0, 3):
        _, reasoning, _, _ = whole(server, chat("What is 2+2?", True, temperature=0, thinking_token_budget=budget))
        assert reasoning.endswith("based on the thinking directly now."), reasoning
    status, _, answer = server.request("POST", "/v1/messages", {
        "model": DEMO, "max_tokens": 200, "thinking": {"type": "enabled", "budget_tokens": 2},
        "messages": [{"role": "user", "content": "What is 2+2?"}]})
    assert status == 200 and "directly now" in answer["content"][0]["thinking"], answer


def check_company(server):
    """Whoever else runs, a seed gives the same answer."""
    bodies = [chat("Tell me about Paris.", i % 2 == 0, seed=i, response_format={"type": "json_schema", "json_schema": {
        "name": "a", "schema": random_document(random.Random(i))}}) for i in range(8)]
    alone = [whole(server, body) for body in bodies]
    together = [None] * len(bodies)

    def ask(i):
        together[i] = whole(server, bodies[i])
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert alone == together


def check_refusals(server):
    def schema(s):
        return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": s}}}
    at = "response_format.json_schema.schema"
    deep = {"type": "string"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    for fields, param, words in (
            (schema({"not": {}}), at, "'not'"),
            (schema({"type": "object", "properties": {"a/b": {"uniqueItems": True}}}), at, "#/properties/a/b"),
            (schema({"type": "integer", "minimum": 5, "maximum": 1}), at, "minimum"),
            (schema({"type": "string", "minLength": 5, "maxLength": 1}), at, "nothing satisfies"),
            (schema({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}), at, "nothing finite"),
            (schema({"$ref": "#"}), at, "nothing finite"),
            (schema({"$ref": "http://example.com/x"}), at, "$ref"),
            (schema({"$ref": "#/$defs/x"}), at, "there is no"),
            (schema(False), at, "false"),
            (schema({"enum": []}), at, "nothing satisfies"),
            (schema({"type": "string", "pattern": "(?=a)b"}), at, "looks ahead"),
            (schema({"type": "string", "pattern": "^\"$"}), at, "JSON has to escape"),
            (schema({"oneOf": [{"type": "integer"}, {"type": "number"}]}), at, "anyOf"),
            (schema({"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5000)}}), at, "at most"),
            (schema(deep), "", "deep"),
            ({"response_format": {"type": "json_schema"}}, "response_format.schema", "missing"),
            ({"response_format": 5}, "response_format", "object"),
            ({"structured_outputs": {"regex": "(" * 100}}, "structured_outputs.regex", "brackets"),
            ({"structured_outputs": {"regex": "a\\qb"}}, "structured_outputs.regex", "not recognized"),
            ({"structured_outputs": {"regex": "a$b"}}, "structured_outputs.regex", "anchor"),
            ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex", "arenthesis"),
            ({"structured_outputs": {"regex": "a{1,99999}"}}, "structured_outputs.regex", "4096"),
            ({"structured_outputs": {"regex": "((a|b){1,99}){1,99}"}}, "structured_outputs.regex", "4096"),
            (schema({"properties": {f"p{i}": {"type": "string", "maxLength": i + 50} for i in range(100)}}), at, "4096"),
            ({"structured_outputs": {"regex": "a" * 5000}}, "structured_outputs.regex", "4096"),
            ({"structured_outputs": {"grammar": "root ::= x"}}, "structured_outputs.grammar", "not defined"),
            ({"structured_outputs": {"grammar": "root ::= root"}}, "structured_outputs.grammar", "nothing satisfies"),
            ({"structured_outputs": {"choice": []}}, "structured_outputs.choice", "list"),
            ({"structured_outputs": {"choice": ["a"], "regex": "b"}}, "structured_outputs.choice", "beside"),
            ({"structured_outputs": {"lark": "x"}}, "structured_outputs.lark", "no way"),
            ({"guided_json": {}, "guided_regex": "a"}, "guided_regex", "beside"),
            ({"guided_regex": "a", "ignore_eos": True}, "guided_regex", "ignore_eos"),
            ({"tool_choice": "required"}, "tool_choice", "no tools"),
            ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice", "no such tool"),
            ({"tools": TOOLS, "tool_choice": "required", "guided_regex": "a"}, "tool_choice", "guided_regex"),
            ({"min_tokens": 901}, "min_tokens", "900"),
            ({"logit_bias": {"x": 1}}, "logit_bias", "token ids"),
            ({"logit_bias": {"4096": 1}}, "logit_bias", "vocabulary"),
            ({"logit_bias": {"1": 101}}, "logit_bias.1", "100"),
            ({"logit_bias": {str(i): 0 for i in range(1025)}}, "logit_bias", "1024"),
            ({"thinking_token_budget": -2}, "thinking_token_budget", "-1")):
        status, _, answer = server.request("POST", "/v1/chat/completions", chat("x", False, **fields))
        where = f"{json.dumps(fields)[:200]}: {answer}"
        assert status == 400, where
        assert (answer["error"]["param"] or "") == param and words in answer["error"]["message"], where


def xml_model(folder):
    """The demo model, told to write calls as Qwen3-Coder does."""
    for file in DEMO_FOLDER.iterdir():
        if file.is_file() and file.name != "tokenizer_config.json":
            os.symlink(file, pathlib.Path(folder) / file.name)
    config = json.loads((DEMO_FOLDER / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{%- if tools %}<|im_start|>system\nCall with <tool_call>\n<function=example>\n<parameter=p>\nv\n</parameter>\n</function>\n"
        "</tool_call><|im_end|>\n{%- endif %}{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        "{%- endfor %}<|im_start|>assistant\n{%- if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{%- endif %}")
    (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--schemas", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    server = Server(arguments.program, "--threads", 2, "--disable-access-log")
    try:
        status, _, answer = server.request("POST", "/v1/completions", {"prompt": "x", "guided_regex": "a"})
        if status == 400 and "without xgrammar" in answer["error"]["message"]:
            print("skipped: cajal was built without xgrammar (make setup)")
            return 77
        check_refusals(server)
        check_refusals(server)  # what was compiled before is found, and is no better
        check_other_ways(server)
        check_bias_and_lengths(server)
        check_tools(server, "json")
        check_tools_beside_a_structure(server)
        check_company(server)
        check_schemas(server, arguments.schemas, arguments.seed)
    finally:
        code = server.stop()
    assert code == 0, code
    warnings = [line for line in server.log if "/cpp/" in line]
    assert not warnings, warnings
    with tempfile.TemporaryDirectory() as folder:
        xml_model(folder)
        server = Server(arguments.program, folder, "--threads", 2, "--disable-access-log", "--served-model-name", DEMO)
        try:
            check_tools(server, "xml")
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
