// What all pages use: elements, questions to the studio, numbers for people, what went wrong.

/** An element: `h("p", {class: "lead"}, "text", child)`. Text is always text, never markup. */
function h(tag, props, ...children) {
  const svg = ["svg", "path", "line", "text", "circle", "rect", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else if (name === "checked") element.checked = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}
const put = (element, ...children) => element.replaceChildren(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
const $ = (id) => document.getElementById(id);
let ids = 0;
const fresh = () => `f${++ids}`;

/** A labelled input with a word of help. */
function field(label, input, help) {
  if (!input.id) input.id = fresh();
  const small = help ? h("small", { id: `${input.id}-help` }, help) : null;
  if (small) input.setAttribute("aria-describedby", small.id);
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, small);
}

const say = (text) => { $("said").textContent = text; };

// Questions to the studio. A question with a key takes the place of the one before with that key.
const asked = {};
async function ask(path, body, { key, raw, signal } = {}) {
  let ender = null;
  if (key) {
    asked[key]?.abort();
    ender = asked[key] = new AbortController();
  }
  const options = { signal: signal || ender?.signal };
  if (body !== undefined) Object.assign(options, { method: "POST", body: raw ? body : JSON.stringify(body) });
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    away("The studio does not answer. Is `gemma-tune studio` still running?");
    throw error;
  }
  if (response.status === 401) away("Open the address that `gemma-tune studio` printed: it ends with ?token=..");
  else away("");
  if (!response.ok) {
    const said = await response.json().catch(() => null);
    throw new Error(said?.error?.message || `${response.status} ${response.statusText}`);
  }
  return response;
}
const get = async (path) => (await ask(path)).json();
const text = async (path) => (await ask(path)).text();
const post = async (path, body, more) => (await ask(path, body, more)).json();
const dropped = (error) => error.name === "AbortError";

function away(what) {
  $("away").textContent = what;
  $("away").hidden = !what;
}

// Numbers for people.
const trim = (number, digits) => String(Number(number.toPrecision(digits)));
function bytes(count) {
  if (count === null || count === undefined) return "unknown";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 1000 && unit < 4) { count /= 1000; unit += 1; }
  return `${trim(count, 3)} ${units[unit]}`;
}
const count = (number) => Number(number).toLocaleString("en-GB");
const many = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
function lasting(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return many(Math.round(seconds), "second");
  if (seconds < 5400) return many(Math.round(seconds / 60), "minute");
  if (seconds < 172800) return `${trim(seconds / 3600, 2)} hours`;
  return many(Math.round(seconds / 86400), "day");
}
function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  return past < 60 ? "just now" : `${lasting(past)} ago`;
}
function shown(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "–";
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return number.toExponential(2).replace("e+", "e");
  return trim(number, 4);
}

/** What a verb's talk says went wrong: `error: ..`, `  --> place`, `  hint: ..`. */
function problemsOf(talk) {
  const problems = [];
  let last = null;
  for (const line of talk.split("\n")) {
    const begun = line.match(/^(error|warning|Warning): (.*)/);
    if (begun) problems.push(last = { severity: begun[1].toLowerCase(), what: begun[2] });
    else if (last && line.startsWith("  --> ")) last.place = line.slice(6);
    else if (last && line.startsWith("  hint: ")) last.hint = line.slice(8);
    else if (!/^\s*\d* \|/.test(line)) last = null;
  }
  return problems;
}
function problem({ severity, what, place, row, hint }) {
  const line = place?.match(/recipe\.yaml:(\d+)/);
  const where = line ? `recipe, line ${line[1]}` : place && place !== "recipe.yaml" ? place.replace(/^.*\/data\/\d+-/, "") : row ? `row ${row}` : null;
  return h("div", { class: `note ${severity === "warning" ? "warn" : "bad"}`, role: severity === "warning" ? null : "alert" },
    h("b", {}, severity === "warning" ? "Note: " : "Problem: "), what, where && h("span", { class: "where" }, where), hint && h("span", { class: "hint" }, hint));
}
const failed = (error) => problem({ severity: "error", what: error.message });

/** A file for the person to keep. */
function download(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
function copier(what, content) {
  return h("button", { type: "button", class: "quiet", onclick: async (event) => {
    await navigator.clipboard.writeText(content());
    event.target.textContent = "Copied";
    say("Copied");
    setTimeout(() => { event.target.textContent = what; }, 1500);
  } }, what);
}
const later = (() => {
  const timers = {};
  return (key, milliseconds, act) => { clearTimeout(timers[key]); timers[key] = setTimeout(act, milliseconds); };
})();

// What the studio has, asked again and again while the page is looked at, and the pages that show it.
const studio = { state: null, models: null, schema: null };
const pages = {};
let page = null;
const isBusy = (job) => job.state === "running" || job.state === "waiting";
const runsOf = () => studio.state.jobs.filter((job) => job.task === "train").reverse();
const tuned = () => runsOf().filter((run) => run.has_adapter);
/** A run whose model judges answers, and writes none. */
const judges = (run) => run.learns === "reward";
/** What a recipe calls a model of the list, from wherever it is read. */
const baseOf = (model) => model.path || model.name;
/** A base as the list has it. */
const called = (base) => studio.models?.find((model) => baseOf(model) === base)?.name || base.replace(/^\/.*\//, "");

async function refresh() {
  try {
    studio.state = await get("/api/state");
  } catch (error) {
    return;
  }
  const busy = studio.state.jobs.some(isBusy);
  const runs = document.querySelector('nav a[href="#/runs"]');
  const marked = runs.querySelector(".dot");
  if (busy && !marked) runs.append(h("span", { class: "dot", title: "something goes on" }));
  if (!busy && marked) marked.remove();
  page?.update?.();
}
async function keepFresh() {
  if (!document.hidden) await refresh();
  const state = studio.state;
  const lively = state && (state.jobs.some(isBusy) || state.talk?.state === "loading");
  setTimeout(keepFresh, lively ? 700 : 2500);
}

async function route() {
  const [name, ...rest] = (location.hash.replace(/^#\/?/, "") || "new").split("/").map(decodeURIComponent);
  const next = pages[name] || pages.new;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${pages[name] ? name : "new"}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const same = page === next;
  page = next;
  if (!studio.state) await refresh();
  if (!studio.state) return;
  if (!same) {
    put($("main"));
    next.open($("main"), rest);
    window.scrollTo(0, 0);
  }
  next.at?.(rest);
  document.title = `${$("main").querySelector("h1")?.textContent || "Studio"} – gemma-tune`;
}
addEventListener("hashchange", async () => { await route(); $("main").focus({ preventScroll: true }); });
addEventListener("DOMContentLoaded", () => {
  history.replaceState(null, "", location.pathname + location.hash);
  // A file that misses its target would replace the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
  route();
  setTimeout(keepFresh, 700);
});
