// New run: a model, rows, a few settings and what they cost; the recipe beside them says the same.

pages.new = (() => {
  const TASKS = [["sft", "Answers: to say what the rows say"], ["dpo", "Preferences: which of two answers is better"], ["kto", "Ratings: which answers are good"], ["reward", "Judging: to tell good answers from bad ones"]];
  let made = { model: "", data: "", task: "sft", from: "", columns: null, format: null, skip: false, name: "", keys: null, text: "", then_talk: true, estimated: null };
  let parts = null;

  function open(main) {
    const p = parts = {};
    p.models = h("div", { class: "choices long", role: "radiogroup", "aria-label": "Model" });
    p.files = h("div", {});
    p.input = h("input", { type: "file", id: "file", multiple: true, onchange: () => { upload([...p.input.files]); p.input.value = ""; } });
    p.drop = h("label", { class: "drop", for: "file" }, p.input, h("strong", {}, "Drop a file here, or choose one"), h("br"),
      h("small", {}, "A spreadsheet as CSV with a question and an answer in each row will do; JSON lines, JSON, Parquet and plain text too."));
    for (const [kind, on] of [["dragover", true], ["dragleave", false], ["drop", false]]) p.drop.addEventListener(kind, () => p.drop.classList.toggle("over", on));
    p.drop.addEventListener("drop", (event) => upload([...event.dataTransfer.files]));
    p.seen = h("div", {});
    p.task = h("select", { id: "task", onchange: () => learn(p.task.value, null) }, TASKS.map(([value, name]) => h("option", { value }, name)));
    p.from = h("select", { id: "from", onchange: () => { made.from = p.from.value; draft(); } });
    p.name = h("input", { type: "text", id: "name", spellcheck: "false", autocomplete: "off", oninput: () => { made.named = true; made.name = slug(p.name.value); set("output.dir", dir()); } });
    const number = (id, path, whole) => {
      const input = h("input", { type: "text", id, inputmode: "decimal", autocomplete: "off" });
      input.addEventListener("input", () => {
        const typed = input.value.trim();
        const value = typed === "auto" ? "auto" : Number(typed);
        const fits = typed === "auto" || (typed !== "" && Number.isFinite(value) && value > 0 && (!whole || Number.isInteger(value)));
        input.setAttribute("aria-invalid", !fits);
        if (fits) set(path, value);
      });
      input.dataset.path = path;
      return input;
    };
    p.numbers = [number("epochs", "training.num_train_epochs"), number("rate", "training.learning_rate"), number("rank", "adapter.r", true), number("length", "data.max_length", true)];
    p.then = h("input", { type: "checkbox", id: "then", onchange: () => { made.then_talk = p.then.checked; } });
    p.cost = h("dl", { class: "cost", "aria-live": "polite", hidden: true });
    p.all = h("div", {});
    p.more = h("details", { class: "all" }, h("summary", {}, "All settings"), p.all);
    p.more.addEventListener("toggle", fillAll);
    p.wrong = h("div", {});
    p.start = h("button", { class: "main", type: "button", id: "start", onclick: start }, "Start training");
    p.text = h("textarea", { class: "code", id: "recipe", rows: "18", spellcheck: "false", autocomplete: "off", oninput: byHand, "aria-describedby": "recipe-help" });
    p.command = h("code", { class: "command", id: "command" });
    p.rest = h("div", { hidden: true },
      h("section", { class: "step" }, h("h2", {}, h("span", { class: "no" }, "3"), "Settings"),
        h("p", { class: "soft" }, "They suit your rows and this machine. Leave them as they are for a first try."), h("br"),
        h("div", { class: "grid" },
          field("Name", p.name, "of the run"), field("Epochs", p.numbers[0], "how often each row is seen"), field("Learning rate", p.numbers[1], "how large the steps are"),
          field("Rank", p.numbers[2], "how much can be learnt"), field("Longest row", p.numbers[3], "in tokens; the rest is cut off")),
        p.cost,
        p.thenToo = h("label", { class: "check", for: "then" }, p.then, "Open a chat with the result when it is done"),
        h("br"), p.more),
      p.wrong, h("div", { class: "bar" }, p.start));
    put(main, h("h1", {}, "New run"), h("p", { class: "lead" }, "Teach a model your own answers. Choose what to start from, drop in your rows, and start."),
      h("div", { class: "two" },
        h("div", {},
          h("section", { class: "step" }, h("h2", {}, h("span", { class: "no" }, "1"), "Model"), p.models),
          h("section", { class: "step" }, h("h2", {}, h("span", { class: "no" }, "2"), "Rows"), p.drop, p.files,
            h("details", { class: "what" }, h("summary", {}, h("small", {}, "What is learnt")), h("div", { class: "grid" }, field("From these rows", p.task), field("Go on from", p.from, "a run of yours, or the model as it is"))),
            p.seen),
          p.rest),
        h("aside", { "aria-label": "Recipe" }, h("div", { class: "paper" },
          h("div", { class: "bar" }, h("h2", {}, "Recipe"), h("span", {}, h("button", { type: "button", class: "quiet", onclick: () => download(`${made.name || "recipe"}.yaml`, made.text) }, "Download"), copier("Copy", () => made.text))),
          p.text, h("p", { id: "recipe-help" }, h("small", {}, "Page and command line are the same thing: this file is what is run. You may edit it here.")), h("br"), p.command))));
    p.then.checked = made.then_talk;
    p.task.value = made.task;
    loadModels();
    update();
    show();
    if (made.text) look();
  }

  // 1: models.
  async function loadModels() {
    if (!studio.models) {
      put(parts.models, h("p", { class: "choice soft" }, "Looking for models on this machine…"));
      const said = await get("/api/models");
      studio.models = said.code === 0 ? JSON.parse(said.out) : [];
    }
    const SOURCES = { folder: "folder", gguf: "GGUF file", hub: "from the Hub", ollama: "Ollama" };
    const typed = h("input", { type: "text", id: "typed", placeholder: "google/gemma-3-1b-it", "aria-label": "A model of the Hub, or a path", spellcheck: "false", autocomplete: "off" });
    const other = h("input", { type: "radio", name: "model", value: "", "aria-label": "Another model" });
    const take = () => { other.checked = true; choose(typed.value.trim()); };
    typed.addEventListener("focus", () => { other.checked = true; });
    typed.addEventListener("input", () => later("typed", 900, take));
    typed.addEventListener("change", take);
    other.addEventListener("change", () => typed.focus());
    const known = studio.models.map((model) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "model", value: model.name, checked: baseOf(model) === made.model, onchange: () => choose(baseOf(model)) }),
      h("span", { class: "name" }, model.name), h("span", { class: "also" }, `${SOURCES[model.source]} · ${bytes(model.bytes)}`)));
    if (made.model && !studio.models.some((model) => baseOf(model) === made.model)) { typed.value = made.model; other.checked = true; }
    put(parts.models, known, h("div", { class: "choice" }, other, typed, h("span", { class: "also" }, "from the Hub, or a path")));
  }
  function choose(model) {
    if (model === made.model) return;
    made.model = model;
    made.from = "";
    draft();
  }

  // 2: rows.
  async function upload(files) {
    for (const file of files) {
      if (file.size > studio.state.max_upload_bytes) {
        put(parts.seen, failed(new Error(`${file.name} has ${bytes(file.size)}, and files of at most ${bytes(studio.state.max_upload_bytes)} are taken; \`gemma-tune studio --max-upload-bytes\` takes more`)));
        continue;
      }
      say(`${file.name} is being taken`);
      put(parts.seen, h("p", { class: "soft" }, `Taking ${file.name}…`));
      try {
        const taken = await post(`/api/files?name=${encodeURIComponent(file.name)}`, file, { raw: true });
        await refresh();
        chooseData(taken.path);
      } catch (error) {
        put(parts.seen, failed(error));
      }
    }
  }
  function chooseData(path, task) {
    made.data = path;
    made.columns = null;
    made.skip = false;
    const file = studio.state.files.find((known) => known.path === path);
    const kind = ratingsOf(file?.name);
    made.task = task || (kind ? (kind === "unpaired" ? "kto" : "dpo") : "sft");
    made.format = formatFor(made.task, kind);
    if (parts) parts.task.value = made.task;
    if (!made.named) made.name = freeName((file?.name || path).replace(/\.[^.]*$/, ""));
    listFiles();
    draft();
  }
  const ratingsOf = (name) => name?.match(/^ratings of .+ \((unpaired|preference)\)\.jsonl$/)?.[1] || null;
  /** Whoever judges learns from pairs, unless it is told that answers are judged one by one. */
  const formatFor = (task, kind) => (task === "reward" && kind === "unpaired" ? kind : null);
  /** Other things are learnt from the same rows. */
  function learn(task, format) {
    made.task = parts.task.value = task;
    made.format = format || formatFor(task, ratingsOf(studio.state.files.find((file) => file.path === made.data)?.name));
    draft();
  }
  function listFiles() {
    const { files } = studio.state;
    parts.filesShown = JSON.stringify([files, made.data]);
    if (!files.length) return put(parts.files);
    put(parts.files, h("div", { class: "choices long", role: "radiogroup", "aria-label": "Rows" }, [...files].reverse().map((file) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "data", checked: file.path === made.data, onchange: () => chooseData(file.path) }),
      h("span", { class: "name" }, file.name || file.file), h("span", { class: "also" }, bytes(file.bytes)),
      h("button", { type: "button", class: "quiet", "aria-label": `Remove ${file.name}`, onclick: async (event) => {
        event.preventDefault();
        if (!confirm(`Remove ${file.name} from the studio?`)) return;
        try {
          await post("/api/files/remove", { name: file.file });
        } catch (error) {
          return put(parts.seen, failed(error));
        }
        if (made.data === file.path) { made.data = ""; made.keys = null; made.text = ""; }
        await refresh();
        listFiles();
        show();
      } }, "Remove")))));
  }

  // What suits model and rows.
  async function draft() {
    show();
    if (!made.model || !made.data) return;
    put(parts.seen, h("p", { class: "soft" }, "Reading the rows…"));
    made.name ||= freeName("run");
    try {
      const said = await post("/api/draft", { model: made.model, data: made.data, name: made.name, task: made.task === "sft" ? null : made.task, from: made.from || null, columns: made.columns, format: made.format, on_bad_row: made.skip ? "skip" : null }, { key: "draft" });
      if (said.code !== 0) {
        made.keys = null; made.text = "";
        show();
        return put(parts.seen, rowsWrong(said.err));
      }
      made.keys = said.keys;
      made.model = at(made.keys, "model.base") || made.model;
      if (!made.keys.evaluation?.samples && made.keys.data?.eval_fraction) made.keys = changed(made.keys, "evaluation.samples", 2);
      made.text = yaml(made.keys);
      show();
      look();
    } catch (error) {
      if (!dropped(error)) put(parts.seen, failed(error));
    }
  }
  /** What is wrong with the rows, and what can be done about it here. */
  function rowsWrong(talk) {
    const problems = problemsOf(talk);
    const hints = problems.map((one) => `${one.what} ${one.hint || ""}`).join(" ");
    // `reward` reads pairs, and answers that are judged one by one where it is told so.
    const format = /`data\.format: unpaired`|task: kto/.test(hints) ? "unpaired" : null;
    const isMeant = (task) => hints.includes(`task: ${task}`) || (task === "reward" && (format || /task: dpo|`reward`/.test(hints)));
    const others = TASKS.filter(([task]) => isMeant(task) && (task !== made.task || (task === "reward" && format && format !== made.format)));
    const columns = /columns fit no format/.test(hints) && hints.match(/columns found: ((?:`[^`]*`(?:, )?)+)/);
    const acts = others.map(([task, words]) =>
      h("button", { type: "button", "data-learn": task, onclick: () => learn(task, task === "reward" ? format : null) }, `Learn ${words.split(":")[0].toLowerCase()} from them`));
    const leave = leaveOut(hints, () => { made.skip = true; draft(); });
    const act = (acts.length > 0 || leave) && h("div", { class: "bar block" }, acts, leave);
    if (!columns) return [problems.map(problem), act];
    const names = [...columns[1].matchAll(/`([^`]*)`/g)].map((found) => found[1]);
    const pick = (chosen) => h("select", {}, names.map((name, number) => h("option", { value: name, selected: number === chosen }, name)));
    const [question, answer] = [pick(0), pick(Math.min(1, names.length - 1))];
    return [h("p", { class: "note warn" }, h("b", {}, "Which column is which? "), "Their names do not say what they hold."), h("br"),
      h("div", { class: "grid" }, field("Questions are in", question), field("Answers are in", answer)), h("br"),
      h("button", { type: "button", onclick: () => { made.columns = question.value === answer.value ? { text: answer.value } : { prompt: question.value, completion: answer.value }; draft(); } }, "Read them so")];
  }

  /** For rows that cannot be used, where others can. */
  const leaveOut = (hints, act) => (/leaves? such rows out/.test(hints) ? h("button", { type: "button", id: "leave-out", onclick: act }, "Leave such rows out") : null);

  // 3: settings.
  const dir = () => studio.state.runs_dir.replace(/\/?$/, "/") + made.name;
  function set(path, value) {
    if (!made.keys) return;
    made.keys = changed(made.keys, path, value);
    made.text = yaml(made.keys);
    show();
    later("look", 350, look);
  }
  function byHand() {
    made.text = parts.text.value;
    later("look", 500, async () => {
      try {
        const said = await post("/api/recipe/show", { recipe: made.text }, { key: "show" });
        if (said.code === 0) {
          made.keys = JSON.parse(said.out);
          made.model = made.keys.model?.base || made.model;
          made.name = at(made.keys, "output.dir")?.split("/").pop() || made.name;
          made.task = made.keys.task || "sft";
          show(true);
        }
      } catch (error) {
        if (dropped(error)) return;
      }
      look();
    });
  }
  function show(keepText) {
    if (!parts) return;
    const p = parts;
    p.rest.hidden = !made.keys;
    const plain = { "training.num_train_epochs": 1, "training.learning_rate": 2e-4, "adapter.r": 16, "data.max_length": 2048 };
    for (const input of p.numbers) if (document.activeElement !== input && made.keys) {
      input.value = String(at(made.keys, input.dataset.path) ?? plain[input.dataset.path]);
      input.setAttribute("aria-invalid", false);
    }
    p.thenToo.hidden = made.task === "reward"; // it says nothing
    if (document.activeElement !== p.name) p.name.value = made.name;
    if (!keepText && document.activeElement !== p.text) p.text.value = made.text;
    p.text.placeholder = "Choose a model and rows, and the recipe is written here.";
    put(p.command, made.text ? `gemma-tune train ${made.name}.yaml` : "gemma-tune train recipe.yaml");
    const of = runsOf().filter((run) => run.has_adapter && run.model === made.model && judges(run) === (made.task === "reward"));
    put(p.from, h("option", { value: "" }, "the model as it is"), of.map((run) => h("option", { value: run.run }, run.run)));
    if (![...p.from.options].some((option) => option.value === made.from)) made.from = "";
    p.from.value = made.from;
    if (!made.keys) { p.cost.hidden = true; put(p.wrong); }
    fillAll();
  }
  async function fillAll() {
    if (!parts?.more.open || !made.keys) return;
    if (parts.all.contains(document.activeElement) && document.activeElement.matches("input, select")) return;
    if (!studio.schema) studio.schema = JSON.parse((await get("/api/schema")).out);
    put(parts.all, allSettings(studio.schema, made.keys, (path, value) => { set(path, value); }));
  }

  // What all this means: problems, rows as the model sees them, memory and time.
  async function look() {
    if (!made.text || !parts) return;
    const recipe = made.text;
    const question = (what, more) => post(`/api/recipe/${what}`, { recipe, ...more }, { key: what }).catch((error) => { if (dropped(error)) throw error; return { code: 1, out: "", err: `error: ${error.message}` }; });
    try {
      asked.time?.abort();
      const [check, preview] = await Promise.all([question("check"), question("preview", { rows: 6 })]);
      if (recipe !== made.text) return;
      showChecked(check, preview);
      const [plan, memory] = await Promise.all([question("plan"), question("memory")]);
      if (recipe !== made.text) return;
      const found = { plan: read(plan), memory: read(memory), talk: plan.err };
      made.estimated = found.plan?.plan.memory_bytes || found.memory?.memory_bytes || null;
      showCost(found, null);
      later("time", 900, async () => {
        try {
          const time = read(await question("time"));
          if (recipe === made.text) showCost(found, time);
        } catch (error) { /* another question took its place */ }
      });
    } catch (error) {
      if (!dropped(error)) throw error;
    }
  }
  const read = (said) => (said.code === 0 ? JSON.parse(said.out) : null);
  function showChecked(check, preview) {
    let problems = [];
    try { problems = JSON.parse(check.out); } catch { problems = problemsOf(check.err); }
    const errors = problems.filter((one) => one.severity !== "warning");
    const inRows = (one) => one.row !== null && one.row !== undefined || /\.(jsonl?|csv|tsv|parquet|txt|md|arrow)/.test(one.place || "");
    put(parts.wrong, problems.filter((one) => !inRows(one)).map(problem));
    parts.start.disabled = errors.length > 0;
    const rows = preview.code === 0 ? preview.out.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line)) : [];
    const told = preview.code === 0 ? [] : problemsOf(preview.err).filter((one) => !errors.some((known) => known.what === one.what));
    const hints = errors.map((one) => one.hint || "").join(" ");
    const skip = () => { set("data.on_bad_row", "skip"); if (/on_long/.test(hints)) set("data.on_long", "skip"); };
    put(parts.seen, problems.filter(inRows).map(problem), leaveOut(hints, skip), errors.length ? [] : told.map(problem), rows.length ? [
      h("dl", { class: "facts", id: "facts" }, h("div", {}, h("dt", {}, "Read as"), h("dd", {}, rows[0].format))),
      h("p", { class: "key" }, h("small", {}, "Rows as the model sees them. ", h("mark", {}, "What is coloured"), " is learnt; the rest is what it is asked.")), h("br"),
      h("ol", { class: "rows" }, rows.map((row) => h("li", {}, h("small", {}, row.origins.map((origin) => origin.replace(/^.*\//, "")).join(" + "), ` · ${many(row.input_ids.length, "token")}`),
        h("div", { class: "row", tabindex: "0" }, row.pieces.map((piece) => (piece.supervised ? h("mark", {}, piece.text) : h("span", {}, piece.text.split(/(<[a-z_]+>)/).map((part, number) => (number % 2 ? h("span", { class: "control" }, part) : part))))))))),
    ] : []);
    say(rows.length ? `${many(rows.length, "row")} shown, read as ${rows[0].format}` : "");
  }
  function showCost({ plan, memory, talk }, time) {
    const p = parts;
    p.cost.hidden = !plan && !memory;
    const need = plan?.plan.memory_bytes || memory?.memory_bytes;
    const free = memory?.available_bytes;
    const over = free && need > free;
    const steps = plan?.plan.total_steps;
    const seconds = time?.tokens_per_second && steps ? (steps * plan.plan.tokens_per_step) / time.tokens_per_second : null;
    const facts = parts.seen.querySelector("#facts");
    if (facts && plan) facts.replaceChildren(facts.firstChild, ...[["Rows", count(plan.plan.rows)], ["Tokens", count(plan.plan.tokens)], ["learnt", count(plan.plan.supervised_tokens)],
      ...plan.plan.left_out.map((left) => ["left out", typeof left === "string" ? left : JSON.stringify(left)])].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    const level = h("i", {});
    level.style.width = free ? `${Math.min(100, (need / free) * 100)}%` : "0";
    put(p.cost,
      need && h("div", {}, h("dt", {}, "Memory"), h("dd", {}, `about ${bytes(need)}${free ? ` of ${bytes(free)} that are free` : ""}`, free && h("div", { class: `meter ${over ? "over" : ""}` }, level),
        over && memory?.suggestions?.length > 0 && h("div", { class: "note warn block" }, h("b", {}, "More than is free. "), "These would need less:", memory.suggestions.slice(0, 3).map((one) =>
          h("div", {}, h("button", { type: "button", class: "quiet", onclick: () => one.set.forEach((text) => { const [path, value] = text.split(/=(.*)/s); set(path, readValue(value, new Set(["number", "string", "boolean"])).value); }) }, `${one.set.join(", ")}: ${bytes(one.memory_bytes)}`)))))),
      h("div", {}, h("dt", {}, "Time"), h("dd", {}, seconds !== null ? seconds < 1 ? lasting(seconds) : `about ${lasting(seconds)}` : time === null ? "being measured…" : "not measured", steps ? h("small", {}, ` for ${many(steps, "step")} on ${plan.plan.device}`) : null)),
      problemsOf(talk || "").filter((one) => one.severity === "warning").map(problem));
  }

  async function start() {
    parts.start.disabled = true;
    try {
      await post("/api/train", { recipe: made.text, estimated_bytes: made.estimated, then_talk: made.then_talk && made.task !== "reward" });
      const name = made.name;
      made = { ...made, named: false, name: "", keys: null, text: "", data: "" };
      await refresh();
      location.hash = `#/runs/${encodeURIComponent(name)}`;
    } catch (error) {
      put(parts.wrong, failed(error));
      parts.start.disabled = false;
    }
  }

  function update() {
    if (!parts || page !== pages.new) return;
    if (parts.filesShown !== JSON.stringify([studio.state.files, made.data])) listFiles();
  }
  /** From other pages: rows that were rated, learnt by the run that was rated. */
  function take({ model, data, from, task }) {
    made = { ...made, model, from, task: task || made.task, named: false, keys: null, text: "" };
    location.hash = "#/new";
    later("take", 60, () => { chooseData(data, task); loadModels(); });
  }
  return { open: (main) => { parts = null; open(main); }, update, take };
})();
