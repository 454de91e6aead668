"""Chats, completions, responses, embeddings and models through the `openai` client."""
import json
import unittest

import openai
import pydantic
import shared
from shared import (ASK_CAPITAL, ASK_WEATHER, CAPITAL, DEMO, KEY, PERSON, WEATHER_CHAT, WEATHER_RESPONSES, openai_client)


class Person(pydantic.BaseModel):
    name: str
    age: int


class Brief(pydantic.BaseModel):
    true: bool


def chat(**fields):
    return openai_client().chat.completions.create(**{
        "model": DEMO, "messages": [{"role": "user", "content": ASK_CAPITAL}], "temperature": 0, "max_tokens": 60, **fields})


def respond(**fields):
    return openai_client().responses.create(**{"model": DEMO, "input": ASK_CAPITAL, "temperature": 0, **fields})


class Models(unittest.TestCase):
    def test_are_listed_and_found(self):
        client = openai_client()
        self.assertEqual([m.id for m in client.models.list()], [DEMO])
        self.assertEqual(client.models.retrieve(DEMO).id, DEMO)
        with self.assertRaises(openai.NotFoundError):
            client.models.retrieve("other")

    def test_embed(self):
        answer = openai_client().embeddings.create(model=DEMO, input=["a", "b"], dimensions=8)
        self.assertEqual([len(d.embedding) for d in answer.data], [8, 8])
        floats = openai_client().embeddings.create(model=DEMO, input=["a", "b"], dimensions=8, encoding_format="float")
        for one, other in zip(answer.data, floats.data):  # the client asks for base64 by itself
            for x, y in zip(one.embedding, other.embedding):
                self.assertAlmostEqual(x, y, places=6)


class Chats(unittest.TestCase):
    def test_answer_with_thoughts_and_usage(self):
        answer = chat()
        message = answer.choices[0].message
        self.assertEqual((message.content, answer.choices[0].finish_reason), (CAPITAL, "stop"))
        self.assertTrue(message.reasoning_content)
        details = answer.usage.completion_tokens_details
        self.assertGreater(details.reasoning_tokens, 0)
        self.assertLess(details.reasoning_tokens, answer.usage.completion_tokens)
        self.assertGreaterEqual(answer.usage.prompt_tokens_details.cached_tokens, 0)
        quick = chat(reasoning_effort="none")
        self.assertEqual((quick.choices[0].message.content, quick.usage.completion_tokens_details.reasoning_tokens), (CAPITAL, 0))

    def test_stream_the_same_as_in_one_piece(self):
        whole = chat()
        chunks = list(chat(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), CAPITAL)
        self.assertEqual(chunks[-1].usage, whole.usage.model_copy(update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}))
        with openai_client().chat.completions.stream(model=DEMO, messages=[{"role": "user", "content": ASK_CAPITAL}], temperature=0) as stream:
            types = {event.type for event in stream}
            self.assertEqual(stream.get_final_completion().choices[0].message.content, CAPITAL)
        self.assertLessEqual({"chunk", "content.delta", "content.done"}, types)

    def test_call_tools(self):
        for choice in ("auto", None):
            fields = {"tool_choice": choice} if choice else {}
            answer = chat(messages=[{"role": "user", "content": ASK_WEATHER}], tools=WEATHER_CHAT, **fields)
            call = answer.choices[0].message.tool_calls[0]
            self.assertEqual((answer.choices[0].finish_reason, call.function.name), ("tool_calls", "get_weather"))
            self.assertEqual(json.loads(call.function.arguments), {"city": "Paris"})
        arguments = ""
        for chunk in chat(messages=[{"role": "user", "content": ASK_WEATHER}], tools=WEATHER_CHAT, stream=True):
            for call in chunk.choices[0].delta.tool_calls or []:
                arguments += call.function.arguments
        self.assertEqual(json.loads(arguments), {"city": "Paris"})
        self.assertIsNone(chat(messages=[{"role": "user", "content": ASK_WEATHER}], tools=WEATHER_CHAT, tool_choice="none")
                          .choices[0].message.tool_calls)

    def test_follow_a_schema(self):
        if not shared.has_structured_outputs():
            self.skipTest("the program was built without grammars")
        answer = chat(response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}, max_tokens=300)
        Person(**json.loads(answer.choices[0].message.content))
        parsed = openai_client().chat.completions.parse(
            model=DEMO, messages=[{"role": "user", "content": "Who?"}], response_format=Person, temperature=0,
            extra_body={"chat_template_kwargs": {"enable_thinking": False}, "repetition_penalty": 1.3}, max_tokens=200)
        if parsed.choices[0].finish_reason == "stop":
            self.assertIsInstance(parsed.choices[0].message.parsed, Person)
        call = chat(messages=[{"role": "user", "content": "Hello!"}], tools=WEATHER_CHAT, max_tokens=300,
                    tool_choice={"type": "function", "function": {"name": "get_weather"}})
        self.assertEqual(call.choices[0].message.tool_calls[0].function.name, "get_weather")

    def test_give_every_field_its_meaning(self):
        several = chat(n=3, temperature=1.5, seed=4, max_tokens=8, extra_body={"ignore_eos": True})
        self.assertEqual([c.index for c in several.choices], [0, 1, 2])
        self.assertEqual(several.usage.completion_tokens, 24)
        again = chat(n=3, temperature=1.5, seed=4, max_tokens=8, extra_body={"ignore_eos": True})
        self.assertEqual([c.message.content for c in several.choices], [c.message.content for c in again.choices])
        self.assertEqual(chat(stop=["Paris"], reasoning_effort="none").choices[0].message.content, "The capital of France is ")
        self.assertEqual(chat(max_completion_tokens=3).choices[0].finish_reason, "length")
        logprobs = chat(logprobs=True, top_logprobs=2, max_tokens=3).choices[0].logprobs.content
        self.assertEqual([len(t.top_logprobs) for t in logprobs], [2, 2, 2])
        ends = {"max_tokens": 40, "reasoning_effort": "none"}
        with_tokens = chat(**ends, extra_body={"ignore_eos": True, "skip_special_tokens": False})
        without = chat(**ends, extra_body={"ignore_eos": True, "spaces_between_special_tokens": False})
        self.assertIn("<|im_end|>", with_tokens.choices[0].message.content)
        self.assertNotIn("<|im_end|>", without.choices[0].message.content)
        raw = openai_client().chat.completions.with_raw_response.create(
            model=DEMO, messages=[{"role": "user", "content": "x"}], max_tokens=1, extra_body={"temperatur": 1})
        self.assertEqual(raw.headers["X-Cajal-Ignored-Fields"], "temperatur")


class Completions(unittest.TestCase):
    def test_go_on_with_texts_and_ids(self):
        client = openai_client()
        one = client.completions.create(model=DEMO, prompt="Once upon", max_tokens=8, temperature=0)
        many = client.completions.create(model=DEMO, prompt=["Once upon", "The"], max_tokens=8, temperature=0, n=2)
        self.assertEqual([c.text for c in many.choices[:2]], [one.choices[0].text] * 2)
        echo = client.completions.create(model=DEMO, prompt="Once upon", max_tokens=0, echo=True, logprobs=1)
        self.assertEqual("".join(echo.choices[0].logprobs.tokens), "Once upon")
        text = "".join(c.choices[0].text for c in client.completions.create(model=DEMO, prompt="Once upon", max_tokens=8, temperature=0, stream=True))
        self.assertEqual(text, one.choices[0].text)
        self.assertEqual(one.usage.completion_tokens_details.reasoning_tokens, 0)


class Responses(unittest.TestCase):
    def test_answer_with_thoughts_and_usage(self):
        response = respond(instructions="Be brief.", metadata={"a": "b"})
        self.assertEqual((response.status, response.output_text), ("completed", CAPITAL))
        self.assertEqual([item.type for item in response.output], ["reasoning", "message"])
        self.assertEqual((response.metadata, response.instructions, response.object), ({"a": "b"}, "Be brief.", "response"))
        usage = response.usage
        self.assertEqual(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        self.assertGreater(usage.output_tokens_details.reasoning_tokens, 0)
        self.assertEqual([item.type for item in respond(reasoning={"effort": "none"}).output], ["message"])
        self.assertGreater(openai_client().responses.input_tokens.count(model=DEMO, input=ASK_CAPITAL).input_tokens, 5)

    def test_stream_every_item_from_its_beginning_to_its_end(self):
        with openai_client().responses.stream(model=DEMO, input=ASK_CAPITAL, temperature=0) as stream:
            events = list(stream)
            final = stream.get_final_response()
        self.assertEqual(final.output_text, CAPITAL)
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        types = [e.type for e in events]
        self.assertEqual(types[:2] + types[-1:], ["response.created", "response.in_progress", "response.completed"])
        self.assertEqual("".join(e.delta for e in events if e.type == "response.output_text.delta"), CAPITAL)
        for kind, count in (("output_item", 2), ("content_part", 2)):
            for moment in ("added", "done"):
                self.assertEqual(types.count(f"response.{kind}.{moment}"), count)
        thought = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
        self.assertEqual(thought, final.output[0].content[0].text)

    def test_call_tools_and_read_their_results(self):
        client = openai_client()
        items = [{"role": "user", "content": ASK_WEATHER}]
        response = respond(input=items, tools=WEATHER_RESPONSES)
        call = next(item for item in response.output if item.type == "function_call")
        self.assertEqual((call.name, json.loads(call.arguments)), ("get_weather", {"city": "Paris"}))
        items += response.output  # as the client's documentation has it
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": '{"weather": "sunny", "degrees": 21}'})
        final = respond(input=items, tools=WEATHER_RESPONSES)
        self.assertTrue(final.output_text)
        with client.responses.stream(model=DEMO, input=ASK_WEATHER, tools=WEATHER_RESPONSES, temperature=0) as stream:
            arguments = "".join(e.delta for e in stream if e.type == "response.function_call_arguments.delta")
        self.assertEqual(json.loads(arguments), {"city": "Paris"})

    def test_hand_thoughts_on_unread(self):
        response = respond(include=["reasoning.encrypted_content"], store=False)
        thought = response.output[0]
        handed = {"type": "reasoning", "id": thought.id, "summary": [], "encrypted_content": thought.encrypted_content}
        items = [{"role": "user", "content": ASK_CAPITAL}, handed, {"role": "assistant", "content": CAPITAL}, {"role": "user", "content": "And of Italy?"}]
        self.assertEqual(respond(input=items).status, "completed")

    def test_follow_a_schema(self):
        if not shared.has_structured_outputs():
            self.skipTest("the program was built without grammars")
        response = respond(text={"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}}, max_output_tokens=300)
        Person(**json.loads(response.output_text))
        parsed = openai_client().responses.parse(model=DEMO, input="Who?", text_format=Brief, temperature=0, reasoning={"effort": "none"})
        self.assertIsInstance(parsed.output_parsed, Brief)
        forced = respond(input="Hello!", tools=WEATHER_RESPONSES, tool_choice="required", max_output_tokens=300)
        self.assertIn("function_call", [item.type for item in forced.output])
        with self.assertRaises(openai.BadRequestError) as caught:
            respond(text={"format": {"type": "json_schema", "name": "x", "schema": {"type": "nothing"}}})
        self.assertEqual(caught.exception.param, "text.format.schema")

    def test_end_where_they_are_told_to(self):
        response = respond(max_output_tokens=20, extra_body={"ignore_eos": True})
        self.assertEqual((response.status, response.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual(response.usage.output_tokens, 20)
        events = list(respond(max_output_tokens=20, stream=True, extra_body={"ignore_eos": True}))
        self.assertEqual(events[-1].type, "response.incomplete")
        late = list(respond(stream=True, max_output_tokens=1900, extra_body={"ignore_eos": True, "timeout_ms": 30}))
        self.assertEqual((late[-1].type, late[-1].response.error.code), ("response.failed", "server_error"))
        with self.assertRaises(openai.InternalServerError):  # 504
            respond(max_output_tokens=1900, extra_body={"ignore_eos": True, "timeout_ms": 30})


class Errors(unittest.TestCase):
    def test_have_the_type_of_their_status(self):
        for kind, call in ((openai.AuthenticationError, lambda: openai_client(api_key="wrong").models.list()),
                           (openai.NotFoundError, lambda: chat(model="other")),
                           (openai.NotFoundError, lambda: respond(model="other")),
                           (openai.BadRequestError, lambda: chat(temperature=-1)),
                           (openai.BadRequestError, lambda: respond(temperature=-1)),
                           (openai.BadRequestError, lambda: chat(messages=[]))):
            with self.assertRaises(kind) as caught:
                call()
            self.assertTrue(caught.exception.body["message"])
        self.assertEqual(openai_client(api_key=KEY).models.list().data[0].id, DEMO)

    def test_name_the_field(self):
        for call, param in ((lambda: respond(previous_response_id="resp_1"), "previous_response_id"),
                            (lambda: respond(background=True), "background"),
                            (lambda: respond(tools=[{"type": "custom", "name": "x"}]), "tools[0]"),
                            (lambda: respond(input=[{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]), "input[0].content[0]"),
                            (lambda: respond(input="word " * 5000), "input"),
                            (lambda: chat(messages=[{"role": "user", "content": "word " * 5000}]), "messages"),
                            (lambda: chat(n=1000), "n")):
            with self.assertRaises(openai.BadRequestError) as caught:
                call()
            self.assertEqual(caught.exception.param, param)

    def test_come_in_streams_too(self):
        with self.assertRaises(openai.APIError) as caught:
            list(chat(stream=True, max_tokens=1900, extra_body={"ignore_eos": True, "timeout_ms": 30}))
        self.assertEqual(caught.exception.code, "deadline_exceeded")


if __name__ == "__main__":
    raise SystemExit("run tests/clients/run_tests.py")
