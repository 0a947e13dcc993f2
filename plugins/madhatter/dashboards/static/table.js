// Rows as a table: a panel of its own, or what a chart shows in numbers.
import { full } from "./format.js";

const NUMERIC = new Set(["money", "count", "percent", "seconds"]);

export function table(columns, rows, caption) {
  const element = document.createElement("table");
  const title = element.createCaption();
  title.textContent = caption;
  title.className = "unseen";
  const head = element.createTHead().insertRow();
  for (const column of columns) {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = column.label;
    if (NUMERIC.has(column.format)) cell.className = "number";
    head.append(cell);
  }
  const body = element.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const column of columns) line.append(cellOf(column, row[column.field]));
  }
  return element;
}

function cellOf(column, value) {
  const cell = document.createElement("td");
  const tone = column.badge?.[String(value)];
  const text = typeof value === "boolean" ? (value ? "yes" : "no") : full(value, column.format);
  if (tone) {
    const badge = document.createElement("span");
    badge.className = `badge ${tone}`;
    badge.textContent = text;
    cell.append(badge);
  } else {
    cell.textContent = text;
    if (text.length > 48) cell.title = text;
  }
  if (NUMERIC.has(column.format)) {
    cell.className = "number";
    if (value === 0) cell.classList.add("zero");
  }
  return cell;
}

// Columns for a chart's numbers, from what the dataset says of itself.
export function columnsOf(answer) {
  const format = { number: "count", date: "date", time: "time" };
  return answer.columns.map((column) => ({
    field: column.name,
    label: column.name.replaceAll("_", " ").replace(/^./, (letter) => letter.toUpperCase()),
    format: /share$/.test(column.name) ? "percent" : /(sales|order)$/.test(column.name) && column.type === "number" ? "money" : format[column.type] ?? "text",
  }));
}
