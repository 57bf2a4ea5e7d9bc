// All settings, made of the recipe's JSON schema: what it says of a key is what stands beside it.

/** What a key may be: choices by name, and which plain types. */
function kindsOf(schema) {
  const found = { choices: [], types: new Set(), nullable: false };
  const look = (part) => {
    if (!part || typeof part !== "object") return;
    if ("const" in part) found.choices.push(part);
    else if (part.enum) part.enum.forEach((value) => found.choices.push({ const: value }));
    else if (part.oneOf || part.anyOf) (part.oneOf || part.anyOf).forEach(look);
    else [part.type].flat().forEach((type) => (type === "null" ? (found.nullable = true) : type && found.types.add(type)));
  };
  look(schema);
  return found;
}

/** A row for a key: its name, an input for it, what the schema says. */
function setting(path, schema, keys, change) {
  const { choices, types } = kindsOf(schema);
  const value = at(keys, path);
  const usual = schema.default;
  const id = fresh();
  let input;
  if (types.size === 1 && types.has("boolean") && !choices.length) {
    input = h("select", { id }, ["", "true", "false"].map((word) => h("option", { value: word }, word || `as usual (${flow(usual ?? false)})`)));
    input.value = value === undefined ? "" : String(value);
    input.addEventListener("change", () => change(path, input.value === "" ? undefined : input.value === "true"));
  } else if (choices.length && !types.size) {
    const word = (choice) => (typeof choice.const === "string" ? choice.const : flow(choice.const));
    input = h("select", { id }, h("option", { value: "" }, usual === undefined || usual === null ? "as usual" : `as usual (${flow(usual)})`),
      choices.map((choice) => h("option", { value: JSON.stringify(choice.const), title: choice.description }, word(choice))));
    input.value = value === undefined ? "" : JSON.stringify(value);
    input.addEventListener("change", () => change(path, input.value === "" ? undefined : JSON.parse(input.value)));
  } else {
    const isText = types.has("string") && !types.has("number") && !types.has("integer");
    const spelt = value === undefined ? "" : typeof value === "string" ? value : flow(value);
    const hint = usual === undefined || usual === null ? "" : typeof usual === "string" ? usual : flow(usual);
    const list = choices.length ? h("datalist", { id: `${id}-list` }, choices.map((choice) => h("option", { value: String(choice.const) }))) : null;
    input = h("input", { id, type: "text", value: spelt, placeholder: hint, list: list && list.id, spellcheck: "false", autocomplete: "off" });
    input.addEventListener("change", () => {
      const read = readValue(input.value.trim(), types, isText);
      input.setAttribute("aria-invalid", read === null);
      if (read !== null) change(path, read.value);
    });
    if (list) input.after(list);
  }
  const said = [schema.description, choices.length && choices.some((choice) => choice.description)
    ? choices.filter((choice) => choice.description).map((choice) => `${choice.const}: ${choice.description}`).join(" ") : null].filter(Boolean).join(" ");
  const help = h("small", { id: `${id}-help` }, said);
  input.setAttribute("aria-describedby", help.id);
  return h("div", { class: `setting${value === undefined ? "" : " changed"}`, "data-search": `${path} ${said}`.toLowerCase() },
    h("label", { for: id }, path.split(".").pop()), input, help);
}
/** What was typed, as a value of YAML; `null` of what cannot be one. */
function readValue(typed, types, isText) {
  if (typed === "") return { value: undefined };
  if (isText && !types.has("array") && !types.has("object")) return { value: typed };
  if (/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(typed)) return { value: Number(typed) };
  if (/^(true|false|null)$/.test(typed)) return { value: JSON.parse(typed) };
  if (/^[[{]/.test(typed)) {
    try {
      return { value: JSON.parse(typed) };
    } catch {
      const inside = typed.match(/^\[([^[\]{}]*)\]$/);
      return inside ? { value: inside[1].split(",").map((part) => part.trim()).filter(Boolean) } : null;
    }
  }
  if (types.has("string") || typed === "auto") return { value: typed };
  return types.has("array") ? { value: typed.split(",").map((part) => part.trim()).filter(Boolean) } : null;
}

/** Sections with their keys; those that the page asks for itself are left out. */
function allSettings(schema, keys, change) {
  const OWN = ["model.base", "data.train", "output.dir"];
  const task = keys.task || "sft";
  const wanted = (section) => (section === "preference" ? ["dpo", "orpo", "kto", "reward"].includes(task) : section === "grpo" ? ["grpo", "rloo"].includes(task) : true);
  const sections = Object.entries(schema.properties).filter(([name, part]) => part.properties && wanted(name));
  const search = h("input", { type: "text", placeholder: "Find a setting", "aria-label": "Find a setting" });
  const body = h("div", {}, sections.map(([name, part]) => h("div", { "data-section": name }, h("h3", {}, name),
    part.description && h("small", {}, part.description),
    Object.entries(part.properties).filter(([key]) => !OWN.includes(`${name}.${key}`)).map(([key, sub]) => setting(`${name}.${key}`, sub, keys, change)))));
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of body.querySelectorAll(".setting")) row.hidden = !words.every((part) => row.dataset.search.includes(part));
    for (const section of body.children) section.hidden = ![...section.querySelectorAll(".setting")].some((row) => !row.hidden);
  });
  return h("div", {}, search, body);
}
