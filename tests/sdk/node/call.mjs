// One call of one client: made as an application makes it, observed on both sides of the proxy.
import { randomBytes } from "node:crypto";
import { appendFileSync, readFileSync } from "node:fs";
import { stack, upstreamCalls } from "./lab.mjs";

export const table = JSON.parse(readFileSync(new URL("../cases.json", import.meta.url)));
export const matrix = JSON.parse(readFileSync(new URL("../matrix.json", import.meta.url)));
export const tries = 1 + table.retries;

/*
 * A call:   { name, dialect, kind: "text" | "object" | "data", streams, run(sdk, answer) }
 * A client: { name, family, make({ url, apiKey, headers, fetch, maxRetries }) -> sdk, calls }
 * An answer is filled in by `run`; a broken stream leaves what had arrived until then.
 */
const emptyAnswer = () => ({
  text: "", finish: undefined, id: undefined, model: undefined, usage: undefined,
  parsed: undefined, refusal: undefined, events: [], whole: undefined,
});

// Lets `client` make `call` at one of the addresses, while its upstream calls meet `script`. Every call has a
// credential of its own unless an `account` is given: what the proxy learns about one credential's quota must not
// reach the next row. Rows from which it learns nothing share one, because it keeps 1,024 of them.
export async function makeCall(client, call, script, { at = "proxy", account, headers = {}, maxRetries } = {}) {
  const key = randomBytes(8).toString("hex");
  const exchanges = [];
  const sdk = client.make({
    url: stack[at],
    apiKey: `sk-test-${account ?? key}`,
    headers: { "x-lab-key": key, "x-lab-script": script, ...headers },
    fetch: watched(exchanges),
    maxRetries,
  });
  const answer = emptyAnswer();
  const began = performance.now();
  let error;
  try {
    await call.run(sdk, answer);
  } catch (thrown) {
    error = thrown;
  }
  const seconds = (performance.now() - began) / 1000;
  const upstream = await upstreamCalls(key);
  return { answer, error, exchanges, upstream, seconds, header: (name) => exchanges.at(-1)?.headers.get(name) ?? undefined };
}

// Counts the SDK's own HTTP requests, and keeps the response heads.
function watched(exchanges) {
  return async (resource, init) => {
    const exchange = { status: undefined, headers: new Headers() };
    exchanges.push(exchange);
    const response = await fetch(resource, init);
    exchange.status = response.status;
    exchange.headers = response.headers;
    return response;
  };
}

// One cell of the table: what the application saw, its SDK's calls and the upstream's.
export function describeSeen({ answer, error, exchanges, upstream, header }) {
  const status = error?.statusCode ?? error?.status ?? error?.lastError?.statusCode;
  const failed = error && [nameOf(error), error.lastError && `of ${nameOf(error.lastError)}`, status].filter(Boolean).join(" ");
  const answered = header("x-surgetank-fallback") ? (answer.refusal ? "refusal" : "reply") : "answer";
  return `${failed ?? answered} ${exchanges.length}→${upstream.length}`;
}

// The SDKs' classes leave `name` at "Error"; Vercel sets it.
export const nameOf = (error) => (error?.name && error.name !== "Error" ? error.name : (error?.constructor?.name ?? String(error)));

// Notes what a client saw, for the table that the run leaves behind.
export function note(suite, client, call, fault, seen) {
  const line = { suite, client: client.name, call: call.name, fault, seen: describeSeen(seen) };
  appendFileSync(process.env.SDK_SEEN, `${JSON.stringify(line)}\n`);
}

// A result as data, without what differs from one call to the next: serial numbers, times, addresses, and ids made by the client.
export function plain(value) {
  const passing = new Set(["created", "created_at", "timestamp", "headers", "performance", "messageId", "callId", "request"]);
  const json = JSON.stringify(value, (name, item) => (passing.has(name) ? undefined : item));
  return json === undefined ? undefined : JSON.parse(json.replace(/(lab[_-])\d{6}\b/g, "$1######"));
}
