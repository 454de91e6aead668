"""The chat format of the demo models: the same text as chat_template.jinja gives, without needing Jinja."""
import json

TOOLS_HEAD = "# Tools\n\nThese functions can be called:\n<tools>"
TOOLS_TAIL = (
    "\n</tools>\n\nA call is written as JSON, with the function's name and its arguments:\n"
    '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def to_json(value):
    return json.dumps(value, ensure_ascii=False)


def call_text(call):
    call = call.get("function", call)
    return '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>' % (call["name"], to_json(call["arguments"]))


def calls_text(calls):
    return "\n".join(call_text(call) for call in calls)


def is_query(message):
    return message["role"] == "user" and not message["content"].startswith("<tool_response>")


def render(messages, tools=None, enable_thinking=True):
    """The prompt that asks for the next assistant message."""
    out = []
    has_system = messages[0]["role"] == "system"
    if tools:
        system = messages[0]["content"] + "\n\n" if has_system else ""
        listed = "".join("\n" + to_json(tool) for tool in tools)
        out.append(f"<|im_start|>system\n{system}{TOOLS_HEAD}{listed}{TOOLS_TAIL}<|im_end|>\n")
    elif has_system:
        out.append(f"<|im_start|>system\n{messages[0]['content']}<|im_end|>\n")
    last_query = max((i for i, m in enumerate(messages) if is_query(m)), default=len(messages))
    for i, message in enumerate(messages):
        role, content = message["role"], message.get("content") or ""
        if role == "user" or (role == "system" and i > 0):
            out.append(f"<|im_start|>{role}\n{content}<|im_end|>\n")
        elif role == "assistant":
            thoughts = message.get("reasoning_content") or ""
            if "</think>" in content and not thoughts:
                thoughts = content.split("</think>")[0].split("<think>")[-1].strip("\n")
                content = content.split("</think>")[-1].lstrip("\n")
            out.append("<|im_start|>assistant\n")
            if i > last_query and (thoughts or i == len(messages) - 1):
                out.append("<think>\n" + thoughts.strip("\n") + "\n</think>\n\n")
            out.append(content)
            calls = message.get("tool_calls")
            if calls:
                out.append(("\n" if content else "") + calls_text(calls))
            out.append("<|im_end|>\n")
        elif role == "tool":
            if i == 0 or messages[i - 1]["role"] != "tool":
                out.append("<|im_start|>user")
            out.append(f"\n<tool_response>\n{content}\n</tool_response>")
            if i == len(messages) - 1 or messages[i + 1]["role"] != "tool":
                out.append("<|im_end|>\n")
    out.append("<|im_start|>assistant\n")
    if not enable_thinking:
        out.append("<think>\n\n</think>\n\n")
    return "".join(out)


def split_answer(text):
    """An answer's thoughts and what it says."""
    thoughts, mark, said = text.partition("</think>")
    if not mark:
        return "", text.strip()
    return thoughts.replace("<think>", "").strip(), said.strip()
