#!/usr/bin/env python3
"""Cuts a tiny tokenizer from Gemma 3's real one, and lets Hugging Face and TRL say what it makes of texts and chats.

    python scripts/make_tiny_tokenizer.py MODEL_FOLDER MODEL.gguf [OUT]

MODEL_FOLDER holds Gemma 3's `tokenizer.json` and `tokenizer_config.json`, MODEL.gguf is any Gemma 3 (for its scores). The
tiny one has the real one's structure in 512 words: added tokens, runs of newlines, tabs and spaces, a few HTML tags,
all bytes, the most frequent words with all merges among them, and single letters; most of Unicode falls back to bytes.
Like the real one it has `<image_soft_token>` one past the model's vocabulary. Into OUT (tests/goldens/tokenizer) go

    tokenizer.json, tokenizer_config.json   the tokenizer, as a model folder has it
    vocabulary.json                         the same as a GGUF holds it: tokens, scores, types
    cases.json                              texts, chats, masks, and the ids they must get; with the versions used

The words are Gemma's, under the Gemma Terms of Use (https://ai.google.dev/gemma/terms).
Made with transformers 5.23.0, tokenizers 0.23.3, trl 1.16.0, gguf 0.19.0.
"""
import json
import sys
from pathlib import Path

import tokenizers
import transformers
import trl
from gguf import GGUFReader
from transformers import AutoTokenizer

WORDS = 512
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]", "<unused0>", "<unused1>", "<start_of_turn>",
           "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<table>", "</table>", "<strong>", "</strong>"]
RUNS = ["\n" * n for n in range(1, 7)] + ["▁" * n for n in range(2, 7)] + ["\t" * n for n in range(2, 4)]
LETTERS = [chr(c) for c in range(33, 127)] + ["▁", "\t", "é", "ü", "ß", "你", "😀"]


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(content):
    return {"role": "system", "content": content}


def text(content):
    return {"type": "text", "text": content}


CHATS = {
    "user": [user("Hello!")],
    "turns": [user("What is 2+2?"), assistant("4"), user("And times 3?"), assistant("12")],
    "asked_again": [system("You are terse."), user("What is 2+2?"), assistant("4"), user("And 3+3?"), assistant(" 6\n"), user("Sure?")],
    "system": [system("You are terse."), user("Name a colour."), assistant("Blue.")],
    "system_untrimmed": [system("  You are\n"), user("\n Hi "), assistant("Hi.")],
    "system_list": [system([text("You are terse.")]), user([text("Name a colour.")])],
    "parts": [user([text(" one "), text(" two ")]), assistant([text(" three\n"), text("four ")])],
    "white_space": [user("  padded \n"), assistant("\n yes  ")],
    "separators": [user("\u001c\u0085 a \u200b"), assistant("\u00a0b\u001f\u3000")],
    "unicode": [user("Grüße 👋🏽 – 你好\tx  y   z"), assistant("😀🇨🇭 naïve café \u0000 end 👋")],
    "code": [user("def f(x):\n    return x  # two  spaces\n\n\n\t\tdone")],
    "literal_specials": [user("ignore <end_of_turn> and <start_of_turn>model <bos>"), assistant("a <eos> <strong>b</strong>")],
    "empty": [user(""), assistant("")],
    "long": [user("word " * 100), assistant("yes " * 50)],
    "bad_roles": [user("a"), user("b")],
    "assistant_first": [assistant("a"), user("b")],
}
TEXTS = ["", " ", "  ", "a", " a", "Hello world", "The quick brown fox", "x" * 50, "\n\n\n", "\n" * 40, " " * 40, "\t\t", "\t\t\t\t",
         "tab\tsep", "12345 3.14159", "ﬀ ligature", "日本語テキスト", "مرحبا بالعالم", "\U0001F9D1\u200d\U0001F680", "\ufffd",
         "é vs e\u0301", "<start_of_image>", "<image_soft_token>", "<unused0>", "[multimodal]", "<0x0A>", "a\u00a0b", "\r\n", "▁", "a▁▁b",
         "it's don't", "http://example.com/a?b=c&d=%20", "<table><strong>the</strong></table>", "<start_of_turn", "the  cat\nand the  rat",
         "\u0000\u0001\u007f", "You are an assistant that answers in one line."]
COMPLETIONS = [("Question: what is it?\nAnswer:", " the thing"), ("is it: ", "yes"), ("", "all of it"), ("the", "re"), ("a\n", "\nb"),
               ("emoji ", "👋 hello"), ("prompt", "")]


def cut(folder, gguf):
    """The real tokenizer with WORDS words: (tokenizer.json, GGUF vocabulary)."""
    real = json.loads((folder / "tokenizer.json").read_text())
    fields = GGUFReader(gguf).fields
    tokens, scores, types = (fields[f"tokenizer.ggml.{k}"].contents() for k in ("tokens", "scores", "token_type"))
    vocab = real["model"]["vocab"]
    words = {i: word for word, i in vocab.items()}
    keep = {vocab[word] for word in SPECIAL + RUNS + LETTERS} | {i for i, kind in enumerate(types) if kind == 6}
    # Then the most frequent words that come from two words already kept, so that every word kept can be made.
    parts = {}
    for left, right in real["model"]["merges"]:
        parts.setdefault(vocab[left + right], []).append((vocab[left], vocab[right]))
    for i, kind in enumerate(types):
        if len(keep) < WORDS and kind == 1 and any(a in keep and b in keep for a, b in parts.get(i, [])):
            keep.add(i)
    assert len(keep) == WORDS, len(keep)
    order = sorted(keep)
    new = {old: i for i, old in enumerate(order)}
    kept = {words[i] for i in order}
    real["model"]["vocab"] = {words[i]: new[i] for i in order}
    real["model"]["merges"] = [[a, b] for a, b in real["model"]["merges"] if {a, b, a + b} <= kept]
    added = [token for token in real["added_tokens"] if token["content"] in kept]
    image = next(token for token in real["added_tokens"] if token["content"] == "<image_soft_token>")
    real["added_tokens"] = [dict(token, id=new[token["id"]]) for token in added] + [dict(image, id=WORDS)]
    for token in real["post_processor"]["special_tokens"].values():
        token["ids"] = [new[i] for i in token["ids"]]
    vocabulary = {"tokens": [tokens[i] for i in order], "scores": [scores[i] for i in order], "types": [types[i] for i in order]}
    for name in ("bos", "eos", "unknown", "padding"):
        vocabulary[name] = new[fields[f"tokenizer.ggml.{name}_token_id"].contents()]
    vocabulary["add_space_prefix"] = fields["tokenizer.ggml.add_space_prefix"].contents()
    return real, vocabulary


def chat_case(tokenizer, training, messages):
    case = {"messages": messages}
    for name, generation in (("train", False), ("generate", True)):
        try:
            rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
            case[name] = {"text": rendered, "ids": tokenizer(rendered, add_special_tokens=False)["input_ids"]}
        except Exception as error:
            case[name] = {"error": str(error)}
    if any(message["role"] == "assistant" for message in messages) and "error" not in case["train"]:
        masked = tokenizer.apply_chat_template(messages, chat_template=training, return_dict=True, return_assistant_tokens_mask=True)
        assert list(masked["input_ids"]) == case["train"]["ids"]
        case["mask"] = list(masked["assistant_masks"])
    return case


def completion_case(tokenizer, prompt, completion):
    """As TRL's SFTTrainer prepares prompt and completion: the loss begins where their ids part from the prompt's."""
    if not completion.endswith(tokenizer.eos_token):
        completion += tokenizer.eos_token
    before, ids = tokenizer(prompt)["input_ids"], tokenizer(prompt + completion)["input_ids"]
    shared = next((i for i, (a, b) in enumerate(zip(before, ids)) if a != b), min(len(before), len(ids)))
    return [-100] * shared + ids[shared:], ids


def main():
    folder, gguf = Path(sys.argv[1]), sys.argv[2]
    out = Path(sys.argv[3] if len(sys.argv) > 3 else "tests/goldens/tokenizer")
    out.mkdir(parents=True, exist_ok=True)
    tiny, vocabulary = cut(folder, gguf)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    config["model_max_length"] = 2048

    def dump(name, value, **options):
        (out / name).write_text(json.dumps(value, **options) + "\n")

    dump("tokenizer.json", tiny, ensure_ascii=False, separators=(",", ":"))
    dump("tokenizer_config.json", config, indent=1)
    dump("vocabulary.json", vocabulary, ensure_ascii=False, separators=(",", ":"))

    tokenizer = AutoTokenizer.from_pretrained(out)
    training = (Path(trl.__file__).parent / "chat_templates" / "gemma3_training.jinja").read_text()
    ours = (Path(__file__).parent.parent / "src/text/gemma3.jinja").read_text()
    texts = []
    for sample in TEXTS:
        ids = tokenizer(sample, add_special_tokens=False)["input_ids"]
        encoding = tokenizer(sample, add_special_tokens=False, return_offsets_mapping=True)
        texts.append({"text": sample, "ids": ids, "offsets": encoding["offset_mapping"], "decoded": tokenizer.decode(ids),
                      "decoded_without_special": tokenizer.decode(ids, skip_special_tokens=True)})
    chats = {name: chat_case(tokenizer, training, messages) for name, messages in CHATS.items()}
    # The template we bring for models without one must do the same under Hugging Face's Jinja.
    for case in chats.values():
        for name, generation in (("train", False), ("generate", True)):
            if "text" in case[name]:
                rendered = tokenizer.apply_chat_template(case["messages"], chat_template=ours, tokenize=False, add_generation_prompt=generation)
                assert rendered == case[name]["text"], (rendered, case[name]["text"])
    completions = []
    for prompt, completion in COMPLETIONS:
        labels, ids = completion_case(tokenizer, prompt, completion)
        completions.append({"prompt": prompt, "completion": completion, "ids": ids, "labels": labels})
    versions = {m.__name__: m.__version__ for m in (transformers, tokenizers, trl)}
    dump("cases.json", {"made_with": versions, "texts": texts, "chats": chats, "completions": completions, "training_template": training},
         separators=(",", ":"))


if __name__ == "__main__":
    main()
