"""Says whether an answer to one of make_data.held_prompts is right."""
import json
import re

import chat

TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool}


def calls_in(said):
    """The calls of an answer that holds nothing but well-formed calls, or None."""
    parts = re.findall(r"<tool_call>\n(.*?)\n</tool_call>", said, re.DOTALL)
    if not parts or "\n".join(f"<tool_call>\n{p}\n</tool_call>" for p in parts) != said:
        return None
    calls = []
    for part in parts:
        try:
            call = json.loads(part)
        except ValueError:
            return None
        if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
            return None
        calls.append(call)
    return calls


def fits(call, tools):
    """Whether a call's name is one of the tools and its arguments are as that tool's schema says."""
    for tool in tools:
        function = tool["function"]
        if function["name"] == call["name"]:
            properties, given = function["parameters"]["properties"], call["arguments"]
            if not set(function["parameters"].get("required", [])) <= set(given) <= set(properties):
                return False
            return all(isinstance(v, TYPES[properties[k]["type"]]) and isinstance(v, bool) == (properties[k]["type"] == "boolean")
                       for k, v in given.items())
    return False


def judge(test, text):
    """(in the right form, right)"""
    _, said = chat.split_answer(text)
    if test["kind"] == "call":
        calls = calls_in(said)
        valid = calls is not None and all(fits(call, test["tools"]) for call in calls)
        return valid, valid and calls == test["right"]
    if test["kind"] == "sum":
        numbers = re.findall(r"-?\d+", said)
        return bool(numbers), bool(numbers) and numbers[-1] == test["right"]
    return bool(said), re.search(r"(?<!\w)" + re.escape(test["right"]) + r"(?!\w)", said) is not None


class Tally:
    """Counts per group: how many, in the right form, right."""

    def __init__(self):
        self.groups, self.wrong = {}, []

    def add(self, test, text):
        group = f"{test['kind']}, thinking {'on' if test['think'] else 'off'}"
        valid, right = judge(test, text)
        counts = self.groups.setdefault(group, [0, 0, 0])
        for i, what in enumerate((True, valid, right)):
            counts[i] += bool(what)
        if not right:
            self.wrong.append({"group": group, "asked": test["messages"][-1]["content"], "right": test["right"], "text": text, "valid": valid})

    def lines(self):
        yield f"{'':24} {'asked':>6} {'valid':>14} {'right':>14}"
        for group, (n, valid, right) in self.groups.items():
            yield f"{group:24} {n:6} {valid:5} {100 * valid / n:6.1f} % {right:5} {100 * right / n:6.1f} %"

    def passes(self):
        """The gate: 95 % of sums and capitals right, 95 % of calls valid."""
        return all((valid if group.startswith("call") else right) >= 0.95 * n for group, (n, valid, right) in self.groups.items())
