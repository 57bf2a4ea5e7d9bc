// Ship it: what others can use, each with the proof that it says the same.

pages.ship = (() => {
  let parts = null;
  let run = null;
  const kept = {};
  const QUANTS = [["Q4_K_M", "small, the usual choice"], ["Q5_K_M", "a little larger"], ["Q6_K", "larger"], ["Q8_0", "nearly exact"], ["BF16", "exact, large"]];
  const NAMES = { merge: "Merged folder", gguf: "GGUF file", lora: "Adapter as GGUF", ollama: "Folder for Ollama", push: "Upload to the Hub" };

  function open(main) {
    const p = parts = { key: null };
    p.run = h("select", { id: "of", onchange: () => { run = p.run.value; offer(); } });
    p.wrong = h("div", {});
    p.jobs = h("div", {});
    const quant = () => h("select", {}, QUANTS.map(([value, word]) => h("option", { value }, `${value}: ${word}`)));
    const [one, two] = [quant(), quant()];
    const way = (title, text, task, button, ...inputs) => h("section", { class: "way", "data-task": task }, h("h2", {}, title), h("p", {}, text), inputs, h("div", {}, h("button", { type: "button", id: `make-${task}`, onclick: () => wish(task) }, button)));
    const repo = h("input", { type: "text", placeholder: "your-name/support", autocomplete: "off", spellcheck: "false" });
    const token = h("input", { type: "password", placeholder: "hf_…, if the machine has none", autocomplete: "off" });
    const isPrivate = h("input", { type: "checkbox", id: "private", checked: true });
    const replace = h("input", { type: "checkbox", id: "replace" });
    p.more = { gguf: () => ({ quant: one.value }), ollama: () => ({ quant: two.value }), push: () => ({ repo: repo.value.trim(), private: isPrivate.checked, replace: replace.checked, token: token.value || null }) };
    p.pushed = () => { token.value = ""; };
    p.all = h("div", {}, h("div", { class: "who block" }, field("Run", p.run)), p.wrong,
      h("div", { class: "ways" },
        way("One model", "Base and adapter in one folder, for transformers, vLLM and whatever reads Hugging Face folders.", "merge", "Merge"),
        way("GGUF", "One file for llama.cpp, LM Studio and others of their kind.", "gguf", "Write the file", field("How exact", one)),
        way("Ollama", "A folder that Ollama takes: its model, its template, its settings.", "ollama", "Write the folder", field("How exact", two)),
        way("The adapter alone", "A small GGUF file that llama.cpp applies beside its base.", "lora", "Write the file"),
        way("The Hub", "The adapter with a card, on huggingface.co. The token is used once and kept nowhere.", "push", "Upload", field("Repository", repo), field("Token", token),
          h("label", { class: "check", for: "private" }, isPrivate, "Private"), h("label", { class: "check", for: "replace" }, replace, "Replace what is there"))),
      p.jobs);
    p.body = h("div", {});
    put(main, h("h1", {}, "Ship it"), h("p", { class: "lead" }, "Take what was learnt elsewhere. Each file is read again and compared with base and adapter, word by word."), p.body);
  }
  function at([name]) {
    run = name || run;
    parts.key = null;
    update();
  }
  /** What judges answers is a file for no program that writes some. */
  function offer() {
    const one = runsOf().find((other) => other.run === parts.run.value);
    for (const way of parts.all.querySelectorAll(".way")) way.hidden = !!one && judges(one) && !["merge", "push"].includes(way.dataset.task);
  }
  async function wish(task) {
    put(parts.wrong);
    try {
      await post("/api/ship", { task, run: parts.run.value, ...parts.more[task]?.() });
      if (task === "push") parts.pushed();
      await refresh();
    } catch (error) {
      put(parts.wrong, failed(error));
    }
  }
  async function act(job, what) {
    try {
      await post(`/api/jobs/${job.id}/${what}`, {});
    } catch (error) {
      put(parts.wrong, failed(error));
    }
    await refresh();
  }
  async function update() {
    if (!parts || page !== pages.ship) return;
    const runs = tuned();
    const jobs = studio.state.jobs.filter((job) => job.task !== "train").sort((a, b) => b.id - a.id);
    await Promise.all(jobs.map(read));
    const key = JSON.stringify([runs.map((one) => one.run), jobs.map((job) => [job.id, job.state, job.at, kept[job.id].log.length])]);
    if (parts.key === key || page !== pages.ship) return;
    parts.key = key;
    if (!runs.length && !jobs.length) {
      return put(parts.body, h("div", { class: "empty" }, h("h2", {}, "Nothing to ship yet"), h("p", {}, "A run that is done can be taken elsewhere from here."), h("div", { class: "bar" }, h("a", { class: "button", href: "#/new" }, "New run"))));
    }
    if (parts.all.parentNode !== parts.body) put(parts.body, parts.all);
    const value = run || parts.run.value;
    put(parts.run, runs.map((one) => h("option", { value: one.run }, one.run)));
    if (runs.some((one) => one.run === value)) parts.run.value = value;
    offer();
    put(parts.jobs, jobs.length > 0 && h("h2", {}, "Made so far"), jobs.map(job));
  }
  async function read(job) {
    const mine = (kept[job.id] ??= { log: "", from: 0, out: {} });
    if (mine.ended === job.ended && mine.state === job.state && !isBusy(job)) return;
    try {
      const more = await text(`/api/jobs/${job.id}/log?from=${mine.from}`);
      mine.from += new TextEncoder().encode(more).length;
      mine.log += more;
      for (let step = 0; step < job.steps.length; step += 1) {
        const out = await text(`/api/jobs/${job.id}/out/${step}`);
        try { mine.out[step] = JSON.parse(out); } catch { /* not yet */ }
      }
      mine.ended = job.ended;
      mine.state = job.state;
    } catch { /* the next time */ }
  }
  function job(job) {
    const mine = kept[job.id];
    const proof = job.steps.length > 1 ? mine.out[1] : null;
    const made = mine.out[0];
    const problems = job.state === "failed" ? problemsOf(mine.log).filter((one) => one.severity === "error") : [];
    const last = mine.log.trim().split("\n").pop();
    return h("article", { class: "job", "data-task": job.task, "data-state": job.state },
      h("div", { class: "bar" }, h("h3", {}, `${NAMES[job.task]} of ${job.run}`), h("span", { class: `badge ${job.state}` }, job.state === "running" ? (job.at ? "being proved" : "being made") : job.state),
        isBusy(job) ? h("button", { type: "button", class: "quiet", onclick: () => act(job, "stop") }, "Stop") : h("button", { type: "button", class: "quiet", onclick: () => act(job, "remove") }, "Forget")),
      job.state === "running" && h("small", { role: "status" }, last),
      made && job.task !== "push" && h("p", { class: "path" }, job.output, made.bytes ? h("small", {}, ` ${bytes(made.bytes)}`) : null),
      made?.url && h("p", {}, h("a", { href: made.url, target: "_blank", rel: "noreferrer" }, made.url)),
      proof && proved(proof),
      problems.map(problem),
      job.task === "ollama" && made && h("code", { class: "command" }, `ollama create ${job.run} -f ${job.output}/Modelfile`),
      h("details", {}, h("summary", {}, h("small", {}, "The same on a command line")), job.commands.map((line) => h("code", { class: "command" }, line)), mine.log && h("pre", { class: "log" }, mine.log)));
  }
  /** What `verify` found. */
  function proved(report) {
    const good = !report.problems?.length;
    return [h("p", { class: "note" }, h("b", {}, good ? "Proved. " : "Not proved. "), `Compared at ${many(report.tokens, "token")} of ${many(report.rows, "row")} of ${report.rows_from}.`),
      h("div", { class: "scroll" }, h("table", {}, h("tr", {}, ["", "mean difference (KL)", "largest", "same next word", "limit"].map((head) => h("th", { scope: "col" }, head))),
        (report.compared || []).map((line) => h("tr", {}, h("td", {}, [line.what, line.stored].filter(Boolean).join(" ")), h("td", {}, shown(line.mean_kl)), h("td", {}, shown(line.max_kl)), h("td", {}, `${trim(100 * line.top_1, 4)} %`), h("td", {}, line.limit ? shown(line.limit) : "what the adapter does")))))];
  }
  return { open, at, update };
})();
