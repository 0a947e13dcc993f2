// A key figure: label, number, change against the period before, and its line.
import { brief, full } from "./format.js";
import { colour } from "./theme.js";

const SVG = "http://www.w3.org/2000/svg";

export function build(tile) {
  const box = document.createElement("article");
  box.className = "tile loading";
  box.id = `tile-${tile.id}`;
  box.innerHTML = `<h2></h2><p class="figure"><span class="value"></span></p><p class="change"></p><div class="spark" aria-hidden="true"></div>`;
  box.querySelector("h2").textContent = tile.label;
  if (tile.help) box.title = tile.help;
  return box;
}

export function fill(box, tile, answer, before, line) {
  const value = answer.objects[0]?.[tile.field] ?? null;
  box.classList.remove("loading", "failed");
  box.dataset.value = value ?? "";
  const figure = box.querySelector(".value");
  figure.textContent = brief(value, tile.format);
  figure.title = full(value, tile.format);
  figure.setAttribute("aria-label", full(value, tile.format));
  const alarm = tile.alarm_above !== null && value > tile.alarm_above;
  box.classList.toggle("alarm", alarm);
  change(box.querySelector(".change"), tile, value, before, alarm);
  spark(box.querySelector(".spark"), tile, line);
}

export function fail(box) {
  box.classList.remove("loading");
  box.classList.add("failed");
  box.querySelector(".value").textContent = "–";
  box.querySelector(".change").textContent = "not available";
}

function change(element, tile, value, before, alarm) {
  element.className = "change";
  if (tile.compare !== "previous") {
    element.textContent = alarm ? "needs attention" : tile.help;
    return;
  }
  const old = before?.objects?.[0]?.[tile.field] ?? null;
  if (old === null || value === null || old === 0) {
    element.textContent = tile.help;
    element.title = before?.note ?? "No earlier period to compare with.";
    return;
  }
  // A share changes in percentage points, everything else in percent.
  const points = tile.format === "percent";
  const delta = points ? (value - old) * 100 : ((value - old) / Math.abs(old)) * 100;
  const text = Math.abs(delta) >= 1000 ? Math.round(Math.abs(delta)).toLocaleString("en-GB") : Math.abs(delta).toFixed(1);
  const flat = Number(text.replace(",", "")) === 0;
  const better = tile.better === "neither" || flat ? "" : (delta > 0) === (tile.better === "higher") ? "up" : "down";
  const arrow = document.createElement("span");
  arrow.className = `delta ${better}`;
  arrow.textContent = `${flat ? "±" : delta > 0 ? "▲" : "▼"} ${text}${points ? " pts" : "%"}`;
  element.replaceChildren(arrow, ` from ${brief(old, tile.format)}`);
  element.title = `The period before: ${full(old, tile.format)}`;
}

function spark(element, tile, line) {
  const values = (line?.objects ?? []).map((row) => row[tile.spark.field]).filter((value) => value !== null);
  if (values.length < 2) {
    element.replaceChildren();
    return;
  }
  // One freak day must not flatten all others: the line may leave its box.
  const usual = values.toSorted((a, b) => a - b)[Math.ceil((values.length - 1) * 0.98)];
  const [low, high] = [Math.min(0, ...values), Math.max(Math.min(usual * 1.3, Math.max(...values)), Number.EPSILON)];
  const points = values.map((value, i) => [(i / (values.length - 1)) * 100, 30 - ((value - low) / (high - low)) * 28]);
  const path = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 32");
  svg.setAttribute("preserveAspectRatio", "none");
  for (const [d, kind] of [[`${path}L100 32L0 32Z`, "area"], [path, "line"]]) {
    const shape = document.createElementNS(SVG, "path");
    shape.setAttribute("d", d);
    shape.setAttribute("class", kind);
    svg.append(shape);
  }
  element.style.color = colour(tile.colour);
  element.replaceChildren(svg);
}
