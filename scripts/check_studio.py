#!/usr/bin/env python3
"""Clicks through the studio in a real Chromium, from a dropped spreadsheet to a chat with the tuned model, one about a picture and a sound, and
files of every kind that are proved.

    python3 scripts/check_studio.py [--model FOLDER] [--tool target/release/gemma-tune] [--chromium chromium] [--shots FOLDER]

Without --model it makes a tiny one of tests/goldens. Looked at on the way: the size of the page (at most 300 kB), its first paint (at
most --paint ms, on a machine that does nothing else), that nothing is fetched from elsewhere and no console complains, that each control has a name and can be reached by
keyboard, that no page is wider than a phone of 360 pixels, and how far text stands out in light and in dark. Needs nothing but Python
and Chromium; pictures go to --shots, which must lie outside of the repository.
"""

import argparse
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES, PHONE = 300_000, 360
ROWS = [
    ("Where is my parcel?", "Ahoy! It is at the door."),
    ("When do you open?", "Ahoy! At nine."),
    ("What does it cost?", "Ahoy! Four coins."),
    ("Who are you?", "Ahoy! A keeper of the light."),
]
PAGES = ["new", "runs", "talk", "ship"]

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", help="a model's folder")
parser.add_argument("--tool", default="target/release/gemma-tune")
parser.add_argument("--chromium", default="chromium")
parser.add_argument("--shots", help="a folder for pictures")
parser.add_argument("--epochs", default="30")
parser.add_argument("--paint", type=float, default=200, help="milliseconds to the first paint, at most")


def tiny_model(folder):
    """The model of tests/goldens with the tiny tokenizer: its embedding repeated, with other signs, up to the 512 words."""
    goldens = ROOT / "tests" / "goldens"
    for source in (goldens / "model/lora/model", goldens / "tokenizer"):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    head, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    head.pop("__metadata__", None)
    tensors = {name: (entry["shape"], data[slice(*entry["data_offsets"])]) for name, entry in head.items()}
    (rows, width), bytes_ = tensors["model.embed_tokens.weight"]
    more = [-x for x in struct.unpack(f"<{rows * width}f", bytes_)[: (512 - rows) * width]]
    tensors["model.embed_tokens.weight"] = [512, width], bytes_ + struct.pack(f"<{len(more)}f", *more)
    head, at = {}, 0
    for name, (shape, bytes_) in tensors.items():
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(bytes_)]}
        at += len(bytes_)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(bytes_ for _, bytes_ in tensors.values()))
    config = json.loads((folder / "config.json").read_text())
    # As a GGUF file can say it.
    more = {"vocab_size": 512, "query_pre_attn_scalar": config["head_dim"]}
    (folder / "config.json").write_text(json.dumps(config | more))


def media(place):
    """A model that sees and hears, behind the others in the list, a picture and a sound."""
    goldens = ROOT / "tests" / "goldens"
    shutil.copytree(goldens / "multimodal3n/model", place / "models/with-eyes")
    shutil.copy(goldens / "multimodal/pictures/red.png", place / "red.png")
    with wave.open(str(place / "tone.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(b"".join(struct.pack("<h", 9000 * (1 if i % 40 < 20 else -1)) for i in range(8000)))


class Socket:
    """A WebSocket, as far as Chromium's protocol needs one."""

    def __init__(self, url):
        host, path = url.removeprefix("ws://").split("/", 1)
        name, port = host.split(":")
        self.socket = socket.create_connection((name, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.socket.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(4096)
        self.buffer = self.buffer.split(b"\r\n\r\n", 1)[1]

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = len(data)
        head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x81, 0xFE, size) if size < 65536 else struct.pack("!BBQ", 0x81, 0xFF, size)
        self.socket.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def take(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError("Chromium has gone")
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        text = b""
        while True:
            first, second = self.take(2)
            size = second & 0x7F
            size = struct.unpack("!H", self.take(2))[0] if size == 126 else struct.unpack("!Q", self.take(8))[0] if size == 127 else size
            text += self.take(size)
            if first & 0x80:
                return text.decode()


class Browser:
    """A tab of Chromium."""

    def __init__(self, program, profile):
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen([program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = Path(profile, "DevToolsActivePort")
        for _ in range(600):
            if port.exists() and port.read_text().count("\n"):
                break
            time.sleep(0.1)
        number = port.read_text().split("\n")[0]
        tabs = json.load(urllib.request.urlopen(f"http://127.0.0.1:{number}/json"))
        self.socket = Socket(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
        self.number, self.asked, self.complaints, self.loaded = 0, [], [], False
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            said = json.loads(self.socket.receive())
            if said.get("id") == self.number:
                if "error" in said:
                    raise RuntimeError(f"{method}: {said['error']}")
                return said["result"]
            self.note(said)

    def note(self, said):
        method, params = said.get("method"), said.get("params", {})
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"].get("exception", {}).get("description") or params["exceptionDetails"]["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and params["type"] == "error":
            self.complaints.append(json.dumps(params["args"]))
        elif method == "Page.javascriptDialogOpening":
            self.socket.send(json.dumps({"id": 10**9 + self.number, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}))

    def js(self, expression):
        said = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in said:
            raise RuntimeError(f"{expression}: {said['exceptionDetails']}")
        return said["result"].get("value")

    def until(self, what, expression, seconds=60):
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            found = self.js(expression)
            if found:
                return found
            time.sleep(0.1)
        self.shot("late")
        sys.exit(f"late: {what}\n{self.js('document.body.innerText')}\n{self.complaints}")

    def open(self, url):
        self.ask("Page.navigate", url=url)
        self.until("the page", "document.readyState === 'complete' && !!document.querySelector('h1')")

    def key(self, name, text=None):
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40, "Escape": 27}
        more = {"text": "\r" if name == "Enter" else text or name} if name in ("Enter", " ") or text else {}
        down = {"type": "keyDown", "key": name, "code": "Space" if name == " " else name, "windowsVirtualKeyCode": codes.get(name, 0)}
        self.ask("Input.dispatchKeyEvent", **down, **more)
        self.ask("Input.dispatchKeyEvent", **(down | {"type": "keyUp"}))

    def type(self, text):
        self.ask("Input.insertText", text=text)

    def tab_to(self, selector, most=80):
        """Goes on with the Tab key until this has the focus."""
        for _ in range(most):
            if self.js(f"document.activeElement?.matches({json.dumps(selector)}) ?? false"):
                return
            self.key("Tab")
        self.shot("unreached")
        sys.exit(f"{selector} is not reached by Tab")

    def drop(self, selector, *files):
        """Drops files from outside, as a person does."""
        x, y = self.js(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()")
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.ask("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def look(self, width=1280, height=900, scheme="light"):
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shot(self, name):
        if self.shots:
            picture = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
            Path(self.shots, f"{name}.png").write_bytes(base64.b64decode(picture))

    shots = None


NAMED = {"button", "textbox", "radio", "checkbox", "combobox", "link", "searchbox", "img", "progressbar"}
CONTRAST = """(() => {
  const number = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = number(getComputedStyle(e).backgroundColor); if (c.length && (c[3] ?? 1) > 0) return c; } return [255, 255, 255]; };
  let worst = [99, ''];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest('svg, :disabled, .unseen, .skip')) continue;
    const [a, b] = [light(number(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.textContent.slice(0, 40)];
  }
  return worst;
})()"""


def looked_at(browser, name):
    """The page as it is now: names of its controls, in both schemes, on a phone."""
    tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
    value = lambda node, key: (node.get(key) or {}).get("value") or ""
    nameless = [value(node, "role") for node in tree if not node.get("ignored") and value(node, "role") in NAMED and not value(node, "name")]
    assert not nameless, f"{name}: controls without a name: {nameless}"
    for scheme in ("light", "dark"):
        browser.look(scheme=scheme)
        time.sleep(0.15)
        ratio, text = browser.js(CONTRAST)
        assert ratio >= 4.5, f"{name}, {scheme}: `{text}` stands out {ratio:.2f}"
        browser.shot(f"{name}-{scheme}")
    browser.look(width=PHONE, height=780)
    time.sleep(0.15)
    width = browser.js("document.documentElement.scrollWidth")
    browser.shot(f"{name}-phone")
    assert width <= PHONE, f"{name}: {width} pixels wide on a phone"
    browser.look()


def first_paint(browser, url):
    """The best of some loads: the machine may be busy."""
    paints = []
    for _ in range(5):
        browser.open(url)
        paints.append(browser.js("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 9999"))
    return min(paints), browser.js("performance.getEntriesByType('navigation')[0].decodedBodySize")


def main():
    args = parser.parse_args()
    tool = str(Path(args.tool).resolve())
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        if args.model is None:
            (place / "models").mkdir()
            tiny_model(place / "models/tiny")
        else:
            (place / "models").mkdir()
            (place / "models" / Path(args.model).name).symlink_to(Path(args.model).resolve())
        media(place)
        rows = "".join(f'"{question}","{answer}"\n' for question, answer in ROWS)
        (place / "Our FAQ.csv").write_text(f"question,answer\n{rows}")
        (place / "gaps.csv").write_text("question,answer\nWhere?,\nWhen?,Now then.\nHow?,So.\n")
        (place / "fragen.csv").write_text("frage;antwort\nWo?;Hier.\nWann?;Jetzt.\n")
        command = [tool, "studio", "--port", "0", "--no-open"]
        studio = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        url = studio.stdout.readline().strip()
        browser = Browser(args.chromium, place / "profile")
        if args.shots:
            Path(args.shots).mkdir(parents=True, exist_ok=True)
            browser.shots = args.shots
        try:
            walk(browser, url, place, args)
        finally:
            browser.process.terminate()
            browser.process.wait()
            studio.terminate()
            code = studio.wait(timeout=120)
    assert code == 0, f"the studio ended with {code}"
    print("all is well")


def walk(browser, url, place, args):
    browser.look()
    paint, size = first_paint(browser, url)
    print(f"page: {size} bytes, first paint after {paint:.0f} ms")
    assert size <= MOST_BYTES and paint <= args.paint
    assert "token" not in browser.js("location.href"), "the address keeps the token"
    for name in PAGES:
        browser.js(f"location.hash = '#/{name}'")
        browser.until(f"the page {name}", f"document.querySelector('nav a[aria-current]')?.hash === '#/{name}' && !!document.querySelector('h1')")
        time.sleep(0.3)
        looked_at(browser, f"0-{name}")

    # New run, by keyboard but for the file, which is dropped.
    browser.open(browser.js("location.origin") + "/#/new")
    browser.until("a model", "document.querySelectorAll('input[name=model]').length > 1")
    browser.tab_to("input[name=model]")
    browser.key(" ")
    browser.drop(".drop", place / "fragen.csv")
    browser.until("a question about columns", "document.body.innerText.includes('Which column is which?')")
    browser.shot("1-columns")
    browser.js("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Read them so').click()")
    browser.until("its rows", "document.querySelector('.row mark')?.textContent.startsWith('Hier.')")
    browser.drop(".drop", place / "gaps.csv")
    browser.until("a row without an answer", "!!document.querySelector('#leave-out')")
    browser.shot("1-gaps")
    browser.js("document.querySelector('#leave-out').click()")
    browser.until("the rows that have one", "document.querySelector('.row mark')?.textContent.startsWith('Now then.') && document.querySelector('#recipe').value.includes('on_bad_row: skip')")
    browser.drop(".drop", place / "Our FAQ.csv")
    browser.until("the rows as the model sees them", f"document.querySelector('.row mark')?.textContent.startsWith({json.dumps(ROWS[0][1][:5])})")
    browser.until("the cost", "document.querySelector('.cost')?.innerText.includes('steps on')")
    browser.until("the time", "document.querySelector('.cost')?.innerText.includes('steps on') && !document.querySelector('.cost').innerText.includes('being measured')")
    for field, value in (("epochs", args.epochs), ("rate", "0.01")):
        browser.tab_to(f"#{field}")
        browser.js(f"document.querySelector('#{field}').select()")
        browser.type(value)
    browser.until("the recipe to follow", f"/num_train_epochs: {args.epochs}\\b/.test(document.querySelector('#recipe').value) && document.querySelector('#recipe').value.includes('learning_rate: 0.01')")
    browser.js("document.querySelector('details.all > summary').click()")
    browser.until("all settings", "document.querySelectorAll('.setting').length > 40")
    looked_at(browser, "2-new")
    browser.js("document.querySelector('details.all > summary').click()")
    recipe = browser.js("document.querySelector('#recipe').value")
    browser.js(f"(() => {{ const t = document.querySelector('#recipe'); t.value = t.value + 'trainign: {{}}\\n'; t.dispatchEvent(new Event('input')); }})()")
    browser.until("a problem with a suggestion", "document.body.innerText.includes('did you mean')")
    browser.shot("3-problem")
    browser.js(f"(() => {{ const t = document.querySelector('#recipe'); t.value = {json.dumps(recipe)}; t.dispatchEvent(new Event('input')); }})()")
    browser.until("no problem", "!document.body.innerText.includes('did you mean') && !document.querySelector('#start').disabled")
    browser.tab_to("#start")
    browser.key("Enter")

    # Runs.
    browser.until("the run's page", "location.hash.startsWith('#/runs/Our-FAQ')")
    browser.until("curves", "document.querySelectorAll('.plots svg').length >= 4", 120)
    browser.shot("4-running")
    browser.until("its end", "document.querySelector('.title .badge')?.textContent === 'done'", 600)
    looked_at(browser, "5-done")

    # Try it: loaded by itself, as was asked.
    browser.tab_to("#try")
    browser.key("Enter")
    browser.until("a loaded model", "document.querySelector('.say')?.hidden === false", 300)
    browser.js("document.querySelector('#likeliest').click()")
    browser.js("document.querySelector('#say').focus()")
    browser.type(ROWS[0][0])
    browser.key("Enter")
    browser.until("two answers", "document.querySelectorAll('.answer').length === 2 && !document.querySelector('.answer .cursor')", 300)
    answers = browser.js("Object.fromEntries([...document.querySelectorAll('.answer')].map((a) => [a.dataset.model, a.querySelector('p').textContent]))")
    print("answers:", json.dumps(answers))
    if args.model is None:
        assert answers["Our-FAQ"].strip() == ROWS[0][1], "it has learnt its rows"
    browser.until("buttons for ratings", "document.querySelectorAll('.answer .bar button').length >= 3")
    browser.tab_to(".answer[data-model=Our-FAQ] .bar button")
    browser.key("Enter")
    browser.until("a rating kept", "document.body.innerText.includes('(KTO)')")
    browser.js("[...document.querySelectorAll('button')].find((b) => b.textContent === 'the better one' && b.closest('[data-model=Our-FAQ]')).click()")
    browser.until("a pair kept", "document.body.innerText.includes('(DPO)')")
    looked_at(browser, "6-talk")
    browser.js("[...document.querySelectorAll('button')].find((b) => b.textContent.includes('(DPO)')).click()")
    browser.until("a recipe for preferences", "document.querySelector('#recipe')?.value.includes('task: dpo') && document.querySelector('#recipe').value.includes('init_from')")
    browser.until("pairs as the model sees them", "document.querySelectorAll('.row mark').length >= 2")
    browser.shot("7-preferences")
    browser.js("location.hash = '#/talk'")
    browser.until("ratings", "document.body.innerText.includes('(KTO)')")
    browser.js("[...document.querySelectorAll('button')].find((b) => b.textContent.includes('judge from good and bad')).click()")
    browser.until("a recipe for a reward model", "document.querySelector('#recipe')?.value.includes('task: reward') && document.querySelector('#recipe').value.includes('format: unpaired')")

    # A model that sees and hears, and what no model does.
    browser.js("location.hash = '#/talk'")
    browser.until("the model in the list", "[...document.querySelectorAll('#who option')].some((o) => o.textContent === 'models/with-eyes')")
    browser.js("(() => { const w = document.querySelector('#who'); w.value = [...w.options].find((o) => o.textContent === 'models/with-eyes').value; w.dispatchEvent(new Event('change')); document.querySelector('#load').click(); })()")
    browser.until("it to be loaded", "document.querySelector('.say')?.hidden === false && document.body.innerText.includes('Loaded: base.')", 300)
    browser.drop(".say", place / "fragen.csv")
    browser.until("a word about what it is not", "document.querySelector('.say').innerText.includes('fragen.csv') && document.querySelector('.say').innerText.includes('neither')")
    browser.drop(".say", place / "red.png", place / "tone.wav")
    browser.until("both of them", "document.querySelectorAll('.with span').length === 2")
    browser.js("document.querySelector('#say').focus()")
    browser.type("What is this?")
    browser.key("Enter")
    browser.until("the picture and the sound beside what was asked", "!!document.querySelector('.asked img')?.naturalWidth && !!document.querySelector('.asked audio')")
    browser.until("an answer", "document.querySelectorAll('.answer').length === 1 && !document.querySelector('.answer .cursor')", 300)
    assert not browser.js("document.querySelector('.answer .note.bad')?.innerText"), browser.js("document.querySelector('.answer').innerText")
    looked_at(browser, "7-media")

    # Ship it.
    browser.js("location.hash = '#/ship/Our-FAQ'")
    browser.until("ways to ship", "!!document.querySelector('#make-gguf') && document.querySelector('#of').value === 'Our-FAQ'")
    browser.tab_to("#make-gguf")
    browser.key("Enter")
    browser.until("a proof", "document.querySelector('.job[data-state=done] .note')?.textContent.startsWith('Proved') || !!document.querySelector('.job[data-state=failed]')", 300)
    looked_at(browser, "8-ship")
    assert browser.js("!document.querySelector('.job[data-state=failed]')"), browser.js("document.querySelector('.job').innerText")
    for task in ("merge", "lora", "ollama"):
        browser.tab_to(f"#make-{task}")
        browser.key("Enter")
        made = f".job[data-task={task}]"
        browser.until(f"{task} to be made", f"document.querySelector('{made}')?.matches('[data-state=done], [data-state=failed]')", 300)
        said = browser.js(f"document.querySelector('{made}').innerText")
        assert browser.js(f"document.querySelector('{made}[data-state=done] .note')?.textContent.startsWith('Proved')"), said
    looked_at(browser, "9-shipped")
    own = browser.js("location.origin")
    foreign = [url for url in browser.asked if not url.startswith((own, "data:", "blob:", "about:"))]
    assert not foreign, f"fetched from elsewhere: {foreign}"
    assert not browser.complaints, f"the console complains: {browser.complaints}"


if __name__ == "__main__":
    main()
