// A card: title, what is seen, and a chart or a table; each state of it in words.
import { host } from "./address.js";
import { Chart } from "./chart.js";
import { address } from "./data.js";
import { columnsOf, table } from "./table.js";

export class Panel {
  constructor(dashboard, panel) {
    this.dashboard = dashboard;
    this.panel = panel;
    this.asTable = panel.kind === "table";
    this.answer = null;
    this.element = document.createElement("article");
    this.element.className = `panel ${panel.kind} loading`;
    this.element.id = `panel-${panel.id}`;
    this.element.style.setProperty("--width", panel.width);
    this.element.style.setProperty("--height", `${panel.height}px`);
    this.element.innerHTML = `
      <header><div><h2></h2><p class="subtitle"></p></div><div class="tools"></div></header>
      <div class="body"><div class="picture" role="img"></div><div class="grid" tabindex="0" role="region"></div><p class="words" role="status"></p></div>`;
    this.element.querySelector("h2").textContent = panel.title;
    this.element.querySelector(".subtitle").textContent = panel.subtitle;
    this.picture = this.element.querySelector(".picture");
    this.picture.setAttribute("aria-label", `${panel.title}. ${panel.subtitle} The numbers are in the table view.`);
    this.grid = this.element.querySelector(".grid");
    this.grid.setAttribute("aria-label", panel.title);
    this.words = this.element.querySelector(".words");
    this.chart = panel.kind === "chart" ? new Chart(this.picture, panel) : null;
    this.#tools();
    this.say("Loading …");
  }

  #tools() {
    const tools = this.element.querySelector(".tools");
    if (this.chart) {
      this.toggle = button("Table", `Show ${this.panel.title} as a table`, () => {
        this.asTable = !this.asTable;
        this.toggle.textContent = this.asTable ? "Chart" : "Table";
        this.toggle.setAttribute("aria-pressed", this.asTable);
        this.#show();
      });
      this.toggle.setAttribute("aria-pressed", "false");
      tools.append(this.toggle);
    }
    tools.append(button("CSV", `Download ${this.panel.title} as CSV`, () => this.download()));
  }

  download() {
    const link = host.document.createElement("a");
    const [path, search] = address(this.dashboard, this.panel.dataset, this.query ?? {}).split("?");
    link.href = new URL(`${path}.csv${search ? "?" + search : ""}`, window.location.href);
    link.download = "";
    host.document.body.append(link);
    link.click();
    link.remove();
  }

  // answer: what the API gave; signals: filters that the chart may mark.
  async fill(answer, signals, query) {
    const same = this.answer && JSON.stringify(this.answer.rows) === JSON.stringify(answer.rows);
    const unmoved = JSON.stringify(this.signals) === JSON.stringify(signals);
    // The same rows stay the same objects: the chart has nothing to draw anew.
    this.answer = same ? { ...answer, objects: this.answer.objects } : answer;
    this.signals = signals;
    this.query = query;
    this.element.classList.remove("loading", "failed", "dim");
    if (same && unmoved && !this.saying) return;
    if (!answer.rows.length) {
      this.chart?.clear();
      this.say(this.panel.empty, "empty");
      return;
    }
    this.say("");
    await this.#show();
  }

  async #show() {
    const rows = this.answer?.objects ?? [];
    this.element.classList.toggle("as-table", this.asTable);
    if (!rows.length) return;
    if (this.asTable) {
      const columns = this.panel.kind === "table" ? this.panel.columns : columnsOf(this.answer);
      const [left, top] = [this.grid.scrollLeft, this.grid.scrollTop];
      this.grid.replaceChildren(table(columns, rows, this.panel.title));
      [this.grid.scrollLeft, this.grid.scrollTop] = [left, top];
      return;
    }
    try {
      await this.chart.update(rows, this.signals);
    } catch (error) {
      this.element.classList.add("failed");
      this.say(`This chart cannot be drawn: ${error.message}`, "error");
    }
  }

  async repaint() {
    if (this.chart?.view && this.answer?.rows.length) await this.chart.draw(this.answer.objects, this.signals);
  }

  say(text, kind = "") {
    this.saying = text;
    this.words.textContent = text;
    this.words.className = `words ${kind}`;
    this.element.classList.toggle("speaking", Boolean(text));
  }

  fail(text) {
    this.element.classList.remove("loading");
    this.element.classList.add("failed");
    // What was seen before stays, dimmed: old numbers help more than none.
    if (this.answer?.rows.length) this.element.classList.add("dim");
    else this.say(text, "error");
  }

  close() {
    this.chart?.clear();
  }
}

function button(text, label, action) {
  const element = Object.assign(document.createElement("button"), { type: "button", textContent: text, onclick: action });
  element.setAttribute("aria-label", label);
  element.title = label;
  return element;
}
