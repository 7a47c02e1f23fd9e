// The log events, the newest first.

import { element } from "./words.js";

const MOST = 40;
const PREFIX = "jwt_middleware.";

export class Events {
  constructor() {
    this.rows = document.getElementById("events");
  }

  add(events) {
    this.rows.prepend(...events.map(row).reverse());
    while (this.rows.children.length > MOST) this.rows.lastChild.remove();
  }

  clear() {
    this.rows.replaceChildren();
  }
}

function row(event) {
  const made = element("tr");
  const name = event.event.replace(PREFIX, "");
  made.append(
    element("td", new Date(event.timestamp).toLocaleTimeString("en-GB")),
    element("td", event.level === "warning" ? `${name} (warning)` : name, event.level === "warning" ? { class: "warning" } : {}),
    element("td", event.payload_version ?? ""),
    element("td", what(event)),
  );
  return made;
}

function what(event) {
  if (event.claims && event.sources) {
    const minted = event.minted ? `, minted ${event.minted.replace("_", " the ")}` : "";
    const took = event.lookup_ms >= 0.1 ? ` in ${event.lookup_ms} ms` : "";
    return `${event.claims.join(", ")} from ${event.sources.join(", ")}: ${event.outcome}${took}${minted}`;
  }
  if (event.reason) return `${event.reason}, answered ${event.status}`;
  return "an authority started";
}
