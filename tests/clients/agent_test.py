"""What agents do, through every API: many turns with tools, one history that grows, several at once, and hands that let go."""
import concurrent.futures
import json
import time
import unittest

import shared
from shared import (ASK_CAPITAL, ASK_WEATHER, CAPITAL, DEMO, WEATHER_CHAT, WEATHER_MESSAGES, WEATHER_RESPONSES, anthropic_client,
                    openai_client)

RESULT = json.dumps({"weather": "sunny", "degrees": 21})
SYSTEM = "You are an assistant that helps people with questions about the weather. " * 6
TURNS = 3


def chat_agent():
    """Yields (prompt tokens, of which cached) for every request."""
    client, history = openai_client(), [{"role": "system", "content": SYSTEM}]
    for _ in range(TURNS):
        history.append({"role": "user", "content": ASK_WEATHER})
        for _ in range(2):
            answer = client.chat.completions.create(model=DEMO, messages=history, tools=WEATHER_CHAT, temperature=0, max_tokens=150)
            yield answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens
            message = answer.choices[0].message
            history.append(message.model_dump(exclude_none=True))
            if not message.tool_calls:
                break
            history += [{"role": "tool", "tool_call_id": c.id, "content": RESULT} for c in message.tool_calls]


def responses_agent():
    client, items = openai_client(), []
    for _ in range(TURNS):
        items.append({"role": "user", "content": ASK_WEATHER})
        for _ in range(2):
            with client.responses.stream(model=DEMO, instructions=SYSTEM, input=items, tools=WEATHER_RESPONSES, temperature=0,
                                         max_output_tokens=150, store=False, include=["reasoning.encrypted_content"]) as stream:
                stream.until_done()
                response = stream.get_final_response()
            yield response.usage.input_tokens, response.usage.input_tokens_details.cached_tokens
            items += [item.to_dict() for item in response.output]
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                break
            items += [{"type": "function_call_output", "call_id": c.call_id, "output": RESULT} for c in calls]


def messages_agent():
    client, history = anthropic_client(), []
    for _ in range(TURNS):
        history.append({"role": "user", "content": ASK_WEATHER})
        for _ in range(2):
            with client.messages.stream(model=DEMO, system=SYSTEM, messages=history, tools=WEATHER_MESSAGES, max_tokens=150,
                                        thinking={"type": "adaptive"}, extra_body={"temperature": 0}) as stream:
                message = stream.get_final_message()
            yield message.usage.input_tokens + message.usage.cache_read_input_tokens, message.usage.cache_read_input_tokens
            history.append({"role": "assistant", "content": [b.to_dict() for b in message.content]})
            calls = [b for b in message.content if b.type == "tool_use"]
            if not calls:
                break
            history.append({"role": "user", "content": [{"type": "tool_result", "tool_use_id": c.id, "content": RESULT} for c in calls]})


AGENTS = (chat_agent, responses_agent, messages_agent)


class Agents(unittest.TestCase):
    def test_find_their_history_in_the_cache(self):
        for agent in AGENTS:
            with self.subTest(agent.__name__):
                requests = list(agent())
                self.assertGreaterEqual(len(requests), 2 * TURNS - 1, "they call their tools")
                for (before, _), (prompt, cached) in zip(requests, requests[1:]):
                    self.assertGreater(prompt, before)
                    # All but what a turn's thoughts have left, and the block that was not full.
                    self.assertGreaterEqual(cached, min(before, prompt) - 128, requests)

    def test_that_run_at_once_do_what_each_does_alone(self):
        alone = {agent: [prompt for prompt, _ in agent()] for agent in AGENTS}
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            for agent, run in [(agent, pool.submit(lambda a=agent: [prompt for prompt, _ in a()])) for agent in AGENTS * 2]:
                self.assertEqual(run.result(), alone[agent])

    def test_let_go_in_the_middle_and_nothing_goes_on(self):
        def hang_up(api):
            endless = {"ignore_eos": True, "timeout_ms": 60000}
            if api == "messages":
                with anthropic_client().messages.stream(model=DEMO, messages=[{"role": "user", "content": "x"}], max_tokens=1900,
                                                        extra_body=endless) as stream:
                    for _ in zip(range(8), stream):
                        pass
            elif api == "responses":
                with openai_client().responses.create(model=DEMO, input="x", stream=True, extra_body=endless) as stream:
                    for _ in zip(range(8), stream):
                        pass
            else:
                with openai_client().chat.completions.create(model=DEMO, messages=[{"role": "user", "content": "x"}], stream=True,
                                                             extra_body=endless) as stream:
                    for _ in zip(range(8), stream):
                        pass

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(hang_up, ["messages", "responses", "chat"] * 6))
        deadline = time.time() + 20
        while shared.metrics()["vllm:num_requests_running"]:
            self.assertLess(time.time(), deadline, "an answer goes on although nobody reads it")
            time.sleep(0.02)
        answer = anthropic_client().messages.create(model=DEMO, messages=[{"role": "user", "content": ASK_CAPITAL}], max_tokens=60,
                                                    extra_body={"temperature": 0})
        self.assertEqual(answer.content[0].text, CAPITAL)

    def test_that_err_disturb_nobody(self):
        def good():
            return openai_client().responses.create(model=DEMO, input=ASK_CAPITAL, temperature=0).output_text

        def bad(i):
            bodies = ({"input": []}, {"input": "x", "temperature": -1}, {"messages": [{"role": "user", "content": [{"type": "image"}]}], "max_tokens": 1})
            path = "/v1/messages" if i % 3 == 2 else "/v1/responses"
            return shared.server.request("POST", path, bodies[i % 3], {"X-Api-Key": shared.KEY})[0]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers, errors = [pool.submit(good) for _ in range(12)], [pool.submit(bad, i) for i in range(60)]
            self.assertEqual({a.result() for a in answers}, {CAPITAL})
            self.assertEqual({e.result() for e in errors}, {400})


if __name__ == "__main__":
    raise SystemExit("run tests/clients/run_tests.py")
