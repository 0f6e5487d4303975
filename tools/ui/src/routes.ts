// Addresses of the page: what follows the #. Pure.

export type Route =
  | { view: "workflows" }
  | { view: "workflow"; workflowId: number }
  | { view: "executions"; workflowId: number | null; status: string | null }
  | { view: "execution"; executionId: number }
  | { view: "services" }
  | { view: "peers" }
  | { view: "node" }
  | { view: "unknown" };

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean);
  const [view = "workflows", id] = parts;
  if (parts.length > 2) return { view: "unknown" };
  if (id !== undefined) {
    if (!/^[1-9]\d{0,15}$/.test(id)) return { view: "unknown" };
    if (view === "workflows") return { view: "workflow", workflowId: Number(id) };
    if (view === "executions") return { view: "execution", executionId: Number(id) };
    return { view: "unknown" };
  }
  if (view === "executions") {
    const wanted = new URLSearchParams(query);
    const workflow = Number(wanted.get("workflow"));
    return { view, workflowId: Number.isInteger(workflow) && workflow > 0 ? workflow : null, status: wanted.get("status") };
  }
  if (view === "workflows" || view === "services" || view === "peers" || view === "node") return { view };
  return { view: "unknown" };
}

/** The address of the runs, filtered. */
export function executionsHash(workflowId: number | null, status: string | null): string {
  const query = new URLSearchParams();
  if (workflowId !== null) query.set("workflow", String(workflowId));
  if (status) query.set("status", status);
  const text = query.toString();
  return text ? `#/executions?${text}` : "#/executions";
}

/** The token in an address, as `rnd open` puts it there; `null` where there is none. */
export function tokenOfHash(hash: string): string | null {
  const found = /^#(?:token|t)=([^&]+)$/.exec(hash);
  if (!found?.[1]) return null;
  try {
    return decodeURIComponent(found[1]);
  } catch {
    return null;
  }
}
