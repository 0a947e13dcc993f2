// Talks to the API. Errors come as words for the person who reads the page.

export class Failure extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function get(path, signal) {
  let response;
  try {
    response = await fetch(path, { signal, headers: { Accept: "application/json" }, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "Airflow does not answer. Check that its API server runs and that you are connected.");
  }
  if (response.ok) return response.json();
  if (response.status === 401) throw new Failure(401, "Your session has ended. Log in to Airflow again and come back.");
  if (response.status === 403) throw new Failure(403, "Your Airflow role may not see this page. Ask an administrator for the Viewer role.");
  const body = await response.json().catch(() => ({}));
  throw new Failure(response.status, typeof body.detail === "string" ? body.detail : `The server answered ${response.status}.`);
}

export const dashboards = () => get("api/dashboards");
export const status = (dashboard) => get(`api/${dashboard}/status`);

export async function rows(dashboard, dataset, query, signal) {
  const answer = await get(address(dashboard, dataset, query), signal);
  const times = answer.columns.map((column) => column.type === "date" || column.type === "time");
  answer.objects = answer.rows.map((row) =>
    // Instants as numbers: a chart would read a bare date in the reader's own time zone.
    Object.fromEntries(answer.columns.map((column, i) => [column.name, times[i] && row[i] !== null ? Date.parse(row[i]) : row[i]])),
  );
  return answer;
}

export function address(dashboard, dataset, query) {
  const search = new URLSearchParams(query);
  return `api/${dashboard}/${dataset}${search.size ? "?" + search : ""}`;
}
