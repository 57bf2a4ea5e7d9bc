// Curves: small SVG drawings with axes, a smoothed line where there are many points, and a readout under the pointer.

/** Round numbers from `low` to `high`. */
function ticks(low, high, wanted) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough) || rough;
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}
/** A running mean that does not begin at zero. */
function smoothed(points) {
  const keep = 1 - 1 / Math.max(3, Math.min(20, points.length / 30));
  let sum = 0, weight = 0;
  return points.map(([x, y]) => {
    sum = keep * sum + y;
    weight = keep * weight + 1;
    return [x, sum / weight];
  });
}
/** As few points as the eye can tell. */
function thinned(points, most) {
  if (points.length <= most) return points;
  const every = Math.ceil(points.length / most);
  return points.filter((_, number) => number % every === 0 || number === points.length - 1);
}

/**
 * A figure of lines: `{name, points: [[x, y]..], colour, dash, raw}`; `level` is a height to compare with.
 * @returns a `figure` element.
 */
function plot(title, lines, { unit = shown, level = null, wide = false, zero = false } = {}) {
  // As many units as pixels, so that numbers are as large on a phone as elsewhere.
  const room = Math.max(240, $("detail")?.clientWidth || 640), height = wide ? 230 : 170, left = 52, bottom = 22, top = 8;
  const width = wide || room < 640 ? room : Math.round(room / 2 - 16);
  lines = lines.filter((line) => line.points.length);
  const keys = h("span", { class: "keys" }, lines.filter((line) => !line.raw && line.name).map((line) => h("span", { class: `k${line.colour} ${line.dash ? "dash" : ""}` }, line.name)));
  const caption = h("figcaption", {}, title, keys);
  if (!lines.length) return h("figure", { class: wide ? "wide" : "" }, caption, h("small", {}, "Nothing yet."));
  const all = lines.flatMap((line) => line.points);
  let [low, high] = [Infinity, -Infinity];
  for (const [, y] of all) { low = Math.min(low, y); high = Math.max(high, y); }
  if (level) high = Math.max(high, level.value);
  if (zero) low = Math.min(0, low);
  if (low === high) { low -= Math.abs(low) * 0.1 || 1; high += Math.abs(high) * 0.1 || 1; }
  const pad = (high - low) * 0.06;
  if (!zero) low -= pad;
  high += pad;
  const first = all.reduce((least, [x]) => Math.min(least, x), Infinity), last = all.reduce((most, [x]) => Math.max(most, x), first + 1);
  const x = (value) => left + ((value - first) / (last - first)) * (width - left - 8);
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const path = (points) => thinned(points, 800).map(([px, py], number) => `${number ? "L" : "M"}${x(px).toFixed(1)} ${y(py).toFixed(1)}`).join("");
  const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" },
    ticks(low, high, wide ? 5 : 4).map((value) => [h("line", { class: "axis", x1: left, x2: width - 8, y1: y(value), y2: y(value) }), h("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, unit(value))]),
    ticks(first, last, wide ? 9 : 5).filter(Number.isInteger).map((value) => h("text", { x: x(value), y: height - 4, "text-anchor": "middle" }, count(value))),
    level && [h("line", { class: "at", x1: left, x2: width - 8, y1: y(level.value), y2: y(level.value) }), h("text", { x: width - 8, y: y(level.value) - 5, "text-anchor": "end" }, level.name)],
    lines.map((line) => h("path", { class: `s${line.colour} ${line.dash ? "dash" : ""} ${line.raw ? "raw" : ""}`, d: path(line.points) })),
    lines.filter((line) => !line.raw && line.points.length < 60).flatMap((line) => line.points.map(([px, py]) => h("circle", { class: `f${line.colour} dot`, cx: x(px), cy: y(py), r: line.points.length < 20 ? 3 : 2 }))));
  const told = lines.filter((line) => !line.raw).map((line) => `${line.name || title}: from ${unit(line.points[0][1])} to ${unit(line.points.at(-1)[1])}`);
  svg.setAttribute("aria-label", `${title}. ${told.join("; ")}.`);
  const hair = h("line", { class: "at", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(hair);
  const readout = h("small", { class: "num" }, told.length === 1 ? `now ${unit(lines[0].points.at(-1)[1])}` : "");
  const still = readout.textContent;
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const wished = first + (((event.clientX - box.left) / box.width) * width - left) / (width - left - 8) * (last - first);
    const near = (points) => points.reduce((best, point) => (Math.abs(point[0] - wished) < Math.abs(best[0] - wished) ? point : best));
    const found = lines.filter((line) => !line.raw).map((line) => [line, near(line.points)]);
    const step = found.reduce((best, [, point]) => (Math.abs(point[0] - wished) < Math.abs(best - wished) ? point[0] : best), found[0][1][0]);
    hair.setAttribute("x1", x(step)); hair.setAttribute("x2", x(step)); hair.setAttribute("visibility", "visible");
    readout.textContent = `step ${count(step)}: ${found.map(([line, point]) => `${found.length > 1 ? `${line.name} ` : ""}${unit(point[1])}`).join(" · ")}`;
  });
  svg.addEventListener("pointerleave", () => { hair.setAttribute("visibility", "hidden"); readout.textContent = still; });
  return h("figure", { class: wide ? "wide" : "" }, caption, svg, readout);
}
