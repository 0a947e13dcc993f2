// The page: which dashboard, which filters, fresh data into tiles and panels.
import * as address from "./address.js";
import { load as loadCharts } from "./chart.js";
import * as data from "./data.js";
import * as filters from "./filters.js";
import { ago, dayOf, moment } from "./format.js";
import { Panel } from "./panel.js";
import * as theme from "./theme.js";
import * as tiles from "./tile.js";

const LOOK_EVERY_MS = 5000;
const $ = (id) => document.getElementById(id);

let shelf = { dashboards: [], errors: [] };
let state = {};
let board = null; // the dashboard on show
let panels = new Map();
let shown = null; // {version, status} of the data on show
let asking = null;

async function start() {
  await theme.load();
  theme.apply(theme.current());
  theme.watch((now) => {
    theme.apply(now);
    for (const panel of panels.values()) panel.repaint();
    if (board) refresh();
  });
  loadCharts().catch(() => {});
  address.onBack(() => open(address.read()));
  try {
    shelf = await data.dashboards();
  } catch (error) {
    notice("bad", error.message, error.status === 401 ? null : "Try again");
    $("content").setAttribute("aria-busy", "false");
    return;
  }
  await open(address.read());
  setInterval(() => document.hidden || look(), LOOK_EVERY_MS);
  document.addEventListener("visibilitychange", () => document.hidden || look());
}

async function open(wanted, { push = false } = {}) {
  const { dashboard: name, ...rest } = wanted;
  const next = name ? shelf.dashboards.find((item) => item.id === name) : shelf.dashboards[0];
  if (!next) return lost(name);
  state = rest;
  if (next !== board) build(next);
  remember({ push });
  await look(true);
}

function lost(name) {
  tabs();
  const broken = shelf.errors.find((error) => error.file.endsWith(`/${name}.yml`));
  notice("bad", broken ? `${broken.file}:${broken.line}: ${broken.message}` : name ? `There is no dashboard “${name}”. Choose one above.` : "There is no dashboard yet: put a YAML file into include/dashboards.");
  $("title").textContent = "Dashboards";
  $("content").setAttribute("aria-busy", "false");
}

function build(next) {
  board = next;
  shown = null;
  for (const panel of panels.values()) panel.close();
  tabs();
  document.title = `${board.title} · Dashboards`;
  $("title").textContent = board.title;
  $("summary").textContent = board.summary;
  $("range").textContent = "";
  filters.build($("filters"), board, state, (change) => {
    state = { ...state, ...change };
    remember({ push: true });
    refresh();
  });
  $("tiles").replaceChildren(...board.tiles.map(tiles.build));
  $("tiles").style.setProperty("--count", board.tiles.length);
  panels = new Map(board.panels.map((panel) => [panel.id, new Panel(board.id, panel)]));
  $("panels").replaceChildren(...[...panels.values()].map((panel) => panel.element));
  for (const panel of panels.values()) {
    const target = panel.panel.sets_filter;
    if (!target || !panel.chart) continue;
    panel.chart.onPick = (row) => {
      if (!(target in row)) return;
      state = { ...state, [target]: state[target] === row[target] ? null : row[target] };
      remember({ push: true });
      refresh();
    };
  }
}

function tabs() {
  $("tabs").replaceChildren(
    ...shelf.dashboards.map((item) => {
      const link = document.createElement("a");
      link.href = `?dashboard=${item.id}`;
      link.textContent = item.title;
      if (item === board) link.setAttribute("aria-current", "page");
      link.onclick = (event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        open({ dashboard: item.id }, { push: true });
      };
      return link;
    }),
  );
}

function remember(how) {
  filters.show($("filters"), board, state);
  address.write({ dashboard: board === shelf.dashboards[0] ? null : board.id, ...state }, how);
}

// One cheap question: has anything been published since? Only then are the rows asked for again.
async function look(force = false) {
  const asked = board;
  if (!asked) return;
  let status;
  try {
    status = await data.status(asked.id);
  } catch (error) {
    if (asked === board) trouble(error);
    return;
  }
  if (asked !== board) return;
  const isNew = shown?.status.version !== status.version;
  const failed = Boolean(document.querySelector(".tile.failed, .panel.failed"));
  shown = { status, at: Date.now() };
  freshness();
  if (force || isNew || failed) await refresh();
  else clearNotices();
}

async function refresh() {
  asking?.abort();
  const control = (asking = new AbortController());
  const asked = board;
  const one = once((dataset, extra = {}) => data.rows(asked.id, dataset, { ...relevant(asked, dataset), ...extra }, control.signal));
  $("content").setAttribute("aria-busy", "true");
  const jobs = [
    ...Object.entries(asked.filters).filter(([, filter]) => filter.kind === "choice").map(([key, filter]) => async () => {
      const options = await one(filter.dataset);
      filters.fill($("filters"), key, options.objects.map((row) => row[filter.field]), state[key]);
      filters.show($("filters"), asked, state);
    }),
    ...asked.tiles.map((tile) => async () => {
      const box = $(`tile-${tile.id}`);
      try {
        const [answer, before, line] = await Promise.all([
          one(tile.dataset),
          tile.compare === "previous" ? one(tile.dataset, { compare: "previous" }) : null,
          tile.spark ? one(tile.spark.dataset) : null,
        ]);
        if (!control.signal.aborted) tiles.fill(box, tile, answer, before, line);
        if (answer.start) period(answer);
      } catch (error) {
        if (!control.signal.aborted) tiles.fail(box);
        throw error;
      }
    }),
    ...[...panels.values()].map((panel) => async () => {
      try {
        const answer = await one(panel.panel.dataset);
        if (!control.signal.aborted) await panel.fill(answer, signals(), relevant(asked, panel.panel.dataset));
      } catch (error) {
        if (!control.signal.aborted) panel.fail(error.message);
        throw error;
      }
    }),
  ];
  const results = await Promise.allSettled(jobs.map((job) => job()));
  if (control.signal.aborted) return;
  $("content").setAttribute("aria-busy", "false");
  const failure = results.find((result) => result.status === "rejected" && result.reason.name !== "AbortError");
  if (failure) trouble(failure.reason);
  else clearNotices();
}

// Each dataset is asked for once however many tiles and panels use it.
function once(ask) {
  const asked = new Map();
  return (dataset, extra) => {
    const key = dataset + JSON.stringify(extra ?? {});
    if (!asked.has(key)) asked.set(key, ask(dataset, extra));
    return asked.get(key);
  };
}

// Only the filters that a dataset reads: the others would make a second copy of the same answer.
function relevant(dashboard, dataset) {
  const names = dashboard.datasets[dataset].flatMap((name) => (name === "period" ? ["period", "from", "to"] : [name]));
  const known = new Set([...Object.keys(dashboard.filters), ...(dashboard.filters.period ? ["from", "to"] : [])]);
  // A name that is no filter goes along as well: the server says in words what is wrong with it.
  return Object.fromEntries(Object.entries(state).filter(([name, value]) => value && (names.includes(name) || !known.has(name))));
}

const signals = () => Object.fromEntries(Object.entries(board.filters).filter(([, f]) => f.kind === "choice").map(([key]) => [key, state[key] ?? null]));

function freshness() {
  const { status } = shown;
  $("fresh").hidden = false;
  $("fresh").classList.toggle("stale", status.is_stale);
  if (!status.complete_to) {
    $("fresh-text").textContent = "No data yet";
    return;
  }
  const age = Date.now() - Date.parse(status.complete_to);
  const newest = status.data_to && status.data_to < status.complete_to ? status.data_to : status.complete_to;
  $("fresh-text").textContent = `${status.is_stale ? "Stale: published" : "Published"} up to ${moment(newest)} · ${ago(age)}`;
  $("fresh").title = `All that had arrived by ${moment(status.complete_to)} is published. Figures change by themselves when more is.`;
}

function period(answer) {
  const last = new Date(Date.parse(answer.end) - 1).toISOString();
  const words = [`${dayOf(answer.start)} to ${dayOf(last)}`];
  if (shown?.status.note) words.push(shown.status.note);
  $("range").textContent = words.join(" · ");
}

function trouble(error) {
  if (error.name === "AbortError") return;
  const kept = [...panels.values()].some((panel) => panel.answer?.rows.length);
  const more = error.status === 503 || error.status === 0 ? ` ${kept ? "What you see is from before. " : ""}The page tries again every few seconds.` : "";
  notice("bad", error.message + more, error.status === 422 ? "Remove the filters" : null, () => {
    state = {};
    remember({ push: true });
    refresh();
  });
  if (kept) for (const panel of panels.values()) panel.element.classList.add("dim", "failed");
  else for (const panel of panels.values()) panel.fail(error.message);
  if (!kept) for (const tile of board?.tiles ?? []) tiles.fail($(`tile-${tile.id}`));
  $("content").setAttribute("aria-busy", "false");
}

function notice(tone, text, action = null, act = () => window.location.reload()) {
  const key = tone + text;
  if ($("notices").dataset.key === key) return;
  $("notices").dataset.key = key;
  const box = document.createElement("div");
  box.className = `notice ${tone}`;
  box.append(Object.assign(document.createElement("p"), { textContent: text }));
  if (action) box.append(Object.assign(document.createElement("button"), { type: "button", textContent: action, onclick: act }));
  $("notices").replaceChildren(box);
}

function clearNotices() {
  for (const panel of panels.values()) panel.element.classList.remove("dim");
  if (shelf.errors.length) {
    const { file, line, message } = shelf.errors[0];
    notice("warn", `A dashboard is left out. ${file}:${line}: ${message}`);
    return;
  }
  delete $("notices").dataset.key;
  $("notices").replaceChildren();
}

// For tests and the curious: the Vega view of a panel.
window.dashboards = { view: (id) => panels.get(id)?.chart?.view ?? null, panel: (id) => panels.get(id) ?? null };

start();
