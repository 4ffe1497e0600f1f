// Three charts of the last fifteen minutes on one time axis, each with a legend that reads the step under the cursor,
// and each as a table for those who cannot see a picture.

import { minute, short, time } from "./words.js";

const HEIGHT = 180;
const MINUTE_STEPS = 6;
const LEAST_STEPS = 30;

/** What callers got: names in the state, joined to what a reader tells apart. */
const OUTCOMES = [
  ["served", "answered", (h) => minus(h.outcomes.served, h.saved)],
  ["saved", "answered after a retry", (h) => h.saved],
  ["substitute", "a substitute", (h) => h.outcomes.substituted],
  ["error", "an error", (h) => plus(h.outcomes.failed, h.outcomes.broken, h.outcomes.exhausted)],
  ["limit", "their own limit", (h) => h.outcomes.limited],
  ["refused", "refused, their fault", (h) => plus(h.outcomes.refused, h.outcomes.rejected)],
  ["left", "left", (h) => h.outcomes.abandoned],
];

const ATTEMPTS = [
  ["served", "served", (h) => h.attempts.served],
  ["throttled", "slow down", (h) => h.attempts.throttled],
  ["overloaded", "overloaded", (h) => h.attempts.overloaded],
  ["error", "failed", (h) => plus(h.attempts.faulty, h.attempts.broken)],
  ["unsent", "not reached", (h) => h.attempts.unsent],
  ["exhausted", "no money", (h) => h.attempts.exhausted],
  ["refused", "refused", (h) => plus(h.attempts.refused, h.attempts.abandoned)],
];

const LOAD = [
  ["waiting", "waiting for their turn", (h) => h.waiting],
  ["flight", "under way", (h) => h.in_flight],
];

export function charts(parent) {
  const all = [
    new Chart(parent, "What callers got", OUTCOMES, { stacked: true, sums: true, unit: "requests" }),
    new Chart(parent, "What upstreams said", ATTEMPTS, { stacked: true, sums: true, unit: "tries" }),
    new Chart(parent, "How many at once", LOAD, { stacked: false, sums: false, unit: "requests at the peak" }),
  ];
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all.forEach((chart) => chart.redraw()));
  return { show: (history) => all.forEach((chart) => chart.show(history)) };
}

class Chart {
  constructor(parent, title, series, style) {
    Object.assign(this, { title, series, style, cursor: null });
    this.figure = add(parent, "figure", "chart card");
    add(this.figure, "figcaption").textContent = title;
    this.when = add(this.figure, "p", "when");
    this.plot = add(this.figure, "div", "plot");
    this.plot.setAttribute("role", "img");
    this.legend = add(this.figure, "ul", "legend");
    this.values = series.map(([name, label]) => this.entry(name, label));
    this.table = this.addTable();
    new ResizeObserver(() => this.resize()).observe(this.plot);
  }

  entry(name, label) {
    const item = add(this.legend, "li");
    add(item, "span", `swatch ${name}`).setAttribute("aria-hidden", "true");
    add(item, "span").textContent = label;
    return { item, value: add(item, "b") };
  }

  addTable() {
    const details = add(this.figure, "details");
    add(details, "summary").textContent = "As a table";
    const scroll = add(details, "div", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `${this.title}, by the minute`);
    details.addEventListener("toggle", () => this.fillTable());
    return { details, scroll };
  }

  show(history) {
    const { step_ms: step, until_ms: until, steps } = history;
    this.step = step;
    this.times = Array.from({ length: steps }, (_, index) => (until - (steps - index) * step) / 1000);
    this.counts = this.series.map(([, , of]) => of(history) ?? new Array(steps).fill(0));
    // The axis grows with what has been seen, from a few minutes to all that is kept.
    this.range = [(until - Math.max(steps, LEAST_STEPS) * step) / 1000, until / 1000];
    this.draw();
    this.read();
    this.fillTable();
  }

  draw() {
    const data = [this.times, ...this.layers()];
    if (this.uplot) this.uplot.setData(data);
    else if (this.plot.clientWidth > 0) this.uplot = new uPlot(this.options(), data, this.plot);
    this.plot.setAttribute("aria-label", this.summary());
  }

  /** Layers are drawn from the highest down, so that each hides the foot of the one behind it. */
  layers() {
    if (!this.style.stacked) return [...this.counts].reverse();
    const sums = new Array(this.times.length).fill(0);
    const layers = this.counts.map((counts) => counts.map((count, index) => (sums[index] += count)));
    return layers.reverse();
  }

  options() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue(name).trim();
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: colour("--soft"), font, grid: { show: false }, ticks: { show: false } };
    const paths = uPlot.paths.bars({ size: [0.82, 100], align: 1 });
    return {
      width: this.plot.clientWidth,
      height: HEIGHT,
      padding: [8, 14, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { setScale: false }, sync: { key: "surgetank" } },
      scales: {
        x: { time: true, range: () => this.range },
        y: { range: (_, __, max) => [0, Math.max(4, max * 1.05)] },
      },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((at) => minute(at * 1000)), space: 52, size: 28, incrs: [60, 120, 180, 300] },
        { ...axis, size: 40, space: 32, values: (_, ticks) => ticks.map(short), grid: { stroke: colour("--line"), width: 1 }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5] },
      ],
      series: [
        {},
        ...[...this.series].reverse().map(([name]) => {
          const ink = colour(`--c-${name}`);
          return { fill: ink, stroke: ink, width: 0, paths, points: { show: false } };
        }),
      ],
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
    };
  }

  point(index) {
    this.cursor = index ?? null;
    this.read();
  }

  /** The legend tells the step under the cursor, or the whole time. */
  read() {
    const at = this.cursor;
    const known = at !== null && at < (this.times?.length ?? 0);
    const span = known ? `from ${time(this.times[at] * 1000)}, ${this.step / 1000} s` : this.style.sums ? "sums of 15 minutes" : "peaks of 15 minutes";
    put(this.when, `${this.style.unit}, ${span}`);
    this.values.forEach(({ item, value }, index) => {
      const whole = this.whole(index);
      item.hidden = this.style.sums && whole === 0 && index > 0;
      put(value, short(known ? this.counts[index][at] : whole));
    });
  }

  whole(index) {
    const counts = this.counts?.[index] ?? [];
    return this.style.sums ? counts.reduce((sum, count) => sum + count, 0) : Math.max(0, ...counts);
  }

  summary() {
    const parts = this.series.map(([, label], index) => [label, this.whole(index)]).filter(([, count]) => count > 0);
    const told = parts.map(([label, count]) => `${label} ${short(count)}`).join(", ") || "nothing";
    return `${this.title} in the last 15 minutes: ${told}`;
  }

  fillTable() {
    if (!this.table.details.open || !this.times) return;
    const table = document.createElement("table");
    const head = add(add(table, "thead"), "tr");
    for (const label of ["from", ...this.series.map(([, label]) => label)]) {
      const cell = add(head, "th");
      cell.scope = "col";
      cell.textContent = label;
    }
    const body = add(table, "tbody");
    for (let end = this.times.length; end > 0; end -= MINUTE_STEPS) this.addRow(body, Math.max(0, end - MINUTE_STEPS), end);
    this.table.scroll.replaceChildren(table);
  }

  addRow(body, begin, end) {
    const row = add(body, "tr");
    const head = add(row, "th");
    head.scope = "row";
    head.textContent = time(this.times[begin] * 1000);
    for (const counts of this.counts) {
      const part = counts.slice(begin, end);
      add(row, "td").textContent = short(this.style.sums ? part.reduce((sum, count) => sum + count, 0) : Math.max(...part));
    }
  }

  resize() {
    if (!this.times || this.plot.clientWidth === 0) return;
    if (this.uplot) this.uplot.setSize({ width: this.plot.clientWidth, height: HEIGHT });
    else this.draw();
  }

  /** Colours are drawn, not styled: another scheme needs another drawing. */
  redraw() {
    this.uplot?.destroy();
    this.uplot = null;
    if (this.times) this.draw();
  }
}

function add(parent, tag, className = "") {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function plus(...lists) {
  const known = lists.filter(Boolean);
  return known[0]?.map((_, index) => known.reduce((sum, list) => sum + list[index], 0));
}

function minus(list, other) {
  return list?.map((count, index) => Math.max(0, count - other[index]));
}
