"""Messages through the `anthropic` client."""
import json
import unittest

import anthropic
import pydantic
import shared
from shared import ASK_CAPITAL, ASK_WEATHER, CAPITAL, DEMO, PERSON, WEATHER_MESSAGES, anthropic_client

FIELDS = {"model": DEMO, "messages": [{"role": "user", "content": ASK_CAPITAL}], "max_tokens": 200, "temperature": 0}


class Brief(pydantic.BaseModel):
    true: bool


# `temperature` and `top_k` by their names, whatever the client says of newer models.
def ask(**fields):
    return anthropic_client().messages.create(**body(fields))


def body(fields):
    fields = {**FIELDS, **fields}
    extra = {name: fields.pop(name) for name in ("temperature", "top_k", "top_p") if name in fields}
    return {**fields, "extra_body": {**extra, **fields.pop("extra_body", {})}}


def user(text):
    return [{"role": "user", "content": text}]


class Messages(unittest.TestCase):
    def test_answer_and_count(self):
        message = ask(system="Be brief.", metadata={"user_id": "u"})
        self.assertEqual([(b.type, b.text) for b in message.content], [("text", CAPITAL)])
        self.assertEqual((message.stop_reason, message.role, message.model), ("end_turn", "assistant", DEMO))
        counted = anthropic_client().messages.count_tokens(model=DEMO, system="Be brief.", messages=user(ASK_CAPITAL))
        self.assertEqual(counted.input_tokens, message.usage.input_tokens + message.usage.cache_read_input_tokens)
        again = ask(system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}])
        self.assertEqual(again.content[0].text, message.content[0].text)

    def test_think_when_they_are_asked_to(self):
        message = ask(thinking={"type": "adaptive"})
        self.assertEqual([b.type for b in message.content], ["thinking", "text"])
        self.assertTrue(message.content[0].thinking and message.content[0].signature)
        self.assertGreater(message.usage.output_tokens_details.thinking_tokens, 0)
        self.assertEqual([b.type for b in ask(thinking={"type": "disabled"}).content], ["text"])
        brief = ask(thinking={"type": "enabled", "budget_tokens": 4}).content[0].thinking
        self.assertNotIn(message.content[0].thinking, brief)
        self.assertTrue(message.content[0].thinking.startswith(brief.split("\n")[0]))
        history = [*user(ASK_CAPITAL), {"role": "assistant", "content": message.content}, *user("And of Italy?")]
        self.assertTrue(ask(messages=history, thinking={"type": "adaptive"}).content)

    def test_stream_the_same_as_in_one_piece(self):
        whole = ask(thinking={"type": "adaptive"})
        with anthropic_client().messages.stream(**body({"thinking": {"type": "adaptive"}})) as stream:
            types = [event.type for event in stream]
            final = stream.get_final_message()
        self.assertEqual([b.model_dump(exclude={"parsed_output"}) for b in final.content], [b.model_dump() for b in whole.content])
        self.assertEqual((final.stop_reason, final.usage.output_tokens), (whole.stop_reason, whole.usage.output_tokens))
        self.assertEqual((types[0], types[-1]), ("message_start", "message_stop"))
        self.assertLessEqual({"content_block_start", "thinking", "signature", "text", "content_block_stop", "message_delta"}, set(types))
        with anthropic_client().messages.stream(**body({})) as stream:
            self.assertEqual("".join(stream.text_stream), CAPITAL)

    def test_call_tools_and_read_their_results(self):
        turn = user(ASK_WEATHER)
        message = ask(messages=turn, tools=WEATHER_MESSAGES)
        call = next(b for b in message.content if b.type == "tool_use")
        self.assertEqual((message.stop_reason, call.name, call.input), ("tool_use", "get_weather", {"city": "Paris"}))
        turn += [{"role": "assistant", "content": message.content},
                 {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": '{"weather": "sunny"}'}]}]
        self.assertEqual(ask(messages=turn, tools=WEATHER_MESSAGES).stop_reason, "end_turn")
        with anthropic_client().messages.stream(**body({"messages": user(ASK_WEATHER), "tools": WEATHER_MESSAGES})) as stream:
            parts = "".join(e.partial_json for e in stream if e.type == "input_json")
            self.assertEqual(stream.get_final_message().content[-1].input, {"city": "Paris"})
        self.assertEqual(json.loads(parts), {"city": "Paris"})
        self.assertEqual(ask(messages=user(ASK_WEATHER), tools=WEATHER_MESSAGES, tool_choice={"type": "none"}).stop_reason, "end_turn")

    def test_follow_what_is_demanded(self):
        if not shared.has_structured_outputs():
            self.skipTest("the program was built without grammars")
        for choice in ({"type": "any"}, {"type": "tool", "name": "get_weather"}):
            message = ask(messages=user("Hello!"), tools=WEATHER_MESSAGES, tool_choice=choice)
            self.assertEqual((message.stop_reason, message.content[-1].name), ("tool_use", "get_weather"))
        message = ask(output_config={"format": {"type": "json_schema", "schema": PERSON}})
        self.assertEqual(set(json.loads(message.content[-1].text)), {"name", "age"})
        parsed = anthropic_client().messages.parse(model=DEMO, max_tokens=50, messages=user("Is it?"), output_format=Brief)
        self.assertIsInstance(parsed.parsed_output, Brief)
        with self.assertRaisesRegex(anthropic.BadRequestError, "output_config.format.schema"):
            ask(output_config={"format": {"type": "json_schema", "schema": {"type": "nothing"}}})

    def test_say_why_they_ended(self):
        message = ask(stop_sequences=["Paris", "never"])
        self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", "Paris"))
        self.assertEqual(message.content[0].text, "The capital of France is ")
        message = ask(max_tokens=3)
        self.assertEqual((message.stop_reason, message.usage.output_tokens), ("max_tokens", 3))
        message = ask(max_tokens=100000, extra_body={"ignore_eos": True})
        self.assertEqual(message.stop_reason, "model_context_window_exceeded")


class Errors(unittest.TestCase):
    def test_have_the_type_of_their_status(self):
        for kind, name, call in (
                (anthropic.AuthenticationError, "authentication_error", lambda: anthropic_client(api_key="wrong").messages.create(**body({}))),
                (anthropic.NotFoundError, "not_found_error", lambda: ask(model="other")),
                (anthropic.BadRequestError, "invalid_request_error", lambda: ask(temperature=-1)),
                (anthropic.BadRequestError, "invalid_request_error", lambda: ask(messages=[])),
                (anthropic.APIStatusError, "timeout_error", lambda: ask(max_tokens=1900, extra_body={"ignore_eos": True, "timeout_ms": 30}))):
            with self.assertRaises(kind) as caught:
                call()
            self.assertEqual((caught.exception.body["type"], caught.exception.body["error"]["type"]), ("error", name))
            self.assertEqual(caught.exception.request_id, caught.exception.body["request_id"])

    def test_name_what_is_not_there(self):
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
        for fields, words in (({"messages": [{"role": "user", "content": [image]}]}, r"messages\[0\].content\[0\] is of type 'image'"),
                              ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, r"tools\[0\]"),
                              ({"extra_body": {"mcp_servers": [{"type": "url", "url": "x", "name": "y"}]}}, "mcp_servers"),
                              ({"messages": [*user("x"), {"role": "assistant", "content": "y"}]}, "messages"),
                              ({"messages": user("word " * 5000)}, "prompt is too long")):
            with self.assertRaisesRegex(anthropic.BadRequestError, words):
                ask(**fields)

    def test_come_in_streams_too(self):
        with self.assertRaises(anthropic.APIStatusError) as caught:
            with anthropic_client().messages.stream(**body({"max_tokens": 1900, "extra_body": {"ignore_eos": True, "timeout_ms": 30}})) as stream:
                stream.until_done()
        self.assertEqual(caught.exception.body["error"]["type"], "timeout_error")


if __name__ == "__main__":
    raise SystemExit("run tests/clients/run_tests.py")
