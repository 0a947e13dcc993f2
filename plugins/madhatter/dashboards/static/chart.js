// A Vega-Lite chart in a panel: drawn anew for new rows (order and set of names may differ), marked in place.
import { vegaConfig, resolve } from "./theme.js";

let library = null;

// 0.9 MB: begun at once, waited for by the first chart; figures and tables do not wait for it.
export function load() {
  library ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL("vega.js", import.meta.url);
    script.onload = done;
    script.onerror = () => failed(new Error("The chart library could not be loaded. Reload the page."));
    document.head.append(script);
  });
  return library;
}

const tooltip = document.getElementById("tooltip");

function showTooltip(_, event, item, value) {
  if (value === null || value === undefined || value === "") {
    tooltip.hidden = true;
    return;
  }
  const list = document.createElement("dl");
  for (const [label, text] of Object.entries(value)) {
    const term = document.createElement("dt");
    term.textContent = label;
    const words = document.createElement("dd");
    words.textContent = text;
    list.append(term, words);
  }
  tooltip.replaceChildren(list);
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const x = event.clientX + 14 + width > window.innerWidth ? event.clientX - width - 14 : event.clientX + 14;
  const y = event.clientY + 14 + height > window.innerHeight ? event.clientY - height - 14 : event.clientY + 14;
  tooltip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
}

// On a phone names give way to what they name.
function narrowed(spec, width) {
  return JSON.parse(JSON.stringify(spec), (key, value) => (key === "labelLimit" ? Math.min(value, Math.round(width * 0.42)) : value));
}

export class Chart {
  constructor(box, panel) {
    this.box = box;
    this.panel = panel;
    this.view = null;
    this.rows = null;
    this.turn = 0;
    this.onPick = null;
    new ResizeObserver(() => this.view && window.dispatchEvent(new Event("resize"))).observe(box);
  }

  async draw(rows, signals) {
    const turn = ++this.turn;
    await load();
    if (turn !== this.turn) return;
    const width = this.box.clientWidth;
    const spec = {
      ...narrowed(resolve(this.panel.spec), width),
      data: { name: "rows", values: rows },
      width: "container",
      height: this.panel.height,
      autosize: { type: "fit", contains: "padding" },
    };
    for (const parameter of spec.params ?? []) if (parameter.name in signals) parameter.value = signals[parameter.name];
    const stage = document.createElement("div");
    stage.className = "stage";
    this.box.append(stage);
    let result;
    try {
      result = await window.vegaEmbed(stage, spec, {
        // ast: expressions run in Vega's interpreter, so that the page needs no eval.
        ast: true, actions: false, renderer: "svg", mode: "vega-lite", config: vegaConfig(width), defaultStyle: false, tooltip: showTooltip,
      });
    } catch (error) {
      stage.remove();
      throw error;
    }
    if (turn !== this.turn) {
      // Overtaken by a newer drawing, which owns the box.
      result.finalize();
      stage.remove();
      return;
    }
    const old = this.result;
    this.result = result;
    this.view = result.view;
    this.rows = rows;
    this.view.addEventListener("click", (_, item) => item?.datum && this.onPick?.(item.datum));
    // The new picture is complete before the old one goes: no flicker.
    old?.finalize();
    for (const child of [...this.box.children]) if (child !== stage) child.remove();
  }

  async update(rows, signals) {
    // Data replaced in a view would keep the order of the old names.
    if (!this.view || rows !== this.rows) return this.draw(rows, signals);
    for (const parameter of this.panel.spec.params ?? []) if (parameter.name in signals) this.view.signal(parameter.name, signals[parameter.name]);
    await this.view.runAsync();
  }

  clear() {
    this.turn += 1;
    this.result?.finalize();
    this.result = this.view = this.rows = null;
    this.box.replaceChildren();
  }
}
