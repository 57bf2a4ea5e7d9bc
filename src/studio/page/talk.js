// Try it: one question, answered by the model as it was and by what it has learnt; what a person thinks of it becomes rows.

pages.talk = (() => {
  let parts = null;
  let wished = null;
  let turns = []; // {content, media, answers: {name: {text, done, error, rated}}}
  let with_ = [];
  let ending = null;
  let rated = { up: 0, down: 0, better: 0, files: {} };

  function open(main) {
    const p = parts = { key: null };
    p.who = h("select", { id: "who" });
    p.load = h("button", { type: "button", class: "main", id: "load", onclick: load }, "Load");
    p.likeliest = h("input", { type: "checkbox", id: "likeliest" });
    p.state = h("div", { class: "block" });
    p.turns = h("div", { class: "turns" });
    p.rated = h("div", {});
    p.with = h("div", { class: "with" });
    p.input = h("textarea", { id: "say", rows: "1", placeholder: "Ask something", "aria-label": "Your message" });
    p.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
      if (event.key === "Escape") ending?.abort();
    });
    p.file = h("input", { type: "file", accept: "image/*,audio/*", multiple: true, "aria-label": "Add pictures or sounds", onchange: () => { attach([...p.file.files]); p.file.value = ""; } });
    p.send = h("button", { class: "main", id: "send" }, "Send");
    p.form = h("form", { onsubmit: (event) => { event.preventDefault(); if (ending) ending.abort(); else send(); } }, p.input, h("span", { class: "button attach", title: "Add pictures or sounds; they can be dropped here too" }, "+ picture, sound", p.file), p.send);
    p.wrong = h("div", {});
    p.say = h("div", { class: "say" }, p.wrong, p.with, p.form);
    p.say.addEventListener("drop", (event) => attach([...event.dataTransfer.files]));
    p.body = h("div", { class: "talk" }, h("div", { class: "who" }, field("Talk to", p.who), p.load), h("label", { class: "check block", for: "likeliest" }, p.likeliest, "Always the likeliest words, the same each time"), p.state, p.turns, p.rated, p.say);
    put(main, h("h1", {}, "Try it"), h("p", { class: "lead" }, "The same question to the model as it was and as it is now. Rate the answers, and learn from the ratings."), p.body);
    draw();
  }
  function at([name]) {
    wished = name || wished;
    parts.key = null;
    update();
    const talk = studio.state.talk;
    if (name && (!talk || talk.run !== name || talk.state === "ended")) { parts.who.value = `run:${name}`; load(); }
  }
  function update() {
    if (!parts || page !== pages.talk) return;
    const runs = tuned().filter((run) => !judges(run)), talk = studio.state.talk;
    const key = JSON.stringify([runs.map((run) => run.run), talk && { ...talk, log: talk.log.length }, studio.models?.length, Object.keys(rated.files)]);
    if (parts.key === key) return;
    parts.key = key;
    const value = parts.who.value || (wished ? `run:${wished}` : talk?.run ? `run:${talk.run}` : "");
    put(parts.who, runs.length > 0 && h("optgroup", { label: "Your runs, beside their base" }, runs.map((run) => h("option", { value: `run:${run.run}` }, run.run))),
      studio.models?.length > 0 && h("optgroup", { label: "Models" }, studio.models.map((model) => h("option", { value: `model:${baseOf(model)}` }, model.name))));
    if ([...parts.who.options].some((option) => option.value === value)) parts.who.value = value;
    if (!studio.models) get("/api/models").then((said) => { studio.models = said.code === 0 ? JSON.parse(said.out) : []; update(); }).catch(() => {});
    const ready = talk?.state === "ready";
    parts.say.hidden = !ready;
    parts.load.disabled = !parts.who.options.length;
    parts.load.textContent = ready && parts.who.value === mineIs(talk) ? "Load again" : "Load";
    parts.who.onchange = () => { parts.key = null; update(); };
    put(parts.state, states(talk, runs));
    if (ready && document.activeElement === document.body) parts.input.focus({ preventScroll: true });
  }
  const mineIs = (talk) => (talk.run ? `run:${talk.run}` : `model:${talk.model}`);
  function states(talk, runs) {
    if (!talk) {
      return runs.length || studio.models?.length ? h("p", { class: "soft" }, "Choose whom to talk to, and load it.")
        : h("div", { class: "empty" }, h("h2", {}, "Nothing to talk to yet"), h("p", {}, "Train a model first, then talk to it here."), h("div", { class: "bar" }, h("a", { class: "button", href: "#/new" }, "New run")));
    }
    if (talk.state === "loading") return h("p", { class: "soft", role: "status" }, `Loading ${talk.run || called(talk.model)}… `, h("small", {}, talk.log.trim().split("\n").pop()));
    if (talk.state === "ended") {
      const problems = problemsOf(talk.log).filter((one) => one.severity === "error");
      return problems.length ? problems.map(problem) : h("p", { class: "soft" }, "The model is not loaded any more.");
    }
    return h("details", {}, h("summary", {}, h("small", {}, `Loaded: ${talk.names.join(" and ")}. Other programs can ask it too`)),
      h("dl", { class: "facts" }, [["Address", talk.url], ["Models", talk.names.join(", ")]].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, h("code", {}, value))))),
      h("div", { class: "bar" }, copier("Copy the API key", () => talk.key), h("button", { type: "button", class: "quiet", onclick: async () => { await post("/api/talk/end", {}); await refresh(); } }, "Unload it")),
      h("p", {}, h("small", {}, "The same on a command line:")), h("code", { class: "command" }, talk.command));
  }
  async function load() {
    const [kind, ...rest] = parts.who.value.split(":");
    const name = rest.join(":");
    if (!name) return;
    turns = []; rated = { up: 0, down: 0, better: 0, files: {} };
    draw();
    parts.load.disabled = true;
    put(parts.state, h("p", { class: "soft" }, `Loading ${kind === "run" ? name : called(name)}…`));
    try {
      studio.state.talk = await post("/api/talk", kind === "run" ? { run: name } : { model: name });
      parts.key = null;
      await refresh();
    } catch (error) {
      put(parts.state, failed(error));
    }
    parts.load.disabled = false;
  }

  // Pictures and sounds come along in the message itself.
  async function attach(files) {
    const others = files.filter((file) => !/^(image|audio)\//.test(file.type));
    put(parts.wrong, others.length > 0 && failed(new Error(`${others.map((file) => file.name).join(", ")}: pictures and sounds can be added, and this is neither`)));
    for (const file of files.filter((one) => !others.includes(one))) {
      const url = await new Promise((resolve) => { const reader = new FileReader(); reader.onload = () => resolve(reader.result); reader.readAsDataURL(file); });
      with_.push({ name: file.name, kind: file.type.split("/")[0], type: file.type, url });
    }
    drawWith();
  }
  function drawWith() {
    put(parts.with, with_.map((medium, number) => h("span", {}, medium.name, h("button", { type: "button", class: "quiet", "aria-label": `Leave out ${medium.name}`, onclick: () => { with_.splice(number, 1); drawWith(); } }, "×"))));
  }
  const part = (medium) => (medium.kind === "image" ? { type: "image_url", image_url: { url: medium.url } } : { type: "input_audio", input_audio: { data: medium.url.split(",")[1], format: medium.type === "audio/mpeg" ? "mp3" : medium.type.replace(/^audio\/(x-)?/, "") } });

  async function send() {
    const content = parts.input.value.trim();
    const { names } = studio.state.talk;
    if ((!content && !with_.length) || ending) return;
    const turn = { content, media: with_, answers: Object.fromEntries(names.map((name) => [name, { text: "", done: false }])) };
    turns.push(turn);
    with_ = [];
    parts.input.value = "";
    put(parts.wrong);
    drawWith();
    ending = new AbortController();
    parts.send.textContent = "Stop";
    draw();
    await Promise.all(names.map((name) => stream(name, turn)));
    ending = null;
    parts.send.textContent = "Send";
    draw();
    say(names.map((name) => `${name}: ${turn.answers[name].text}`).join(". "));
  }
  /** What was asked; a picture or sound may stand alone. */
  const askedIn = (turn) => (turn.media.length ? [...turn.media.map(part), ...(turn.content ? [{ type: "text", text: turn.content }] : [])] : turn.content);
  /** The conversation as one of them knows it: what it did not answer, it was not asked. */
  const told = (name, until) => turns.slice(0, until).flatMap((turn, number) => {
    const asked = { role: "user", content: askedIn(turn) };
    if (number === until - 1) return [asked];
    return turn.answers[name]?.text ? [asked, { role: "assistant", content: turn.answers[name].text }] : [];
  });
  async function stream(name, turn) {
    const answer = turn.answers[name];
    try {
      const response = await ask("/api/talk/chat", { model: name, messages: told(name, turns.length), stream: true, seed: turns.length, ...(parts.likeliest.checked ? { temperature: 0 } : {}) }, { signal: ending.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        rest += value;
        const lines = rest.split("\n");
        rest = lines.pop();
        for (const line of lines) {
          if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
          const event = JSON.parse(line.slice(6));
          if (event.error) throw new Error(event.error.message);
          answer.text += event.choices?.[0]?.delta?.content || "";
        }
        later(`draw-${name}`, 0, () => live(name, turn));
      }
    } catch (error) {
      if (dropped(error)) answer.stopped = true;
      else answer.error = error.message;
    }
    answer.done = true;
    live(name, turn);
  }
  function live(name, turn) {
    if (turn.answers[name].place) turn.answers[name].place.textContent = turn.answers[name].text;
  }

  function draw() {
    if (!parts) return;
    const names = studio.state.talk?.names || [];
    put(parts.turns, turns.map((turn, number) => h("article", {},
      h("div", { class: "asked" }, turn.media.map((medium) => (medium.kind === "image" ? h("img", { src: medium.url, alt: medium.name }) : h("audio", { src: medium.url, controls: true }))), turn.content),
      h("div", { class: "answers" }, Object.entries(turn.answers).map(([name, answer]) => {
        answer.place = h("p", { class: answer.done ? "" : "cursor" }, answer.text);
        const rateable = answer.done && answer.text && studio.state.talk?.run;
        const why = rateable && !isText() && h("small", {}, "Answers about pictures and sounds are not rated: rows of ratings are text.");
        return h("div", { class: "answer", "data-model": name }, h("h3", {}, name === "base" ? "as it was" : `${name}, as it is now`), answer.place,
          answer.error && failed(new Error(answer.error)), answer.stopped && h("small", {}, "stopped"),
          why, rateable && !why && h("div", { class: "bar" }, rate(turn, number, name, true, "Good"), rate(turn, number, name, false, "Bad"), names.length === 2 && Object.values(turn.answers).every((one) => one.done && one.text) && better(turn, number, name)));
      })))));
    drawRated();
    parts.turns.lastElementChild?.scrollIntoView({ block: "nearest" });
  }
  const prompt = (name, number) => told(name, number + 1).map((turn) => ({ role: turn.role, content: turn.content }));
  const said = (content) => [{ role: "assistant", content }];
  const isText = () => turns.every((one) => !one.media.length);
  function rate(turn, number, name, label, word) {
    const answer = turn.answers[name];
    return h("button", { type: "button", "aria-pressed": answer.rated === label ? "true" : "false", disabled: answer.rated !== undefined, "aria-label": `${word} answer of ${name}`, onclick: async () => {
      answer.rated = label;
      await keep({ prompt: prompt(name, number), completion: said(answer.text), label }, "unpaired");
      rated[label ? "up" : "down"] += 1;
      draw();
    } }, label ? "↑ good" : "↓ bad");
  }
  function better(turn, number, name) {
    const other = Object.keys(turn.answers).find((one) => one !== name);
    return h("button", { type: "button", "aria-pressed": turn.better === name ? "true" : "false", disabled: turn.better !== undefined || turn.answers[name].text === turn.answers[other].text, "aria-label": `The answer of ${name} is the better one`, onclick: async () => {
      turn.better = name;
      await keep({ prompt: prompt(name, number), chosen: said(turn.answers[name].text), rejected: said(turn.answers[other].text) }, "preference");
      rated.better += 1;
      draw();
    } }, "the better one");
  }
  async function keep(row, kind) {
    try {
      const { file } = await post("/api/ratings", { run: studio.state.talk.run, row });
      rated.files[kind] = file;
      await refresh();
      say("Kept");
    } catch (error) {
      parts.rated.prepend(failed(error));
    }
  }
  function drawRated() {
    const run = runsOf().find((one) => one.run === studio.state.talk?.run);
    // Of two of one name the later one has the rows of the other too.
    const all = studio.state.files.filter((file) => run && file.name.startsWith(`ratings of ${run.run} (`));
    const files = all.filter((file, number) => !all.slice(number + 1).some((later) => later.name === file.name));
    put(parts.rated, files.length > 0 && h("p", { class: "bar block" }, h("small", {}, "Ratings kept:"), files.map((file) => {
      const kind = file.name.includes("(unpaired)") ? ["good and bad", "KTO"] : ["better and worse", "DPO"];
      return [h("button", { type: "button", onclick: () => pages.new.take({ model: run.model, data: file.path, from: run.run }) }, `Learn from ${kind[0]} answers (${kind[1]})`),
        h("button", { type: "button", class: "quiet", onclick: () => pages.new.take({ model: run.model, data: file.path, from: "", task: "reward" }) }, `Learn to judge from ${kind[0]} answers (reward model)`)];
    })));
  }
  return { open, at, update };
})();
