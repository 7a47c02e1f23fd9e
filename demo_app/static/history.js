// The data that this page has: the points of the curves, by column, and the number of the newest event.

export class History {
  constructor() {
    this.forget(null);
  }

  forget(run) {
    this.run = run;
    this.points = [];
    this.event = 0;
  }

  get since() {
    return this.points.length ? this.points[this.points.length - 1][0] : 0;
  }

  // Add a response of /api/live, and drop points older than two windows.
  add(facts) {
    if (facts.run !== this.run) this.forget(facts.run);
    this.columns = facts.columns;
    this.points.push(...facts.points.filter(([at]) => at > this.since));
    while (this.points.length && this.points[0][0] < this.since - 2 * facts.window) this.points.shift();
    for (const event of facts.events) this.event = Math.max(this.event, event.number);
    this.day = facts.day;
    this.planned = facts.planned;
    this.sunset = facts.figures?.planned_sunset ?? null;
    this.expiry = facts.figures?.latest_expiry ?? null;
  }

  column(name) {
    const place = this.columns.indexOf(name);
    return this.points.map((point) => point[place]);
  }

  // Days since the release; a day is a seventh of the window.
  days(seconds) {
    return (seconds - this.planned) / this.day;
  }

  get x() {
    return this.points.map(([at]) => this.days(at));
  }
}
