// The status page. Every event carries the whole state, and the page is a function of the latest one.
// Text goes in as text, never as markup.

import { charts } from "./charts.js";
import { FAULTS, duration, laneState, number, quotaName, short, time, troubleText } from "./words.js";

const LOST_AFTER_MS = 4000;
const byId = (id) => document.getElementById(id);
const pictures = charts(byId("charts"));
let latest = 0;

const events = new EventSource("api/events");
events.addEventListener("state", (event) => {
  latest = Date.now();
  show(JSON.parse(event.data));
});
setInterval(watchLink, 1000);

function show(state) {
  document.body.dataset.link = "live";
  put(byId("link-text"), "live");
  put(byId("process"), `${state.version} · ${state.stage} · up ${duration(state.now_ms - state.started_ms)}`);
  showHeadline(state.headline);
  showFigures(state);
  pictures.show(state.history);
  showLanes(state);
  list("trouble", state.trouble, (kind) => JSON.stringify([kind.first_ms, kind.route, kind.upstream, kind.class, kind.status, kind.outcome, kind.reason]), newRow, showTrouble);
  list("waiters", state.waiters, (waiter) => `${waiter.lane} ${waiter.user}`, newRow, showWaiter);
}

function showHeadline({ level, fault, sentence, callers, advice }) {
  byId("headline").dataset.level = level;
  put(byId("sentence"), sentence);
  putOrHide(byId("fault"), FAULTS[fault]);
  put(byId("callers"), callers);
  putOrHide(byId("advice"), advice);
  const mark = { busy: "◐ ", trouble: "● " }[level] ?? "";
  const title = `${mark}${sentence} – surgetank`;
  if (document.title !== title) document.title = title;
}

function showFigures({ history, economics, waiting_requests: waiting, lanes }) {
  const lastMinute = Object.values(history.outcomes).map((counts) => sum(counts.slice(-7, -1)));
  const minutes = Math.max(1, Math.min(6, history.steps - 1)) * (history.step_ms / 1000);
  put(byId("figure-rate"), rate(sum(lastMinute) / minutes));
  put(byId("figure-answered"), share(history.outcomes));
  put(byId("figure-waiting"), number(waiting));
  const longest = Math.max(0, ...lanes.map((lane) => lane.longest_wait_ms));
  put(byId("figure-waiting-note"), waiting > 0 ? `the longest for ${duration(longest)}` : "for their turn");
  put(byId("figure-saved"), short(economics.saved));
  put(byId("figure-tries"), economics.amplification === null ? "–" : economics.amplification.toFixed(2));
}

/** Of the requests that a model should have answered, those that it did. */
function share(outcomes) {
  const total = (name) => sum(outcomes[name] ?? []);
  const served = total("served");
  const all = served + total("substituted") + total("failed") + total("broken") + total("exhausted");
  if (all === 0) return "–";
  const percent = (100 * served) / all;
  // Never round a loss away.
  return `${percent === 100 ? "100" : Math.min(percent, 99.9).toFixed(1)} %`;
}

function showLanes({ lanes, lanes_total: total }) {
  put(byId("lanes-count"), total > lanes.length ? `the busiest ${lanes.length} of ${number(total)}` : "");
  list("lanes", lanes, (lane) => lane.id, newLane, showLane);
}

function newLane() {
  const item = element("li", "lane card");
  const head = element("header");
  const title = element("h3");
  item.parts = { name: document.createTextNode(""), detail: element("small"), pill: element("span", "pill"), meters: new Map() };
  title.append(item.parts.name, item.parts.detail);
  head.append(title, item.parts.pill);
  item.append(head);
  return item;
}

function showLane(item, lane) {
  const { name, detail, pill } = item.parts;
  put(name, `${lane.upstream} · ${lane.model_name ?? (Number.parseInt(lane.model, 16) === 0 ? "no model" : `model ${lane.model.slice(0, 8)}`)}`);
  put(detail, lane.credential ? `credential ${lane.credential}` : "the upstream's own credential");
  const [word, tone] = laneState(lane);
  put(pill, word);
  pill.dataset.tone = tone;

  meter(item, "At once", `${number(lane.live)} of ${number(lane.window)}`, lane.live, lane.window, lane.live >= lane.window);
  const waiting = lane.waiting > 0 ? `${number(lane.waiting)} of ${number(lane.waiting_users)} ${lane.waiting_users === 1 ? "user" : "users"}, ${duration(lane.longest_wait_ms)}` : "nobody";
  meter(item, "Waiting", waiting);
  const pace = lane.pace_per_second === null ? "not limited" : `at most ${rate(lane.pace_per_second)} a second`;
  meter(item, "Pace", `${pace}, now ${rate(lane.accepted_per_second)}`);
  const told = new Set();
  for (const quota of lane.quotas) {
    const label = quotaName(quota.of);
    told.add(label);
    meter(item, label, `${short(quota.remaining)} of ${short(quota.limit)}, whole in ${duration(quota.resets_in_ms)}`, quota.remaining, quota.limit, quota.remaining < quota.limit / 10);
  }
  for (const [label, { row }] of item.parts.meters) row.hidden = label.endsWith(" left") && !told.has(label);
}

/** A line of a lane; with a bar where there is a most. */
function meter(item, label, text, value, most, isTight = false) {
  let parts = item.parts.meters.get(label);
  if (!parts) {
    parts = { row: element("div", "meter"), value: element("b"), bar: most === undefined ? null : element("progress") };
    const line = element("p");
    const caption = element("span");
    caption.textContent = label;
    line.append(caption, parts.value);
    parts.row.append(line, ...(parts.bar ? [parts.bar] : []));
    parts.bar?.setAttribute("aria-label", label);
    item.append(parts.row);
    item.parts.meters.set(label, parts);
  }
  put(parts.value, text);
  parts.row.dataset.tone = isTight ? "busy" : "calm";
  if (parts.bar) {
    parts.bar.max = Math.max(most, 1e-9);
    parts.bar.value = Math.min(value, most);
  }
}

function newRow() {
  const item = element("li");
  item.parts = { what: element("span", "what"), number: element("span", "number"), small: element("small") };
  item.append(item.parts.what, item.parts.number, item.parts.small);
  return item;
}

function showTrouble({ parts }, kind) {
  put(parts.what, troubleText(kind));
  put(parts.number, `× ${number(kind.count)}`);
  const when = kind.count > 1 ? `${time(kind.first_ms)} to ${time(kind.last_ms)}` : time(kind.last_ms);
  const tries = kind.most_tries > 1 ? ` · up to ${kind.most_tries} tries, ${duration(kind.longest_wait_ms)} of waits` : "";
  const route = kind.route ? ` · route ${kind.route}` : "";
  put(parts.small, `${when}${route}${tries} · last request ${kind.request_id}`);
}

function showWaiter({ parts }, waiter) {
  put(parts.what, `user ${waiter.user}`);
  put(parts.number, `${number(waiter.waiting)} waiting`);
  put(parts.small, `for ${waiter.upstream}, the longest for ${duration(waiter.longest_wait_ms)}`);
}

/** Says so when surgetank has fallen silent: an old page that looks alive would lie. */
function watchLink() {
  if (latest === 0 || Date.now() - latest < LOST_AFTER_MS) return;
  document.body.dataset.link = "lost";
  put(byId("link-text"), "no connection");
  byId("headline").dataset.level = "trouble";
  put(byId("sentence"), `No news from surgetank since ${time(latest)}.`);
  putOrHide(byId("fault"), "");
  put(byId("callers"), "It has stopped, or the way to it is cut. What is below is old.");
  putOrHide(byId("advice"), "");
  document.title = "○ no connection – surgetank";
}

/** Makes a list's items match: those that stay are only changed, so that nothing flickers and no focus is lost. */
function list(id, values, keyOf, make, change) {
  const parent = byId(id);
  const old = new Map([...parent.children].map((item) => [item.dataset.key, item]));
  let before = parent.firstElementChild;
  for (const value of values) {
    const key = keyOf(value);
    const item = old.get(key) ?? make();
    old.delete(key);
    item.dataset.key = key;
    change(item, value);
    if (item === before) before = before.nextElementSibling;
    else parent.insertBefore(item, before);
  }
  for (const item of old.values()) item.remove();
  byId(`${id}-empty`).hidden = values.length > 0;
}

function element(tag, className = "") {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function putOrHide(node, text) {
  node.hidden = !text;
  put(node, text ?? "");
}

const sum = (counts) => counts.reduce((total, count) => total + count, 0);
const rate = (value) => (value >= 10 ? number(value) : value.toFixed(1));
