// The four charts, drawn by uPlot (static/vendor, MIT), in the stylesheet's colours for the light and the dark theme.
/* global uPlot */

import { rate, share } from "./words.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const FONT = "12px system-ui, sans-serif";
const HEADROOM = 1.35; // above the highest value, where the lines of the plan have their names

const line = (name, more = {}) => ({
  stroke: () => color(name), width: 2, points: { show: false }, spanGaps: false, ...more,
});
const area = (name) => line(name, { fill: () => color(name), width: 1 });

const CHARTS = {
  "chart-rate": {
    series: [line("before", { fill: () => `${color("before")}33` })],
    data: (history) => [history.column("fallback_rate")],
    top: () => 1,
    ticks: [0, 0.25, 0.5, 0.75, 1],
    label: (value) => `${Math.round(value * 100)} %`,
    told: (values) => `Fallback rate, now ${share(values[0])}`,
  },
  "chart-payload": {
    // Stacked: the top series is painted first, the lower ones over it.
    series: [area("after"), area("before"), area("today")],
    data: (history) => {
      const today = history.column("today");
      const before = history.column("old_before").map((value, place) => value + today[place]);
      return [history.column("old_after").map((value, place) => value + before[place]), before, today];
    },
    told: ([all, old, today]) =>
      `Requests a second, now ${rate(today)} with today's payload, ${rate(old - today)} old and minted before the ` +
      `change, ${rate(all - old)} old and minted after it`,
  },
  "chart-refusals": {
    series: [line("quiet"), line("after"), line("other")],
    data: (history) => [history.column("expired"), history.column("revoked"), history.column("refused")],
    told: ([expired, revoked, other]) =>
      `Refusals a second, now ${rate(expired)} expired, ${rate(revoked)} revoked, ${rate(other)} other`,
  },
  "chart-queries": {
    series: [line("before", { fill: () => `${color("before")}33` }), area("today")],
    data: (history) => [history.column("needed"), history.column("queries")],
    told: ([needed, queries]) => `A second, now ${rate(needed)} requests needed the fallback and ${rate(queries)} queries were sent`,
  },
};

export class Charts {
  constructor(history) {
    this.history = history;
    this.charts = Object.entries(CHARTS).map(([id, chart]) => this.make(document.getElementById(id), chart));
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this.charts.forEach(({ plot }) => plot.redraw(false, true)));
  }

  make(where, chart) {
    const plot = new uPlot(this.options(chart, where), [[], ...chart.series.map(() => [])], where);
    new ResizeObserver(() => plot.setSize(size(where))).observe(where);
    return { where, chart, plot };
  }

  options(chart, where) {
    const axis = {
      stroke: () => color("quiet"), font: FONT,
      grid: { stroke: () => color("rule"), width: 1 }, ticks: { stroke: () => color("rule"), width: 1, size: 4 },
    };
    return {
      ...size(where),
      legend: { show: false },
      cursor: { show: false },
      padding: [4, 10, 0, 0],
      scales: {
        x: { time: false, range: () => this.range() },
        y: { range: (_, __, most) => [0, HEADROOM * (chart.top?.() ?? Math.max(most || 0, 0.1))] },
      },
      axes: [
        { ...axis, size: 26, gap: 2, space: 34, incrs: [1, 2, 7], values: (_, days) => days.map((day) => (day === 0 ? "0" : `${day} d`)) },
        { ...axis, size: 46, gap: 4, space: 26, splits: chart.ticks && (() => chart.ticks), values: (_, values) => values.map(chart.label ?? perSecond) },
      ],
      series: [{}, ...chart.series],
      hooks: { draw: [(plot) => this.plan(plot)] },
    };
  }

  // The visible range: from the first point to a little after the sunset.
  range() {
    const { history } = this;
    const { points: x, sunset } = history;
    if (!x.length) return [-1, 8];
    const last = history.days(x[x.length - 1][0]);
    return [history.days(x[0][0]), Math.max(last, sunset === null ? 0 : history.days(sunset) + 0.5)];
  }

  update() {
    const { history } = this;
    for (const { where, chart, plot } of this.charts) {
      const values = chart.data(history);
      plot.setData([history.x, ...values]);
      where.setAttribute("aria-label", chart.told(values.map((column) => column[column.length - 1] ?? null)));
    }
  }

  // The lines of the plan: the release, the planned sunset, and the latest expiry seen of an old token.
  plan(plot) {
    const { history } = this;
    if (!history.points.length) return;
    mark(plot, 0, "release", { row: 0, side: "left" });
    if (history.sunset !== null) mark(plot, history.days(history.sunset), "planned sunset", { row: 0, side: "right" });
    if (history.expiry !== null) mark(plot, history.days(history.expiry), "latest expiry seen", { row: 1, side: "right", dash: true });
  }
}

function mark(plot, day, name, { row, side, dash = false }) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  const x = Math.round(plot.valToPos(day, "x", true));
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.save();
  ctx.strokeStyle = color("ink");
  ctx.lineWidth = ratio;
  ctx.setLineDash(dash ? [3 * ratio, 3 * ratio] : []);
  ctx.beginPath();
  ctx.moveTo(x, bbox.top + 13 * row * ratio); // below the names of the lines above
  ctx.lineTo(x, bbox.top + bbox.height);
  ctx.stroke();
  ctx.font = `${11 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = side === "left" ? "left" : "right";
  const at = [x + (side === "left" ? 4 : -4) * ratio, bbox.top + (1 + 13 * row) * ratio];
  const { width } = ctx.measureText(name);
  ctx.fillStyle = color("card"); // the grid does not run through the name
  ctx.fillRect(side === "left" ? at[0] : at[0] - width, at[1], width, 12 * ratio);
  ctx.fillStyle = color("ink");
  ctx.fillText(name, ...at);
  ctx.restore();
}

const perSecond = (value) => `${value}/s`;
const size = (where) => ({ width: where.clientWidth, height: where.clientHeight });
