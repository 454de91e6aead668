#!/usr/bin/env python3
"""Writes tests/data/text/jinja_goldens.json: templates, variables, and what Jinja makes of them under the settings of
Hugging Face's transformers. Needs transformers and jinja2.

usage: make_jinja_goldens.py > tests/data/text/jinja_goldens.json
"""
import json
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

sys.path.insert(0, __file__.rsplit("/", 1)[0])
import jinja_golden_cases as cases  # noqa: E402

KINDS = {
    "TemplateSyntaxError": "TemplateSyntaxError", "TemplateAssertionError": "TemplateSyntaxError",
    "SyntaxError": "TemplateSyntaxError", "UndefinedError": "UndefinedError", "TypeError": "TypeError",
    "ValueError": "ValueError", "ZeroDivisionError": "ZeroDivisionError", "OverflowError": "OverflowError",
    "KeyError": "LookupError", "IndexError": "LookupError", "SecurityError": "SecurityError",
    "TemplateRuntimeError": "TemplateRuntimeError", "FilterArgumentError": "TemplateRuntimeError",
    "AssertionError": "TemplateRuntimeError", "RuntimeError": "TemplateRuntimeError", "TemplateError": "", "AttributeError": "TypeError",
}


def outcome(template, variables):
    """{"ok": text} or {"error": kind, "message": text, "line": of a syntax error}."""
    try:
        text = _compile_jinja_template(template).render(**variables)
        text.encode()
        return {"ok": text}
    except Exception as e:  # whatever a template can raise
        kind = KINDS.get(type(e).__name__, type(e).__name__)
        result = {"error": kind, "message": str(e)}
        if kind == "TemplateSyntaxError" and type(e) is not SyntaxError:  # Python's own line is of generated code
            result["line"] = e.lineno
        return result


def main():
    groups = {}
    for group, templates in cases.groups().items():
        groups[group] = []
        for case in templates:
            template, variables = case if isinstance(case, tuple) else (case, cases.VARIABLES)
            entry = {"template": template}
            if variables is not cases.VARIABLES:
                entry["variables"] = variables
            result = outcome(template, variables)
            if " at 0x" in result.get("ok", ""):
                continue  # an address in memory
            groups[group].append({**entry, **result})
    print("{\n \"variables\": " + json.dumps(cases.VARIABLES, ensure_ascii=False) + ",\n \"groups\": {")
    for i, (group, entries) in enumerate(groups.items()):
        lines = ",\n".join("   " + json.dumps(entry, ensure_ascii=False) for entry in entries)
        print(f"  {json.dumps(group)}: [\n{lines}\n  ]" + ("," if i + 1 < len(groups) else ""))
    print(" }\n}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
