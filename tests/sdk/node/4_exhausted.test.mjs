// Every try fails: the application gets an answer all the same, or one proper error.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { forcedTools as anthropicForced, anthropic } from "./anthropic.mjs";
import { makeCall, nameOf, note, table, tries } from "./call.mjs";
import { forever } from "./lab.mjs";
import { continued, forcedTools as openaiForced, openai } from "./openai.mjs";
import { eachCall, eachRow, official } from "./rows.mjs";
import { vercel } from "./vercel.mjs";

const finished = { chat: "stop", responses: "completed", messages: "end_turn" };
const prefix = { chat: "chatcmpl-", responses: "resp_", messages: "msg_" };

eachRow("the reply is an answer like any other", "exhausted", { kind: "text" }, async (client, call, fault) => {
  const seen = await makeCall(client, call, forever(fault.fault), { at: "spent" });
  note("4_exhausted", client, call, fault.name, seen);

  assert.ifError(seen.error);
  const { answer } = seen;
  assert.equal(answer.text, table.reply);
  assert.equal(answer.finish, client.family === "vercel" ? "stop" : finished[call.dialect]);
  assert.equal(answer.model, table.model[call.dialect]);
  assert.ok(answer.id.startsWith(prefix[call.dialect]), answer.id);
  assert.equal(answer.refusal, undefined);
  assert.equal(tokens(answer.usage), 0);
  spentOnce(client, seen);
  assert.equal(seen.header("x-surgetank-fallback"), "reply");
}, { concurrency: 6 });

eachRow("structured output gets a refusal", "exhausted", { kind: "object" }, async (client, call, fault) => {
  const seen = await makeCall(client, call, forever(fault.fault), { at: "spent" });
  note("4_exhausted", client, call, fault.name, seen);

  assert.ifError(seen.error);
  const { answer } = seen;
  assert.deepEqual([answer.parsed, answer.text, answer.refusal], [undefined, "", table.reply]);
  assert.equal(answer.finish, call.dialect === "messages" ? "refusal" : finished[call.dialect]);
  spentOnce(client, seen);
  assert.equal(seen.header("x-surgetank-fallback"), "reply");
}, { among: official, concurrency: 6 });

eachRow("Vercel: structured output has no object", "exhausted", { kind: "object" }, async (client, call, fault) => {
  const seen = await makeCall(client, call, forever(fault.fault), { at: "spent" });
  note("4_exhausted", client, call, fault.name, seen);

  // Anthropic's refusal ends with "content-filter", after which generateText looks for no object in the text.
  const unasked = call.dialect === "messages" && call.name === "generateText+Output.object";
  assert.equal(nameOf(seen.error), unasked ? "AI_NoOutputGeneratedError" : "AI_NoObjectGeneratedError");
  spentOnce(client, seen);
  assert.equal(seen.header("x-surgetank-fallback"), "reply");
}, { among: vercel, concurrency: 6 });

eachRow("what has no reply fails properly", "exhausted", { kind: "data" }, async (client, call, fault) => {
  const seen = await makeCall(client, call, forever(fault.fault), { at: "spent" });
  note("4_exhausted", client, call, fault.name, seen);

  const expected = fault.name === "429" ? "RateLimitError" : "InternalServerError";
  assert.ok(seen.error instanceof client.sdk[expected], nameOf(seen.error));
  spentOnce(client, seen);
  assert.equal(seen.header("x-should-retry"), "false");
  assert.equal(seen.header("x-surgetank-fallback"), undefined);
}, { among: official, concurrency: 6 });

eachCall("ids are unique", { kind: "text" }, async (client, call) => {
  const ids = new Set();
  for (let round = 0; round < 2; round += 1) ids.add((await makeCall(client, call, "503*", { at: "spent" })).answer.id);
  assert.equal(ids.size, 2);
});

describe("a forced tool gets a refusal", () => {
  for (const [client, call] of [...openaiForced.map((call) => [openai, call]), ...anthropicForced.map((call) => [anthropic, call])])
    test(`${client.name} ${call.name}`, async () => {
      const seen = await makeCall(client, call, "503*", { at: "spent" });
      note("4_exhausted", client, call, "503", seen);

      assert.ifError(seen.error);
      assert.deepEqual([seen.answer.text, seen.answer.refusal], ["", table.reply]);
      spentOnce(client, seen);
    });
});

describe("a continued conversation gets an error", () => {
  // A made-up id in the chain would break the conversation for good; an error can be tried again.
  for (const call of continued)
    test(`${openai.name} ${call.name}`, async () => {
      const seen = await makeCall(openai, call, "503*", { at: "spent" });
      note("4_exhausted", openai, call, "503", seen);

      assert.equal(nameOf(seen.error), "InternalServerError");
      spentOnce(openai, seen);
      assert.equal(seen.header("x-should-retry"), "false");
    });
});

const ways = {
  header: { at: "spent", headers: { "x-surgetank-fallback": "none" } },
  configuration: { at: "bare" },
};

for (const [way, options] of Object.entries(ways)) {
  eachRow(`without a reply (${way}) the original error arrives`, "exhausted", {}, async (client, call, fault) => {
    const seen = await makeCall(client, call, forever(fault.fault), options);
    note("4_exhausted", client, call, `${fault.name}, no fallback by ${way}`, seen);

    assert.ok(seen.error, "the call succeeded");
    spentOnce(client, seen);
    assert.equal(seen.header("x-surgetank-fallback"), undefined);
    assert.ok(seen.upstream.every(({ headers }) => headers.every(([name]) => !name.startsWith("x-surgetank"))));
    // A 200 all the way: what the SDK makes of the vendor's own error event is the SDK's.
    if (fault.name === "error-first") return;
    assert.equal(seen.header("x-should-retry"), "false");
    if (fault.name === "reset") {
      // There was no answer to pass on; this one is the proxy's.
      assert.ok(seen.error instanceof client.sdk.InternalServerError, nameOf(seen.error));
      return;
    }
    const without = await makeCall(client, call, forever(fault.fault), { at: "lab", maxRetries: 0 });
    assert.equal(nameOf(seen.error), nameOf(without.error));
    assert.equal(withoutId(seen.error.message), withoutId(without.error.message));
  }, { among: official, concurrency: 6 });
}

const withoutId = (message) => message.replace(/req_lab_\d+/, "");

// Vercel knows no `x-should-retry` and tells no count, so its later attempts look like new calls to the proxy. Each
// spends the proxy's tries: two times out of three for nothing, and 2 and 4 s apart.
const multiplied = (options) => async (client, call, fault) => {
  const seen = await makeCall(client, call, forever(fault.fault), options);
  note("4_exhausted", client, call, options === ways.header ? `${fault.name}, no fallback by header` : fault.name, seen);

  assert.equal(nameOf(seen.error), "AI_RetryError");
  // What three calls learn of one quota makes the last wait longest: its stream has then begun, and tells within it.
  const hasBegun = call.streams && fault.name === "429" && seen.exchanges.at(-1).status === 200;
  assert.equal(seen.header("x-should-retry"), hasBegun ? undefined : "false");
  assert.equal(seen.exchanges.length, 3);
  const extra = seen.upstream.length - 3 * tries;
  assert.ok(extra === 0 || (fault.name === "reset" && extra <= 3), `${seen.upstream.length} upstream calls`);
};
const all = { among: vercel, concurrency: 64 };
eachRow("Vercel: without a reply its retries multiply the proxy's", "exhausted", { kind: "text" }, multiplied(ways.header), all);
eachRow("Vercel: what has no reply is retried again", "exhausted", { kind: "data" }, multiplied({ at: "spent" }), all);

// The proxy's tries and no others.
function spentOnce(client, seen) {
  // A pooled connection that breaks before the first byte is replaced at once, and that try is not counted: most
  // likely the upstream had closed it before it saw the request.
  const free = seen.upstream[0].played === "reset" && seen.upstream.length > tries ? 1 : 0;
  assert.equal(seen.upstream.length, tries + free);
  assert.equal(seen.exchanges.length, 1);
  assert.equal(seen.header("x-surgetank-attempts"), String(seen.upstream.length));
  const counts = new Set(seen.upstream.map((upstream) => upstream.header("x-stainless-retry-count")));
  assert.deepEqual([...counts], [client.family === "vercel" ? undefined : "0"]);
}

// All tokens of a usage object together.
function tokens(usage) {
  return Object.values(usage ?? {}).filter((value) => typeof value === "number").reduce((sum, value) => sum + value, 0);
}
