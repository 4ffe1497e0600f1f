// The rows: every client times every call times every fault that concerns the call.
import { describe, test } from "node:test";
import { anthropic } from "./anthropic.mjs";
import { makeCall, table } from "./call.mjs";
import { saying } from "./lab.mjs";
import { openai } from "./openai.mjs";
import { vercel } from "./vercel.mjs";

export const official = [openai, anthropic];
export const clients = [...official, ...vercel];

const meets = (call, wanted) => Object.entries(wanted).every(([key, value]) => Boolean(call[key] === value || (!call[key] && !value)));

// A test for every client with each of its calls, or only with those that have the `wanted` properties.
export function eachCall(title, wanted, body, among = clients) {
  describe(title, () => {
    for (const client of among)
      for (const call of client.calls.filter((call) => meets(call, wanted)))
        test(`${client.name} ${call.name}`, () => body(client, call));
  });
}

// A test for every client, call and fault of the named table in cases.json. Rows that wait may run side by side.
export function eachRow(title, faults, wanted, body, { among = clients, concurrency = 1 } = {}) {
  describe(title, { concurrency }, () => {
    for (const client of among)
      for (const call of client.calls.filter((call) => meets(call, wanted)))
        for (const fault of table[faults].filter((fault) => concerns(fault, call)))
          test(`${client.name} ${call.name} ${fault.name}`, () => body(client, call, fault));
  });
}

const concerns = (fault, call) =>
  (fault.streams === undefined || fault.streams === Boolean(call.streams)) &&
  (fault.dialects?.includes(call.dialect) ?? true) &&
  (fault.kinds?.includes(call.kind) ?? true);

// The script of a healthy answer to this call: a text, or an object where one was asked for.
export const answerTo = (call) => (call.kind === "object" ? saying(JSON.stringify(table.object)) : "ok");

const known = new Map();

// The call without a proxy: what every other result is compared with.
export function direct(client, call, script = answerTo(call)) {
  const name = `${client.name} ${call.name} ${script}`;
  if (!known.has(name)) known.set(name, makeCall(client, call, script, { at: "lab", maxRetries: 0, account: "direct" }));
  return known.get(name);
}
