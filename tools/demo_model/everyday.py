#!/usr/bin/env python3
"""Asks a demo model fifty everyday wordings, thinking off and on, and prints the answers for a person to judge.

everyday.py MODEL [--cajal build/release/cajal]

Nothing of this was held out or trained on by intent; the gate is evaluate.py.
"""
import argparse
import json
import pathlib
import subprocess


def tool(name, about, required, **parameters):
    return {"type": "function", "function": {"name": name, "description": about, "parameters": {
        "type": "object", "properties": parameters, "required": required.split()}}}


TEXT = {"type": "string"}
TOOLS = {t["function"]["name"]: t for t in (
    tool("get_weather", "Get the current weather for a location", "location", location={"type": "string", "description": "City name"}),
    tool("get_current_weather", "Get the current weather in a given location", "location",
         location={"type": "string", "description": "The city and state, e.g. San Francisco, CA"}, unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
    tool("weather", "Weather forecast", "city", city=TEXT),
    tool("get_time", "Get the current time in a timezone", "timezone", timezone=TEXT),
    tool("search", "Search the internet for information", "query", query={"type": "string", "description": "The search query"}),
    tool("add", "Adds two numbers", "a b", a={"type": "integer"}, b={"type": "integer"}),
    tool("send_email", "Send an email", "to subject", to=TEXT, subject=TEXT),
)}

# (system message or None, question, names of the tools on offer)
ASKED = {
    "sums": [
        (None, "What's 12+30?", ""),
        (None, "Compute 12 + 30.", ""),
        (None, "12 + 30 equals?", ""),
        (None, "What is twelve plus thirty?", ""),
        (None, "Could you please add 45 and 27 for me?", ""),
        (None, "81 minus 19 is what?", ""),
        (None, "If I have 7 apples and get 5 more, how many do I have?", ""),
        (None, "whats 99-1", ""),
        (None, "Hey, what's 8 + 9?", ""),
    ],
    "capitals": [
        (None, "What's the capital of France?", ""),
        (None, "Paris is the capital of what?", ""),
        (None, "capital city of japan?", ""),
        (None, "Do you happen to know the capital of Brazil?", ""),
        (None, "Which city is the capital of the United States?", ""),
        (None, "And what about Germany's capital?", ""),
    ],
    "small talk": [
        (None, "Hi", ""),
        (None, "Hello! How are you today?", ""),
        (None, "Hi, I'm Tom.", ""),
        (None, "My name is Anna. What can you do?", ""),
        (None, "What are you?", ""),
        (None, "Thanks, bye!", ""),
        (None, "Good morning!", ""),
        (None, "Are you ChatGPT?", ""),
        (None, "Tell me a joke, please", ""),
        (None, "I'm sad.", ""),
    ],
    "stories": [
        (None, "Tell me a story.", ""),
        (None, "Write a short story about a dragon.", ""),
        (None, "Tell me a bedtime story about a cat named Milo", ""),
        (None, "Can you tell me a story about a girl and a robot?", ""),
    ],
    "system prompts": [
        ("Answer only in uppercase.", "What is the capital of Italy?", ""),
        ("You are a pirate.", "Hello!", ""),
        ("Reply with one word.", "What is the capital of Spain?", ""),
        ("Your name is Bob.", "What's your name?", ""),
        ("You are a helpful assistant.", "What is 5 + 6?", ""),
    ],
    "tools": [
        (None, "What's the weather like in Paris?", "get_weather"),
        (None, "What is the weather in Tokyo today?", "get_weather"),
        (None, "How's the weather in Berlin right now?", "get_current_weather"),
        (None, "Will it rain in London tomorrow?", "weather"),
        (None, "What's the weather in New York and in Boston?", "get_weather"),
        (None, "I'm in Oslo. Do I need an umbrella?", "get_weather"),
        (None, "What's the temperature in Madrid in celsius?", "get_current_weather"),
        (None, "What time is it in Tokyo?", "get_time get_weather"),
        (None, "Search for the best pizza in Rome", "search get_weather"),
        (None, "What is 23 + 45?", "add"),
        (None, "What is the capital of France?", "get_weather"),
        (None, "Hello!", "get_weather"),
        (None, "Send an email to Anna with the subject lunch", "send_email get_weather"),
        (None, "Tell me a story about a fox.", "get_weather"),
        (None, "Weather?", "get_weather"),
        (None, "Is it cold in Helsinki?", "get_weather search"),
    ],
}


def answer(cajal, model, system, question, tools, think):
    messages = [{"role": "system", "content": system}] if system else []
    request = {"messages": messages + [{"role": "user", "content": question}], "add_generation_prompt": True, "enable_thinking": think}
    if tools:
        request["tools"] = [TOOLS[name] for name in tools.split()]
    prompt = subprocess.run([cajal, "render", model, "--input", "-"], input=json.dumps(request).encode(), stdout=subprocess.PIPE, check=True).stdout
    said = subprocess.run([cajal, "generate", model, "--prompt-file", "-", "--max-new-tokens", "200", "--json"], input=prompt,
                          stdout=subprocess.PIPE, check=True).stdout
    return json.loads(said)["choices"][0]["text"].split("</think>")[-1].strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--cajal", default=str(pathlib.Path(__file__).resolve().parents[2] / "build/release/cajal"))
    args = parser.parse_args()
    for group, asked in ASKED.items():
        print(f"== {group}")
        for system, question, tools in asked:
            print(" | ".join(filter(None, [system, question, tools])))
            for think in (False, True):
                print(f"  {'on ' if think else 'off'} {answer(args.cajal, args.model, system, question, tools, think)!r}")


if __name__ == "__main__":
    main()
