// The curves as a table, for users who cannot see them: some moments, and the current one.

import { element, rate, share } from "./words.js";

const HEADS = {
  day: "Day", today: "Today's", old_before: "Old, before", old_after: "Old, after", fallback_rate: "Fallback rate",
  expired: "Expired", revoked: "Revoked", refused: "Other refusals", needed: "Needed it", queries: "Queries",
};
const ROWS = 16;

export class Table {
  constructor(history) {
    this.history = history;
    this.details = document.getElementById("as-table");
    const row = element("tr");
    row.append(...Object.values(HEADS).map((head) => element("th", head, { scope: "col" })));
    this.details.querySelector("thead").append(row);
    this.details.addEventListener("toggle", () => this.update());
  }

  update() {
    if (!this.details.open) return;
    const { points } = this.history;
    const step = Math.max(1, Math.ceil(points.length / ROWS));
    const some = points.filter((_, place) => (points.length - 1 - place) % step === 0);
    this.details.querySelector("tbody").replaceChildren(...some.map((point) => this.row(point)));
  }

  row(point) {
    const named = Object.fromEntries(this.history.columns.map((name, place) => [name, point[place]]));
    const row = element("tr");
    row.append(element("th", this.history.days(named.at).toFixed(1), { scope: "row" }));
    for (const name of Object.keys(HEADS).slice(1)) {
      row.append(element("td", name === "fallback_rate" ? share(named[name]) : rate(named[name])));
    }
    return row;
  }
}
