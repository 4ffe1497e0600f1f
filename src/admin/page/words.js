// What the state's short names are called on the page.

export const FAULTS = {
  nobody: "",
  vendor: "Whose fault: the vendor",
  network: "Whose fault: the vendor, or the way to it",
  quota: "Whose fault: the quota",
  account: "Whose fault: the account",
  application: "Whose fault: the application",
  users: "Whose fault: single users",
  surgetank: "Whose fault: surgetank",
};

const CLASSES = {
  throttled: "asked to slow down",
  overloaded: "was overloaded",
  faulty: "failed",
  unsent: "could not be reached",
  exhausted: "had no money or allowance left",
  refused: "refused the request",
  broken: "cut its answer off",
  abandoned: "was still silent",
};

const OUTCOMES = {
  served: "a retry was answered",
  substituted: "the caller got a substitute",
  failed: "the caller saw an error",
  exhausted: "the caller saw the error",
  broken: "the answer broke off, and the caller was told",
  refused: "passed on to the caller",
  abandoned: "the caller left",
};

// Where no upstream was to blame.
const OURS = {
  limited: "Over the user's own limit",
  rejected: "Not acceptable to surgetank itself",
  failed: "Not answered",
  broken: "The answer broke off, and the caller was told",
};

const REASONS = {
  committed: "the answer had begun",
  body: "the body was too large to keep for a retry",
  post_policy: "the policy forbids to send it twice",
  attempts: "all retries were used",
  hint: "the vendor asked for too long a wait",
  quota: "the lane's retries were used up",
  patience: "the wait would have been too long",
  deadline: "the caller's time was over",
  cut: "the connection broke",
  incomplete: "the end was missing",
  idle: "it fell silent",
  stopping: "surgetank was stopping",
  caller: "the caller's own body broke",
};

const STATES = {
  idle: ["open", "calm"],
  window: ["full", "busy"],
  pace: ["paced", "busy"],
  probe: ["one asks, the rest waits", "busy"],
  gate: ["gate closed", "trouble"],
  breaker: ["left alone", "trouble"],
};

const QUOTAS = {
  requests: "Requests left",
  tokens: "Tokens left",
  input_tokens: "Input tokens left",
  output_tokens: "Output tokens left",
  other: "Quota left",
};

/** The word and the tone of a lane's state, with the time that is known. */
export function laneState(lane) {
  const [word, tone] = STATES[lane.waits_for] ?? [lane.waits_for, "busy"];
  return [lane.held_for_ms > 0 ? `${word} · ${duration(lane.held_for_ms)}` : word, tone];
}

export const quotaName = (of) => QUOTAS[of] ?? "Quota left";

/** A kind of trouble as a sentence without its full stop. */
export function troubleText({ upstream, class: kind, status, outcome, reason }) {
  if (!upstream || !kind) return OURS[outcome] ?? OUTCOMES[outcome] ?? outcome;
  const code = status ? ` (${status})` : "";
  return `${upstream} ${CLASSES[kind] ?? kind}${code}: ${OUTCOMES[outcome] ?? outcome}${because(outcome, reason)}`;
}

function because(outcome, reason) {
  return reason && outcome !== "served" ? `, as ${REASONS[reason] ?? reason}` : "";
}

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const MINUTE = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const number = (value) => NUMBER.format(value);
export const short = (value) => (value < 10_000 ? NUMBER.format(value) : SHORT.format(value));
export const time = (ms) => TIME.format(ms);
export const minute = (ms) => MINUTE.format(ms);

/** A time span in the unit in which people would say it. */
export function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}
