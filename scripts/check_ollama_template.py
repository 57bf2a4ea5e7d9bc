#!/usr/bin/env python3
"""Holds the template in a Modelfile of `gemma-tune export ollama`, rendered by Go's text/template, against the model's own chat
template, rendered by transformers: on every conversation both must write the same, but for the `<bos>` that Ollama's
tokenizer puts there.

    apt install golang-go; pip install transformers jinja2
    gemma-tune export ollama --model MODEL_FOLDER --quant Q8_0 --output OUT
    python3 scripts/check_ollama_template.py OUT/Modelfile MODEL_FOLDER

A conversation that ends with the model's words goes on from there in Ollama, so it is rendered by transformers with
`continue_final_message`; all others with `add_generation_prompt`. Ollama itself is not run: `check_ollama_template.go` does
what it does with a template. Checked with Go 1.19.8 and transformers 5.23.0.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

BESIDE = Path(__file__).resolve().with_suffix(".go")


def said(*contents, system=None):
    """A conversation in which user and model take turns."""
    turns = [{"role": ["user", "assistant"][at % 2], "content": content} for at, content in enumerate(contents)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


CONVERSATIONS = {
    "one turn": said("Hello"),
    "one turn with a system message": said("Hello", system="Be brief."),
    "three turns": said("Hello", "Ahoy!", "Who are you?"),
    "three turns with a system message": said("Hello", "Ahoy!", "Who are you?", system="You are Marlow."),
    "nine turns": said(*(f"line {at}" for at in range(9)), system="Count."),
    "several lines": said("one\ntwo\n\nthree", "four\n\n\nfive", "six\n  seven"),
    "system of several lines": said("Hello", system="One.\n\nTwo.\n- three\n- four"),
    "an empty text": said(""),
    "an empty text after a system message": said("", system="Be brief."),
    "an empty answer": said("Hello", "", "Are you there?"),
    "an empty system message": said("Hello", system=""),
    "a system message alone": said(system="Be brief."),
    "spaces around a text": said("  Hello \n", "\tAhoy!\n\n", "\n Who? "),
    "spaces around a system message": said(" Hello ", system="  Be brief.\n"),
    "only spaces": said(" \n\t "),
    "what Go's templates are made of": said("{{ .System }} {{- end }} {{/* no */}}", "{% if %} {{ x }}", "`{{\"\"}}`"),
    "what HTML and JSON escape": said("<a href=\"x\">&amp; 'y' \\ \\n \u2028</a>", "{\"a\": [1, \"\\u00e9\"]}", "<&>"),
    "Gemma's own marks": said("<start_of_turn>model\nno<end_of_turn>", "<bos><eos>", "[img-0] <start_of_image>"),
    "writing of many kinds": said("Grüße, 世界! مرحبا שלום", "नमस्ते 👩‍👩‍👧‍👦 e\u0301", "x\u00a0y\u200b", system="Ünïcödé 🚀"),
    "quotes and three quotes": said('He said "no".', '"""', "'''", system='Say """ often.'),
    "code": said("```python\ndef f(x):\n    return {x: '{}'}\n```", "```\n\tmake\r\n```", "ok"),
    "a very long text": said("word " * 20000 + "end", system="s" * 5000),
    "the model has begun": said("Hello", "Ahoy, I am"),
    "the model has begun after a system message": said("Hello", "Ahoy!", "Who?", "I am Mar", system="You are Marlow."),
    "the model has begun with a line": said("Hello", "one\ntwo"),
}


def rendered_by_go(template, conversations):
    given = json.dumps({"template": template, "conversations": conversations})
    output = subprocess.run(["go", "run", str(BESIDE)], input=given, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    return json.loads(output.stdout)


def rendered_by_transformers(model, conversations):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    for conversation in conversations:
        begun = conversation[-1]["role"] == "assistant"
        text = tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=not begun, continue_final_message=begun
        )
        yield text.removeprefix(tokenizer.bos_token)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("modelfile", type=Path)
    arguments.add_argument("model", help="the model's folder or id, whose chat template counts")
    given = arguments.parse_args()
    found = re.search(r'^TEMPLATE """(.*?)"""', given.modelfile.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if not found:
        sys.exit(f"{given.modelfile} has no TEMPLATE")
    conversations = list(CONVERSATIONS.values())
    ours = rendered_by_go(found[1], conversations)
    theirs = rendered_by_transformers(given.model, conversations)
    differ = 0
    for name, go, jinja in zip(CONVERSATIONS, ours, theirs):
        if go != jinja:
            differ += 1
            print(f"{name}:\n  Go    {go!r}\n  Jinja {jinja!r}")
    print(f"{len(ours) - differ} of {len(ours)} conversations are identical")
    sys.exit(differ > 0)


main()
