// Numbers and times in one way everywhere: £12.3k, 1.2M, 9,288, 4.7%, 21.4 s, Fri 9 Dec 2011, 14:00 UTC.

const exact = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const pounds = new Intl.NumberFormat("en-GB", { style: "currency", currency: "GBP" });
const day = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const minute = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false, timeZone: "UTC",
});

// Three significant digits with k, M, bn; whole numbers below a thousand stay whole.
function short(value) {
  const size = Math.abs(value);
  for (const [unit, suffix] of [[1e9, "bn"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit * 0.9995) return trim((size / unit).toPrecision(3)) + suffix;
  }
  return Number.isInteger(value) ? String(size) : trim(size.toPrecision(3));
}

const trim = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);
const signed = (value, text) => (value < 0 ? "−" + text : text);

// For key figures: short. `full` says the same without rounding, for tooltips and screen readers.
export function brief(value, format) {
  if (value === null || value === undefined) return "–";
  switch (format) {
    case "money": return signed(value, "£" + (Math.abs(value) < 1000 ? Math.abs(value).toFixed(Math.abs(value) < 100 ? 2 : 0) : short(value)));
    case "count": return Math.abs(value) < 100000 ? exact.format(value).replace("-", "−") : signed(value, short(value));
    default: return full(value, format);
  }
}

export function full(value, format) {
  if (value === null || value === undefined || value === "") return "–";
  switch (format) {
    case "money": return pounds.format(value).replace("-", "−");
    case "count": return exact.format(value).replace("-", "−");
    case "percent": return (value * 100).toFixed(1) + "%";
    case "seconds": return value >= 100 ? `${Math.floor(value / 60)} min ${Math.round(value % 60)} s` : `${Number(value).toFixed(1)} s`;
    case "time": return minute.format(new Date(value));
    case "date": return day.format(new Date(value));
    default: return typeof value === "number" ? exact.format(value) : String(value);
  }
}

export const moment = (iso) => `${day.format(new Date(iso))}, ${iso.slice(11, 16)} UTC`;
export const dayOf = (iso) => day.format(new Date(iso));

export function ago(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return "just now";
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} days ago`;
}

// The same in Vega's words (d3-format): pound sign, comma, and a real minus.
export const locale = { decimal: ".", thousands: ",", grouping: [3], currency: ["£", ""], minus: "−" };
