#!/usr/bin/env python3
"""Asks a server ten thousand things, well and badly, and looks at what it keeps. Needs Python alone.

    python3 scripts/make_random_model.py ...                       # or any small model
    python3 scripts/soak_serve.py MODEL [--adapter FOLDER] [--tool target/release/gemma-tune] [--requests 10000]

Of the requests, one in ten comes from a client that goes away (before, in, or after its request, or in its answer), one in fifty reads slowly, one
in twenty is malformed (half an object, a wrong type, noise, an impossible head) and one in fifty larger than the server takes. All others are greedy
and of at most 16 tokens, streamed or whole, by the base or the adapter, and have to be what the same request got from the idle server. At the end nothing
waits or runs, and the server's memory is within 5 % of what it was after the first fifth. Exit code 1 where one of that is not so.
"""

import argparse
import asyncio
import collections
import json
import random
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("--adapter")
parser.add_argument("--tool", default="target/release/gemma-tune")
parser.add_argument("--requests", type=int, default=10_000)
parser.add_argument("--clients", type=int, default=24, help="at once")
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

LIMIT = 64 << 10  # bytes of a body
WORDS = "the keeper of the lighthouse writes down what the weather was and who came by the road".split()
PATIENCE = 120.0  # seconds for any answer


def prompts():
    draw = random.Random(1)
    names = ["base"] + (["tuned"] if args.adapter else [])
    for index in range(24):
        text = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, 40)))
        yield {"model": names[index % len(names)], "prompt": text, "max_tokens": draw.randrange(1, 17), "temperature": 0}


class Talk:
    """One connection."""

    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    async def send(self, body, path="/v1/completions", method="POST"):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.writer.write(head.encode() + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await self.writer.drain()

    async def read(self, slowly=False):
        whole = b""
        while True:
            piece = await asyncio.wait_for(self.reader.read(16 if slowly else 65536), PATIENCE)
            if not piece:
                break
            whole += piece
            if slowly:
                await asyncio.sleep(0.01)
        head, _, body = whole.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/1.1 ") else 0
        return status, dechunked(body) if b"chunked" in head.lower() else body


def dechunked(body):
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        size = int(size, 16)
        if size == 0:
            break
        whole, body = whole + body[:size], body[size + 2 :]
    return whole


def text_of(body, streamed):
    if not streamed:
        return json.loads(body)["choices"][0]["text"]
    events = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return None
    return "".join(choice.get("text") or "" for event in events[:-1] for choice in json.loads(event)["choices"])


async def ask(port, request, streamed, slowly=False):
    async with Talk(port) as talk:
        await talk.send(json.dumps(request | {"stream": streamed}).encode())
        status, body = await talk.read(slowly)
        return status, text_of(body, streamed) if status == 200 else body.decode(errors="replace")


async def vanish(port, request, draw):
    """A client that goes away somewhere on its way."""
    body = json.dumps(request | {"stream": draw.random() < 0.5}).encode()
    async with Talk(port) as talk:
        where = draw.randrange(4)
        if where == 0:
            return
        if where == 1:
            talk.writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            talk.writer.write(body[: len(body) // 2])
            return
        await talk.send(body)
        if where == 3:
            await asyncio.wait_for(talk.reader.read(64), PATIENCE)


MALFORMED = [
    b'{"model": "base", "prompt": "a"',
    b"",
    b"[]",
    b"null",
    b'{"model": 3}',
    b'{"model": "base", "prompt": {"a": 1}}',
    b'{"model": "base", "prompt": "a", "max_tokens": -1}',
    b'{"model": "base", "prompt": "a", "temperature": "hot"}',
    b'{"model": "nobody", "prompt": "a"}',
    b"\xff\xfe\x00",
    b'{"model": "base", "prompt": "a", "stop": ["' + b"\\u0000" * 40 + b'", 3]}',
    b"[" * 5000,
    b'{"model": "base", "prompt": "a", "logit_bias": {"99999999999": 1}}',
    b'{"model": "base", "prompt": [99999999]}',
]


async def malformed(port, draw):
    """Something that is no request; it has to be refused, whatever it is."""
    async with Talk(port) as talk:
        if draw.random() < 0.2:
            talk.writer.write(bytes(draw.randrange(256) for _ in range(draw.randrange(1, 400))) + b"\r\n\r\n")
            await talk.writer.drain()
            talk.writer.write_eof()
            status, _ = await talk.read()
            return status in (0, 400)
        body = draw.choice(MALFORMED)
        if draw.random() < 0.3:  # noise in a right one
            body = bytearray(b'{"model": "base", "prompt": "some words", "max_tokens": 2, "temperature": 0}')
            for _ in range(draw.randrange(1, 4)):
                body[draw.randrange(len(body))] = draw.randrange(256)
            await talk.send(bytes(body))
            status, _ = await talk.read()
            return status in (200, 400, 404)
        await talk.send(body)
        status, _ = await talk.read()
        return 400 <= status < 500


async def oversized(port):
    async with Talk(port) as talk:
        try:
            await talk.send(json.dumps({"model": "base", "prompt": "a" * (2 * LIMIT)}).encode())
        except OSError:
            return True  # refused while it was sent
        status, _ = await talk.read()
        return status in (0, 413)


async def main(port, pid):
    known = {}
    asked = list(prompts())
    for index, request in enumerate(asked):
        status, known[index] = await ask(port, request, False)
        assert status == 200, known[index]
    draw = random.Random(args.seed)
    kinds, wrong, memory = collections.Counter(), [], []
    done, started, gate = 0, time.monotonic(), asyncio.Semaphore(args.clients)

    async def one(number):
        nonlocal done
        async with gate:
            index, chance = draw.randrange(len(asked)), draw.random()
            try:
                if chance < 0.10:
                    kind = "vanished"
                    await vanish(port, asked[index], draw)
                elif chance < 0.15:
                    kind = "malformed"
                    if not await malformed(port, draw):
                        wrong.append(f"{number}: something malformed was not refused")
                elif chance < 0.17:
                    kind = "oversized"
                    if not await oversized(port):
                        wrong.append(f"{number}: something oversized was not refused")
                else:
                    slowly, streamed = chance < 0.19, draw.random() < 0.5
                    kind = "slow" if slowly else "streamed" if streamed else "whole"
                    status, text = await ask(port, asked[index], streamed, slowly)
                    if (status, text) != (200, known[index]):
                        wrong.append(f"{number}: {status} {text!r}, not {known[index]!r}")
            except (OSError, asyncio.TimeoutError, ValueError, asyncio.IncompleteReadError) as problem:
                kind = "failed"
                wrong.append(f"{number}: {type(problem).__name__} {problem}")
            kinds[kind] += 1
            done += 1
            if done % max(1, args.requests // 20) == 0:
                memory.append(resident(pid))
                print(f"{done}/{args.requests} requests, {memory[-1] / 1e6:.1f} MB, {len(wrong)} wrong", file=sys.stderr)

    await asyncio.gather(*(one(number) for number in range(args.requests)))
    seconds = time.monotonic() - started
    for _ in range(50):
        figures = await metrics(port)
        if figures["gemma_tune_waiting_requests"] == 0 and figures["gemma_tune_running_answers"] == 0:
            break
        await asyncio.sleep(0.1)
    for name in ("waiting_requests", "running_answers", "cache_reserved_bytes"):
        if figures[f"gemma_tune_{name}"] != 0:
            wrong.append(f"{name} is {figures[f'gemma_tune_{name}']} at the end")
    settled, last = memory[len(memory) // 5], memory[-1]
    if last > settled * 1.05:
        wrong.append(f"memory grew from {settled / 1e6:.1f} to {last / 1e6:.1f} MB")
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    print(json.dumps({
        "requests": dict(kinds), "seconds": round(seconds, 1), "settled_bytes": settled, "last_bytes": last,
        "memory_ratio": round(last / settled, 4), "open_files": files, "wrong": wrong[:20],
    }, indent=1))
    return not wrong


async def metrics(port):
    async with Talk(port) as talk:
        await talk.send(b"", "/metrics", "GET")
        _, body = await talk.read()
    lines = (line.rsplit(" ", 1) for line in body.decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


command = [args.tool, "serve", "--model", args.model, "--name", "base", "--port", "0", "--max-body-bytes", str(LIMIT)]
command += ["--adapter", f"tuned={args.adapter}"] if args.adapter else []
server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
try:
    address = server.stdout.readline().strip()
    if not address:
        sys.exit(server.stderr.read())
    right = asyncio.run(main(int(address.rsplit(":", 1)[1]), server.pid))
finally:
    server.terminate()
    talk = server.communicate()[1]
if "panicked" in talk or server.returncode != 0:
    print(f"the server ended with {server.returncode}:\n{talk[-2000:]}", file=sys.stderr)
    right = False
sys.exit(not right)
