// Runs: what goes on, how it went, what it said; several in one plot.

pages.runs = (() => {
  let parts = null;
  let chosen = null;
  const compared = new Set();
  const kept = {}; // of each run: what has been read of its files
  const NAMES = { waiting: "waiting", running: "running", done: "done", failed: "failed", stopped: "stopped" };

  function open(main) {
    parts = { list: h("ul", { class: "list", "aria-label": "Runs" }), detail: h("div", { id: "detail" }), body: h("div", {}) };
    put(main, h("h1", {}, "Runs"), parts.body);
    parts.isEmpty = null;
    parts.seen = null;
  }
  function at([name]) {
    chosen = name || runsOf()[0]?.run || null;
    if (parts) parts.seen = null;
    update();
  }
  async function update() {
    if (!parts || page !== pages.runs) return;
    const runs = runsOf();
    const isEmpty = runs.length === 0;
    if (parts.isEmpty !== isEmpty) {
      parts.isEmpty = isEmpty;
      put(parts.body, isEmpty
        ? h("div", { class: "empty" }, h("h2", {}, "No runs yet"), h("p", {}, "A run teaches a model your rows. It shows its progress here."), h("div", { class: "bar" }, h("a", { class: "button", href: "#/new" }, "Start the first one")))
        : h("div", { class: "runs" }, h("div", {}, parts.list, h("p", { class: "block" }, h("small", {}, "Tick several to see them in one plot."))), parts.detail));
    }
    if (isEmpty) return;
    if (!runs.some((run) => run.run === chosen)) chosen = runs[0].run;
    await Promise.all(runs.filter((run) => run.run === chosen || compared.has(run.run) || isBusy(run) || !kept[run.run]).map(read));
    if (page !== pages.runs) return;
    listed(runs);
    const run = runs.find((one) => one.run === chosen);
    detail(run);
  }

  /** Reads on where it was read to. */
  async function read(run) {
    const mine = (kept[run.run] ??= { id: run.id, metrics: [], log: "", from: 0, logFrom: 0, summary: null });
    if (mine.id !== run.id || (mine.from > 0 && run.state === "running" && mine.started !== run.started)) Object.assign(mine, { id: run.id, metrics: [], log: "", from: 0, logFrom: 0, summary: null });
    mine.started = run.started;
    if (mine.reading) return;
    mine.reading = true;
    try {
      const name = encodeURIComponent(run.run);
      for (let more = true; more;) {
        const lines = await text(`/api/runs/${name}/metrics?from=${mine.from}`);
        mine.from += new TextEncoder().encode(lines).length;
        for (const line of lines.split("\n")) if (line) mine.metrics.push(JSON.parse(line));
        more = lines.length > 500000;
      }
      const log = await text(`/api/jobs/${run.id}/log?from=${mine.logFrom}`);
      mine.logFrom += new TextEncoder().encode(log).length;
      mine.log += log;
      if (run.memory_bytes) (mine.memory ??= []).push([mine.metrics.at(-1)?.step || 0, run.memory_bytes]);
      if (run.state === "done" && !mine.summary) mine.summary = JSON.parse((await text(`/api/runs/${name}/summary`)) || "null");
    } catch (error) { /* the next time */ } finally { mine.reading = false; }
  }
  /** What the files say, made ready: curves without steps that were taken again after a resumption. */
  function curves(mine) {
    const by = new Map(), tested = new Map();
    for (const line of mine.metrics) (line.eval_tokens !== undefined ? tested : by).set(line.step, line);
    const steps = [...by.values()].sort((a, b) => a.step - b.step);
    const of = (name) => steps.filter((line) => Number.isFinite(line[name])).map((line) => [line.step, line[name]]);
    // A run that learns from rewards says little with its loss.
    const what = steps.some((line) => Number.isFinite(line.reward)) ? "reward" : "loss";
    const evals = [...tested.values()].sort((a, b) => a.step - b.step).map((line) => [line.step, line[`eval_${what}`]]);
    return { steps, of, what, named: what === "loss" ? "Loss" : "Reward", evals: evals.filter(([, value]) => Number.isFinite(value)) };
  }
  const total = (mine) => Number((mine.log.match(/Plan: .*?= ([\d,]+) steps/) || mine.log.match(/step \d+\/([\d,]+)/) || [])[1]?.replace(/,/g, "")) || null;

  function listed(runs) {
    const focus = document.activeElement?.id;
    put(parts.list, runs.map((run) => {
      const { steps, what } = curves(kept[run.run] || { metrics: [] });
      const last = steps.at(-1);
      return h("li", {},
        h("input", { type: "checkbox", id: `cmp-${run.id}`, "aria-label": `Compare ${run.run}`, checked: compared.has(run.run), onchange: (event) => { if (event.target.checked) compared.add(run.run); else compared.delete(run.run); parts.seen = null; update(); } }),
        h("a", { href: `#/runs/${encodeURIComponent(run.run)}`, id: `run-${run.id}`, "aria-current": run.run === chosen ? "true" : null }, h("b", {}, run.run),
          h("small", {}, `${run.state === "done" ? ago(run.ended) : NAMES[run.state]}${last ? ` · ${what} ${shown(last[what])}` : ""}`)),
        h("span", { class: `badge ${run.state}` }, NAMES[run.state]));
    }));
    if (focus && $(focus) && document.activeElement !== $(focus)) $(focus).focus();
  }

  function detail(run) {
    const mine = kept[run.run];
    const key = JSON.stringify([run.run, run.state, run.stopping, mine.metrics.length, mine.log.length, !!mine.summary, [...compared], (mine.memory || []).length, studio.state.talk?.state]);
    if (parts.seen === key) return;
    // Nothing is redrawn under a pointer or a selection.
    if (parts.seen && parts.detail.querySelector("svg:hover") && run.state !== "running") return;
    parts.seen = key;
    const { steps, of, what, named, evals } = curves(mine);
    const last = steps.at(-1), all = total(mine);
    const log = h("pre", { class: "log", tabindex: "0", "aria-label": "What the run says" }, mine.log || "Nothing yet.");
    const wasOpen = parts.detail.querySelector("details.log")?.open;
    const focus = document.activeElement?.id;
    const smooth = (points) => (points.length > 60 ? smoothed(points) : points);
    const single = !compared.size || (compared.size === 1 && compared.has(run.run));
    const together = single ? [run] : runsOf().filter((one) => compared.has(one.run) || one.run === run.run).slice(0, 6);
    const lines = (pick, exact) => together.flatMap((one, colour) => {
      const points = pick(curves(kept[one.run] || { metrics: [] }), kept[one.run] || {});
      const line = { name: single ? null : one.run, colour };
      return points.length > 60 && !exact ? [{ ...line, raw: true, points }, { ...line, points: smoothed(points) }] : [{ ...line, points }];
    });
    const losses = single
      ? [...(of(what).length > 60 ? [{ points: of(what), colour: 0, raw: true }] : []), { name: "train", points: smooth(of(what)), colour: 0 }, { name: "held back", points: evals, colour: 1, dash: true }]
      : lines((c) => c.of(what));
    const estimate = run.estimated_bytes || mine.summary?.estimated_bytes;
    const memory = run.state === "done" && mine.summary ? null : mine.memory;
    const problems = run.state === "failed" ? problemsOf(mine.log).filter((one) => one.severity === "error") : [];
    put(parts.detail,
      h("div", { class: "title" }, h("h2", {}, run.run), h("span", { class: `badge ${run.state}` }, run.stopping ? "stopping, saving first" : NAMES[run.state]), h("small", {}, called(run.model)), judges(run) && h("small", {}, "judges answers")),
      h("div", { class: "bar" },
        isBusy(run) && h("button", { type: "button", id: "stop", disabled: run.stopping, onclick: () => act(run, "stop") }, "Stop"),
        ["stopped", "failed"].includes(run.state) && h("button", { type: "button", id: "resume", class: "main", onclick: () => act(run, "resume") }, "Go on"),
        run.has_adapter && !judges(run) && h("a", { class: "button", id: "try", href: `#/talk/${encodeURIComponent(run.run)}` }, "Try it"),
        run.has_adapter && h("a", { class: "button", href: `#/ship/${encodeURIComponent(run.run)}` }, "Ship it"),
        h("button", { type: "button", class: "quiet", onclick: async () => download(`${run.run}.yaml`, await text(`/api/jobs/${run.id}/recipe`)) }, "Recipe"),
        run.state !== "running" && h("button", { type: "button", class: "quiet", onclick: () => { if (confirm(`Remove the run ${run.run} and all that it left?`)) act(run, "remove"); } }, "Remove")),
      progress(run, last, what, all, mine),
      problems.map(problem),
      run.state === "failed" && !problems.length && h("p", { class: "note bad" }, h("b", {}, "It ended early. "), "What it said is below."),
      h("div", { class: "plots" },
        plot(named, losses, { wide: true }),
        !single && plot(`${named} on held-back rows`, lines((c) => (c.what === what ? c.evals : []), true)),
        plot("Learning rate", lines((c) => c.of("learning_rate"), true), { zero: true }),
        plot("Gradient norm", lines((c) => c.of("grad_norm"))),
        plot("Tokens a second", lines((c) => c.of("tokens_per_second")), { zero: true, unit: (value) => count(Math.round(value)) }),
        memory?.length > 0 && plot("Memory", [{ points: memory, colour: 0 }], { unit: bytes, zero: true, level: estimate ? { value: estimate, name: `estimated ${bytes(estimate)}` } : null })),
      mine.summary && summary(mine.summary),
      samples(mine.log),
      h("details", { class: "log block", open: wasOpen || run.state === "failed" }, h("summary", {}, "What it says"), log,
        h("p", {}, h("small", {}, "The same on a command line:")), run.commands.map((line) => h("code", { class: "command" }, line))));
    log.scrollTop = log.scrollHeight;
    if (focus && $(focus)) $(focus).focus();
  }
  function progress(run, last, what, all, mine) {
    const doneSteps = last?.step || 0;
    if (run.state === "done") return h("p", { class: "lead" }, `${many(doneSteps, "step")}${mine.summary ? ` in ${lasting(mine.summary.seconds)}` : ""}. The adapter is in `, h("code", {}, `${run.output}/adapter`));
    if (!last) return h("p", { class: "lead" }, run.state === "waiting" ? "It waits for the run before it." : run.state === "running" ? "Reading the rows and loading the model…" : "");
    const level = h("i", {});
    level.style.width = all ? `${(100 * doneSteps) / all}%` : "0";
    const pace = mine.log.match(/· ([^·\n]* left)\s*$/m);
    return [h("div", { class: "progress", role: "progressbar", "aria-label": "Progress", "aria-valuemin": "0", "aria-valuemax": String(all || 0), "aria-valuenow": String(doneSteps) }, level),
      h("p", { class: "soft num" }, h("small", {}, `step ${count(doneSteps)}${all ? ` of ${count(all)}` : ""} · ${what} ${shown(last[what])} · ${count(Math.round(last.tokens_per_second))} tokens a second${pace && run.state === "running" ? ` · ${[...mine.log.matchAll(/· ([^·\n]* left)\s*$/gm)].at(-1)[1]}` : ""}`))];
  }
  function summary(found) {
    const what = Number.isFinite(found.first_reward) ? "reward" : "loss";
    const facts = [[what === "loss" ? "Loss" : "Reward", `${shown(found[`first_${what}`])} → ${shown(found[`last_${what}`])}`], found.last_eval && ["on held-back rows", shown(found.last_eval[`eval_${what}`])],
      ["Peak memory", `${bytes(found.peak_device_bytes ?? found.peak_rss_bytes)}${found.estimated_bytes ? `, estimated ${bytes(found.estimated_bytes)}` : ""}`], ["Tokens", count(found.tokens)], ["Device", found.device], ["Seed", String(found.seed)]];
    return [h("dl", { class: "facts" }, facts.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      (found.warnings || []).map((warning) => problem({ severity: "warning", what: warning.replace(/^warning: /, "") }))];
  }
  /** What the model said to the held-back rows as it learnt. */
  function samples(log) {
    const found = [...log.matchAll(/^step (\d+): (?!eval loss|saved )([\s\S]*?)(?=^step \d+|^Trained |(?![\s\S]))/gm)].map(([, step, said]) => {
      const cut = said.lastIndexOf(" -> ");
      return cut < 0 ? null : { step: Number(step), asked: said.slice(0, cut), said: said.slice(cut + 4).trim() };
    }).filter(Boolean);
    if (!found.length) return null;
    const plain = (prompt) => prompt.replace(/<bos>|<end_of_turn>|<start_of_turn>(user|model)?\n?/g, "").trim();
    const groups = Map.groupBy ? Map.groupBy(found, (one) => one.asked) : found.reduce((map, one) => map.set(one.asked, [...(map.get(one.asked) || []), one]), new Map());
    return h("section", { class: "block" }, h("h2", {}, "Samples over time"), h("ul", { class: "samples" }, [...groups].map(([asked, all]) =>
      h("li", {}, h("p", {}, h("b", {}, plain(asked))), all.slice(-8).map((one) => h("p", {}, h("small", { class: "num" }, `step ${count(one.step)}  `), one.said || h("span", { class: "soft" }, "(nothing)")))))));
  }
  async function act(run, what) {
    try {
      await post(`/api/jobs/${run.id}/${what}`, {});
      if (what !== "stop") delete kept[run.run];
      if (what === "remove") compared.delete(run.run);
      await refresh();
      if (what === "remove") location.hash = "#/runs";
    } catch (error) {
      parts.detail.prepend(failed(error));
    }
  }
  return { open, at, update };
})();
