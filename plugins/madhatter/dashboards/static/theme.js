// Light or dark: as Airflow is set, else as the system is. One palette, one meaning a colour.
import { locale } from "./format.js";

const system = window.matchMedia("(prefers-color-scheme: dark)");
let palette = null;

function airflowRoot() {
  try {
    return window.parent !== window ? window.parent.document.documentElement : null;
  } catch {
    return null;
  }
}

export function current() {
  const root = airflowRoot();
  for (const theme of ["dark", "light"]) {
    if (root?.classList.contains(theme) || root?.dataset.theme === theme) return theme;
  }
  const stored = window.localStorage.getItem("theme");
  return stored === "dark" || stored === "light" ? stored : system.matches ? "dark" : "light";
}

export function watch(changed) {
  let seen = current();
  const look = () => {
    const now = current();
    if (now !== seen) changed((seen = now));
  };
  system.addEventListener("change", look);
  window.addEventListener("storage", look);
  const root = airflowRoot();
  if (root) new MutationObserver(look).observe(root, { attributes: true, attributeFilter: ["class", "data-theme", "style"] });
}

export async function load() {
  palette = await (await fetch(new URL("palette.json", import.meta.url))).json();
}

export function apply(theme) {
  document.documentElement.dataset.theme = theme;
  for (const [meaning, colour] of Object.entries(palette[theme])) document.documentElement.style.setProperty(`--${meaning.replaceAll("_", "-")}`, colour);
}

export const colour = (token) => (token.startsWith("$") ? palette[current()][token.slice(1)] : token);

// "$sales" becomes the theme's colour; other texts stay ("$.3~s" is a number format).
export function resolve(node) {
  if (Array.isArray(node)) return node.map(resolve);
  if (node && typeof node === "object") return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, resolve(value)]));
  return typeof node === "string" && /^\$[a-z_]\w*$/.test(node) ? colour(node) : node;
}

export function vegaConfig(width) {
  const c = palette[current()];
  const font = "Inter, ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  return {
    background: "transparent",
    font,
    aria: false,
    locale: { number: locale },
    padding: { left: 0, right: 4, top: 6, bottom: 5 },
    view: { stroke: null },
    axis: {
      labelColor: c.muted, labelFontSize: 11.5, titleColor: c.muted, titleFontWeight: 500,
      gridColor: c.grid, domainColor: c.grid, tickColor: c.grid, tickSize: 4, labelPadding: 6, labelSeparation: 14,
    },
    axisQuantitative: { domain: false, ticks: false, tickCount: 4 },
    axisY: { labelColor: c.muted },
    axisBand: { labelColor: c.ink, ticks: false },
    legend: {
      labelColor: c.muted, labelFontSize: 11.5, symbolType: "square", symbolSize: 90, symbolStrokeWidth: 0,
      gradientStrokeWidth: 0, offset: 8, columnPadding: 14, ...(width < 420 ? { columns: 3 } : {}),
    },
    text: { color: c.muted, fontSize: 11.5 },
    bar: { color: c.sales },
    scale: { bandPaddingInner: 0.18 },
  };
}
