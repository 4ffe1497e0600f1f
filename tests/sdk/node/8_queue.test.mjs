// A queued request: 202 is an answer to every client, and the real one is found where it says.
import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { makeCall, note } from "./call.mjs";
import { forever, stack } from "./lab.mjs";
import { eachCall, official } from "./rows.mjs";
import { vercel } from "./vercel.mjs";

const account = "queue";
const patience = 20_000;
const finished = { chat: "stop", responses: "completed", messages: "end_turn" };
const queued = { at: "queued", account };

// Status, content type and body of a queued request's answer, once it is there.
async function result(location) {
  const deadline = Date.now() + patience;
  while (Date.now() < deadline) {
    const answer = await fetch(stack.queued + location, { headers: { authorization: `Bearer sk-test-${account}` } });
    const body = await answer.text();
    if (answer.status !== 202) return { status: answer.status, kind: answer.headers.get("content-type"), body };
    await pause(50);
  }
  throw new Error(`${location} is still pending after ${patience} ms`);
}

eachCall("a queued request is an answer and leads to the real one", { kind: "text" }, async (client, call) => {
  const seen = await makeCall(client, call, "ok", { ...queued, headers: { prefer: "respond-async" } });
  note("8_queue", client, call, "respond-async", seen);

  assert.ifError(seen.error);
  assert.deepEqual(seen.exchanges.map(({ status }) => status), [202]);
  assert.equal(seen.header("x-surgetank-fallback"), "queue");
  assert.equal(seen.header("preference-applied"), "respond-async");
  const location = seen.header("location");
  assert.equal(location, `/_surgetank/queue/${seen.header("x-surgetank-queue-id")}`);
  assert.equal(seen.answer.text, `Queued; the answer will be at ${location}.`);
  assert.equal(seen.answer.finish, client.family === "vercel" ? "stop" : finished[call.dialect]);

  const { status, kind, body } = await result(location);
  assert.equal(status, 200);
  if (call.streams) {
    assert.ok(kind.startsWith("text/event-stream"), kind);
    assert.ok(body.includes("data: "));
  } else {
    assert.ok(JSON.parse(body).id);
  }
});

eachCall("structured output gets a refusal", { kind: "object" }, async (client, call) => {
  const seen = await makeCall(client, call, forever("503"), { at: "queued_down", account });
  note("8_queue", client, call, "503, queued by its chain", seen);

  assert.ifError(seen.error);
  assert.deepEqual(seen.exchanges.map(({ status }) => status), [202]);
  assert.deepEqual([seen.answer.parsed, seen.answer.text], [undefined, ""]);
  assert.equal(seen.answer.refusal, `Queued; the answer will be at ${seen.header("location")}.`);
}, official);

eachCall("an outage is queued", { kind: "text" }, async (client, call) => {
  const seen = await makeCall(client, call, forever("503"), { at: "queued_down", account });
  note("8_queue", client, call, "503, queued by its chain", seen);

  assert.ifError(seen.error);
  assert.deepEqual(seen.exchanges.map(({ status }) => status), [202]);
  assert.equal(seen.header("x-surgetank-fallback"), "queue");
  assert.ok(seen.answer.text.startsWith("Queued; "), seen.answer.text);
}, [...official, ...vercel]);
