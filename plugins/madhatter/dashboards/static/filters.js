// The filter bar: native inputs, so that keyboards, screen readers and phones know them.

const PERIODS = {
  "24h": ["24 h", "Last day"], "7d": ["7 d", "Last 7 days"], "30d": ["30 d", "Last 30 days"],
  "90d": ["90 d", "Last 90 days"], "12m": ["12 m", "Last 12 months"], all: ["All", "All data"],
};

export const periodName = (key) => PERIODS[key]?.[1] ?? key;

// form: where they go; state: {period, from, to, <choice>: value}; options: {choice: [values]}; changed: called with what is new.
export function build(form, dashboard, state, changed) {
  form.replaceChildren();
  form.onsubmit = (event) => event.preventDefault();
  for (const [key, filter] of Object.entries(dashboard.filters)) {
    form.append(filter.kind === "period" ? period(filter, state, changed) : choice(key, filter, changed));
  }
  form.hidden = !form.children.length;
}

function period(filter, state, changed) {
  const group = document.createElement("fieldset");
  group.className = "period";
  const legend = document.createElement("legend");
  legend.textContent = filter.label;
  legend.className = "unseen";
  const bar = document.createElement("div");
  bar.className = "segments";
  const dates = document.createElement("div");
  dates.className = "dates";
  const add = (value, text, name) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "period", value });
    const words = document.createElement("span");
    words.textContent = text;
    words.title = name;
    label.append(input, words);
    input.setAttribute("aria-label", name);
    bar.append(label);
    return input;
  };
  for (const key of filter.choices) {
    add(key, ...PERIODS[key]).onchange = () => changed({ period: key === filter.default ? null : key, from: null, to: null });
  }
  const custom = add("custom", "Dates", "From one date to another");
  custom.onchange = () => {
    dates.hidden = false;
    dates.querySelector("input").focus();
  };
  for (const [name, text] of [["from", "From"], ["to", "To"]]) {
    const label = document.createElement("label");
    label.append(Object.assign(document.createElement("span"), { textContent: text }));
    const input = Object.assign(document.createElement("input"), { type: "date", name });
    input.onchange = () => {
      const [from, to] = ["from", "to"].map((key) => dates.querySelector(`[name=${key}]`).value || null);
      if (from || to) changed({ period: null, from, to });
    };
    label.append(input);
    dates.append(label);
  }
  group.append(legend, bar, dates);
  return group;
}

function choice(key, filter, changed) {
  const label = document.createElement("label");
  label.className = "choice";
  const words = document.createElement("span");
  words.textContent = filter.label;
  words.className = "unseen";
  const select = Object.assign(document.createElement("select"), { name: key });
  select.append(new Option(filter.all, ""));
  select.onchange = () => changed({ [key]: select.value || null });
  label.append(words, select);
  return label;
}

export function fill(form, key, values, current) {
  const select = form.querySelector(`select[name=${key}]`);
  const known = [...select.options].slice(1).map((option) => option.value);
  if (known.join("\n") !== values.join("\n")) select.replaceChildren(select.options[0], ...values.map((value) => new Option(value, value)));
  select.value = current ?? "";
}

export function show(form, dashboard, state) {
  const filter = dashboard.filters.period;
  if (filter) {
    const isCustom = Boolean(state.from || state.to);
    const value = isCustom ? "custom" : state.period ?? filter.default;
    for (const input of form.querySelectorAll("[name=period]")) input.checked = input.value === value;
    form.querySelector(".dates").hidden = !isCustom;
    for (const name of ["from", "to"]) form.querySelector(`[name=${name}]`).value = state[name] ?? "";
  }
  for (const select of form.querySelectorAll("select")) {
    select.value = state[select.name] ?? "";
    select.classList.toggle("set", Boolean(select.value));
  }
}
