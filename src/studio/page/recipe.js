// A recipe as keys and as text: what the form says is what the command line reads.

const SECTIONS = ["task", "model", "adapter", "data", "training", "preference", "grpo", "rewards", "evaluation", "output"];

/** A value on one line of YAML. */
function flow(value) {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return `[${value.map(flow).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${word(key)}: ${flow(item)}`).join(", ")}}`;
  if (typeof value === "number") {
    const [mantissa, exponent] = String(value).split("e");
    if (exponent === undefined) return mantissa;
    return `${mantissa.includes(".") ? mantissa : `${mantissa}.0`}e${/^[-+]/.test(exponent) ? exponent : `+${exponent}`}`;
  }
  return typeof value === "string" ? word(value) : String(value);
}
function word(string) {
  const bare = /^[A-Za-z_/.][\w/.@+-]*$/.test(string) && !/^(true|false|null|yes|no|on|off|y|n|~|\.inf|\.nan)$/i.test(string);
  return bare ? string : JSON.stringify(string);
}
/** The text of a recipe. */
function yaml(keys) {
  const lines = [];
  for (const section of [...SECTIONS, ...Object.keys(keys).filter((key) => !SECTIONS.includes(key))]) {
    const value = keys[section];
    if (value === undefined || value === null) continue;
    if (Array.isArray(value) && value.some((item) => typeof item === "object")) {
      lines.push(`${section}:`, ...value.map((item) => `  - ${flow(item)}`));
    } else if (typeof value === "object" && !Array.isArray(value)) {
      if (!Object.keys(value).length) continue;
      lines.push(`${section}:`);
      for (const [key, item] of Object.entries(value)) {
        const isList = Array.isArray(item) && item.some((part) => part && typeof part === "object");
        if (isList) lines.push(`  ${key}:`, ...item.map((part) => `    - ${flow(part)}`));
        else lines.push(`  ${key}: ${flow(item)}`);
      }
    } else lines.push(`${section}: ${flow(value)}`);
  }
  return `${lines.join("\n")}\n`;
}

const at = (keys, path) => path.split(".").reduce((value, key) => value?.[key], keys);
/** The keys with one changed; `undefined` takes it out. */
function changed(keys, path, value) {
  const [section, key] = path.split(".");
  const copy = structuredClone(keys);
  if (key === undefined) {
    if (value === undefined) delete copy[section];
    else copy[section] = value;
    return copy;
  }
  copy[section] ??= {};
  if (value === undefined) delete copy[section][key];
  else copy[section][key] = value;
  if (!Object.keys(copy[section]).length) delete copy[section];
  return copy;
}
const slug = (name) => name.normalize("NFKD").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-._]+|[-.]+$/g, "").slice(0, 48);
/** A name that no run has. */
function freeName(wish) {
  const taken = new Set(studio.state.jobs.filter((job) => job.task === "train").map((job) => job.run));
  const name = slug(wish) || "run";
  for (let number = 1; ; number += 1) {
    const free = number === 1 ? name : `${name}-${number}`;
    if (!taken.has(free)) return free;
  }
}
