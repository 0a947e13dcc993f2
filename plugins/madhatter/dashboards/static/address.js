// The address is the state: dashboard and filters. Inside Airflow's frame the outer address carries it, so that a copied link comes back here.

const outer = (() => {
  try {
    return window.parent !== window && window.parent.location.origin === window.location.origin ? window.parent : null;
  } catch {
    return null;
  }
})();

// Airflow's frame may not download or open windows; its own page, of the same origin, may.
export const host = outer ?? window;

export function read() {
  const own = new URLSearchParams(window.location.search);
  if (own.size === 0 && outer) return Object.fromEntries(new URLSearchParams(outer.location.search));
  return Object.fromEntries(own);
}

export function write(state, { push = false } = {}) {
  const search = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== null && value !== undefined && value !== ""));
  const query = search.size ? "?" + search : "";
  if (push) window.history.pushState(null, "", window.location.pathname + query);
  else window.history.replaceState(null, "", window.location.pathname + query);
  // Airflow's router keeps its own entry in history.state: handed back as it is.
  outer?.history.replaceState(outer.history.state, "", outer.location.pathname + query);
}

export function onBack(listener) {
  window.addEventListener("popstate", listener);
}
