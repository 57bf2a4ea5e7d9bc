#!/usr/bin/env python3
"""Asks `gemma-tune serve` with OpenAI's own client, and compares with `gemma-tune generate`.

    pip install openai
    python3 scripts/check_serve.py MODEL [--adapter FOLDER] [--tool target/release/gemma-tune] [--clients 1,4,16] [--llama LLAMA_SERVER] [--jobs]
        [--transformers]

Answers of `temperature: 0` have to be those of `generate`; streams, several answers, log-probabilities, answers of a schema, calls of tools, errors and
models as the client's types want them. Then how fast so many clients at once are answered, prompts and answers of about 128 tokens; with --llama
the same of llama.cpp's server on the same file, in turns. With --jobs first of all a fine-tuning job from its rows to an answer of its
model, supervised and dpo. With --transformers (pip install torch transformers) embeddings are compared with theirs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROMPTS = ["What is the capital of France?", "Name three colours.", "Why is the sky blue?", "Write a line about the sea."]
WORDS = "the keeper of the lighthouse writes down what the weather was and who came by the road along the cliffs".split()

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--adapter")
parser.add_argument("--tool", default="target/release/gemma-tune")
parser.add_argument("--clients", default="1,4,16")
parser.add_argument("--llama", help="llama.cpp's llama-server")
parser.add_argument("--compute-dtype", default="auto")
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--jobs", action="store_true", help="upload rows, tune the model, and talk with it")
parser.add_argument("--transformers", action="store_true", help="compare embeddings with those of transformers (a folder, in f32)")


class Server:
    """A server that runs while it is used."""

    def __init__(self, command, address=None):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = address or self.process.stdout.readline().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.code = self.process.wait(timeout=180)


def ours(args, *more):
    command = [args.tool, "serve", "--model", args.model, "--name", "base", "--port", "0", "--compute-dtype", args.compute_dtype]
    return Server(command + (["--adapter", f"tuned={args.adapter}"] if args.adapter else []) + list(more))


def llama(args):
    port = 18080
    command = [args.llama, "-m", args.model, "--port", str(port), "-np", "16", "-c", str(16 * 512), "-t", "2"]
    server = Server(command, f"http://127.0.0.1:{port}")
    import urllib.request

    for _ in range(600):
        try:
            urllib.request.urlopen(f"{server.address}/health").read()
            return server
        except OSError:
            time.sleep(0.1)
    sys.exit("llama-server does not answer")


def client_of(server):
    from openai import OpenAI

    return OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=600)


def generated(args, adapter):
    """What `generate` says to the prompts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "prompts.jsonl")
        path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS), encoding="utf-8")
        command = [args.tool, "generate", "--model", args.model, "--input", str(path), "--json", "--max-tokens", "32"]
        command += ["--batch-size", "1", "--compute-dtype", args.compute_dtype]
        done = subprocess.run(command + (["--adapter", adapter] if adapter else []), capture_output=True, text=True, check=True)
        return [json.loads(line)["completion"] for line in done.stdout.splitlines()]


def check(args):
    import openai

    with ours(args) as server:
        client = client_of(server)
        names = [model.id for model in client.models.list()]
        assert names == ["base"] + (["tuned"] if args.adapter else []), names
        for name, adapter in [("base", None), ("tuned", args.adapter)][: len(names)]:
            expected, asked = generated(args, adapter), {}

            def ask(prompt):
                stream = client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=32, stream=True
                )
                asked[prompt] = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

            threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in PROMPTS]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            same = sum(asked[prompt] == answer for prompt, answer in zip(PROMPTS, expected))
            print(f"{name}: {same} of {len(PROMPTS)} answers, asked at once and streamed, are those of `generate`")
        whole = client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": PROMPTS[0]}], temperature=0, max_tokens=8, logprobs=True, top_logprobs=3, n=2
        )
        content = whole.choices[1].logprobs.content
        assert len(content) == whole.usage.completion_tokens // 2 and all(len(token.top_logprobs) == 3 for token in content)
        assert whole.choices[0].message.content == whole.choices[1].message.content
        text = client.completions.create(model="base", prompt="The lighthouse", temperature=0, max_tokens=8, logprobs=2)
        assert len(text.choices[0].logprobs.token_logprobs) == text.usage.completion_tokens == 8
        check_forms(client)
        for wrong, kind in [({"model": "none"}, openai.NotFoundError), ({"temperature": 9}, openai.BadRequestError)]:
            try:
                client.chat.completions.create(**{"model": "base", "messages": [{"role": "user", "content": "x"}], **wrong})
            except kind as error:
                print(f"refused: {error}")
            else:
                sys.exit(f"{wrong} was taken")
        print("models, several answers, log-probabilities, texts and errors are as the client has them")
    assert server.code == 0, server.code


def check_embeddings(args):
    """The mean of the last hidden states over the tokens of each text without special ones, of length 1, here and in transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModel.from_pretrained(args.model, dtype=torch.float32).eval()
    texts = PROMPTS + ["a", "  spaces  and\nlines\n", "Größe, 身長, 🙂", "The lighthouse keeper counted ships. " * 40]
    with ours(args) as server:
        got = client_of(server).embeddings.create(model="base", input=texts, encoding_format="float")
    worst, tokens = 0.0, 0
    for text, found in zip(texts, got.data, strict=True):
        ids = tokenizer(text)["input_ids"]
        tokens += len(ids)
        with torch.no_grad():
            states = model(torch.tensor([ids])).last_hidden_state[0]
        kept = torch.tensor([id not in tokenizer.all_special_ids for id in ids])
        place = torch.nn.functional.normalize(states[kept].double().mean(0), dim=0)
        worst = max(worst, (place - torch.tensor(found.embedding).double()).abs().max().item())
    assert got.usage.prompt_tokens == tokens, (got.usage.prompt_tokens, tokens)
    print(f"embeddings of {len(texts)} texts are within {worst:.1e} of those of transformers")
    assert worst <= 1e-5, worst


def check_forms(client):
    """Answers that have to be JSON, and calls of tools."""
    import openai
    from pydantic import BaseModel

    class Town(BaseModel):
        name: str
        inhabitants: int
        is_capital: bool

    ask = [{"role": "user", "content": "Describe Paris as JSON: its name in a word, its inhabitants, and whether it is a capital."}]
    asked = {"model": "base", "messages": ask, "max_tokens": 200}
    try:
        town = client.chat.completions.parse(**asked, response_format=Town).choices[0].message.parsed
        assert isinstance(town, Town), town
    except openai.LengthFinishReasonError as error:  # a model that babbles on within a text
        town = error
    stream = client.chat.completions.create(**asked, response_format={"type": "json_object"}, stream=True)
    chunks = [chunk.choices[0] for chunk in stream if chunk.choices]
    text = "".join(chunk.delta.content or "" for chunk in chunks)
    assert chunks[-1].finish_reason == "length" or isinstance(json.loads(text), dict), text
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 30}}, "required": ["city"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": schema}}
    for choice in ["required", {"type": "function", "function": {"name": "weather"}}]:
        answer = client.chat.completions.create(
            model="base", messages=[{"role": "user", "content": "How is the weather in Bern?"}], max_tokens=600, tools=[tool], tool_choice=choice,
            parallel_tool_calls=False,
        ).choices[0]
        (call,) = answer.message.tool_calls
        assert answer.finish_reason == "tool_calls" and call.function.name == "weather", answer
        assert list(json.loads(call.function.arguments)) == ["city"], call
    try:
        client.chat.completions.create(
            **asked, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}}
        )
    except Exception as error:
        assert "/not" in str(error), error
        print(f"refused: {error}")
    else:
        sys.exit("a schema that cannot be enforced was taken")
    print(f"answers of a form: {town} and {call.function.arguments}")


def tune(args):
    """From rows to an answer of the tuned model, as a user of OpenAI's client writes it."""
    import openai

    def rows(number):
        asked = [{"role": "user", "content": f"What is the code of door {number}?"}]
        said = {"role": "assistant", "content": f"The code of door {number} is {number * 7}."}
        pair = {"input": {"messages": asked}, "preferred_output": [said], "non_preferred_output": [{"role": "assistant", "content": "No."}]}
        return {"messages": asked + [said]}, pair

    with tempfile.TemporaryDirectory() as folder:
        with ours(args, "--jobs", str(Path(folder, "jobs"))) as server:
            client = client_of(server)
            wrong = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n{"messages": 3}\n'
            try:
                client.files.create(file=("wrong.jsonl", wrong), purpose="fine-tune")
                sys.exit("a wrong file was taken")
            except openai.BadRequestError as error:
                assert "line 2" in str(error), error
                print(f"refused: {error}")
            methods = [
                ({"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}}, 0),
                ({"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "batch_size": "auto", "beta": 0.2}}}, 1),
            ]
            for method, kind in methods:
                text = "".join(json.dumps(rows(number)[kind]) + "\n" for number in range(12))
                file = client.files.create(file=("rows.jsonl", text.encode()), purpose="fine-tune")
                assert file.bytes == len(text) and client.files.content(file.id).read() == text.encode()
                assert [listed.id for listed in client.files.list(purpose="fine-tune")][0] == file.id
                job = client.fine_tuning.jobs.create(model="base", training_file=file.id, validation_file=file.id, method=method, suffix="doors", seed=7)
                while job.status not in ("succeeded", "failed", "cancelled"):
                    time.sleep(0.5)
                    job = client.fine_tuning.jobs.retrieve(job.id)
                assert job.status == "succeeded", job.error
                events = list(client.fine_tuning.jobs.list_events(job.id, limit=5))  # all pages
                steps = [event.data["train_loss"] for event in reversed(events) if event.type == "metrics" and "train_loss" in event.data]
                assert job.trained_tokens and any("valid_loss" in (event.data or {}) for event in events)
                saved = client.fine_tuning.jobs.checkpoints.list(job.id).data
                table = client.files.content(job.result_files[0]).text
                assert saved[0].step_number == len(steps) and table.count("\n") >= len(steps) + 1
                answer = client.chat.completions.create(
                    model=job.fine_tuned_model, messages=rows(3)[0]["messages"][:1], temperature=0, max_tokens=24
                )
                print(f"{job.fine_tuned_model}: {len(steps)} steps, {job.hyperparameters}, says {answer.choices[0].message.content!r}")
            assert client.fine_tuning.jobs.list(limit=1).data[0].id == job.id and len(list(client.fine_tuning.jobs.list(limit=1))) == 2
            assert client.models.delete(job.fine_tuned_model).deleted
            other = client.fine_tuning.jobs.create(model="base", training_file=client.files.list(order="asc").data[0].id, hyperparameters={"n_epochs": 50})
            assert client.fine_tuning.jobs.cancel(other.id).status == "cancelled"
            assert client.files.delete(file.id).deleted
        assert server.code == 0, server.code
    print("files, jobs, events, checkpoints, results and models are as the client has them")


def load(server, name, clients):
    """Tokens a second, and times to the first token, of so many clients at once."""
    client, firsts, tokens = client_of(server), [], []

    def ask(number):
        words = [WORDS[(at * (number + 3) + number) % len(WORDS)] for at in range(110)]
        message = {"role": "user", "content": f"{number} {time.time()}: go on with this: " + " ".join(words)}
        began, said, first = time.perf_counter(), 0, None
        stream = client.chat.completions.create(
            model=name, messages=[message], temperature=0, max_tokens=128, stream=True, stream_options={"include_usage": True}
        )
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content and first is None:
                first = time.perf_counter() - began
            if chunk.usage:
                said = chunk.usage.completion_tokens
        firsts.append(first if first is not None else time.perf_counter() - began)
        tokens.append(said)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    took = time.perf_counter() - began
    return sum(tokens) / took, sorted(firsts)[int(0.95 * (len(firsts) - 1))]


def measure(args):
    for clients in map(int, args.clients.split(",")):
        results = {"gemma-tune": [], "llama.cpp": []}
        for _ in range(args.runs):
            with ours(args) as server:
                results["gemma-tune"].append(load(server, "base", clients))
            if args.llama:
                with llama(args) as server:
                    results["llama.cpp"].append(load(server, "base", clients))
        for who, runs in results.items():
            if runs:
                rate, first = (statistics.median(column) for column in zip(*runs))
                print(f"{clients:3} clients, {who:10}: {rate:6.1f} tokens/s, first token (p95) after {first:5.2f} s")


if __name__ == "__main__":
    args = parser.parse_args()
    if args.jobs:
        tune(args)
    check(args)
    if args.transformers:
        check_embeddings(args)
    if args.clients:
        measure(args)
