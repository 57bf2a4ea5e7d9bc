#!/usr/bin/env python3
"""Lets Hugging Face's Jinja render conversations by templates other than Gemma 3's, into tests/goldens/templates/cases.json.

    python scripts/make_template_goldens.py [OUT]

The templates are ours: FunctionGemma's format after its documentation (functiongemma.jinja), one that shows reasoning, one
that writes tools as JSON. Each case has the text of the whole conversation, and of each of its beginnings with and without
the prompt for an answer; `null` where the template refuses.

Made with transformers 5.23.0, jinja2 3.1.6.
"""
import json
import sys
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

REASONING = """{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>
{% endif %}{{ m.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""
JSON = """{{ bos_token }}{% for tool in tools or [] %}{{ tool | tojson }}
{% endfor %}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}
{{ m.content }}{% for call in m.tool_calls or [] %}{{ call.function | tojson(indent=2) }}{% endfor %}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name, description, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


OVEN = tool("oven_on", "Heats the \"oven\" <now>", degrees={"type": "integer", "description": "How hot"},
            mode={"type": "string", "enum": ["fan", "grill"], "description": "How"})
SHOP = tool("find_shop", "Finds a shop", street={"type": "string", "description": "Where"},
            tags={"type": "array", "items": {"type": "string"}})
USER = {"role": "user", "content": " Heat the oven to 180. "}
SYSTEM = {"role": "system", "content": "You are a model that can do function calling with the following functions"}
ONE = {"role": "assistant", "content": "", "tool_calls": [call("oven_on", degrees=180, mode="fan")]}
TWO = {"role": "assistant", "content": "", "tool_calls": [call("find_shop", street="Elm Street", tags=["é", "b"]), call("oven_on", degrees=1.5)]}
DONE = {"role": "tool", "name": "oven_on", "content": "ok"}
FOUND = {"role": "tool", "name": "find_shop", "content": "{\"number\": 4}"}
SAID = {"role": "assistant", "content": "It is heating."}
NEXT = {"role": "user", "content": "A shop?"}
THOUGHT = {"role": "assistant", "content": "51", "reasoning_content": "30 + 21"}

CASES = {
    "plain": ("functiongemma", [USER, SAID], []),
    "system": ("functiongemma", [{"role": "system", "content": " Be brief. "}, USER, SAID, NEXT, SAID], []),
    "declaration": ("functiongemma", [SYSTEM, USER, SAID], [OVEN, SHOP]),
    "call": ("functiongemma", [SYSTEM, USER, ONE], [OVEN]),
    "response": ("functiongemma", [SYSTEM, USER, ONE, DONE, SAID], [OVEN]),
    "parallel": ("functiongemma", [USER, TWO, FOUND, DONE, SAID], [OVEN, SHOP]),
    "steps": ("functiongemma", [USER, ONE, DONE, TWO, FOUND, DONE, SAID, NEXT, SAID], [OVEN, SHOP]),
    "waiting": ("functiongemma", [USER, ONE, DONE], [OVEN]),
    "reasoning": ("reasoning", [USER, THOUGHT, NEXT, SAID], []),
    "json": ("json", [USER, TWO, FOUND, SAID], [OVEN, SHOP]),
}


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/templates")
    templates = {"functiongemma": (out / "functiongemma.jinja").read_text(), "reasoning": REASONING, "json": JSON}

    def render(template, messages, tools, prompt):
        try:
            texts, _ = render_jinja_template([messages], tools=tools or None, chat_template=templates[template],
                                             add_generation_prompt=prompt, bos_token="<bos>", eos_token="<eos>")
            return texts[0]
        except jinja2.TemplateError:
            return None

    cases = {}
    for name, (template, messages, tools) in CASES.items():
        beginnings = [[render(template, messages[:n], tools, prompt) for prompt in (False, True)] for n in range(1, len(messages) + 1)]
        cases[name] = {"template": template, "messages": messages, "tools": tools, "beginnings": beginnings}
    versions = {m.__name__: m.__version__ for m in (transformers, jinja2)}
    written = {"made_with": versions, "templates": {name: templates[name] for name in ("reasoning", "json")}, "cases": cases}
    (out / "cases.json").write_text(json.dumps(written, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
