// Nothing is wrong: nobody can tell that there is a proxy.
import assert from "node:assert/strict";
import { makeCall, note, plain, table } from "./call.mjs";
import { answerTo, direct, eachCall } from "./rows.mjs";

// What an intermediary must or may change on the way up (RFC 9110, sections 7.6.1 and 7.6.3), and the test's own marks.
const ofTheHop = new Set(["host", "connection", "via", "transfer-encoding", "content-length", "x-lab-key", "x-lab-script"]);
// What differs from one answer of the fake API to the next, or belongs to the connection.
const ofTheAnswer = new Set(["date", "request-id", "x-request-id", "openai-processing-ms", "connection", "keep-alive", "transfer-encoding"]);

const travelling = (headers, leftOut) =>
  [...headers].map(([name, value]) => `${name.toLowerCase()}: ${value}`).filter((line) => !leftOut.has(line.split(":")[0])).sort();

eachCall("the result is the same", {}, async (client, call) => {
  const without = await direct(client, call);
  const seen = await makeCall(client, call, answerTo(call), { account: "direct" });
  note("1_healthy", client, call, "healthy", seen);

  assert.ifError(without.error);
  assert.ifError(seen.error);
  assert.deepEqual(plain(seen.answer), plain(without.answer));
  assert.deepEqual([seen.exchanges.length, seen.upstream.length], [1, 1]);
  assert.equal(seen.header("x-surgetank-fallback"), undefined);
});

eachCall("the call is worth comparing", { kind: "text" }, async (client, call) => {
  const { answer } = await direct(client, call);
  assert.ok(answer.text.split(" ").length > 10);
  assert.ok(["stop", "completed", "end_turn"].includes(answer.finish), answer.finish);
  assert.ok(answer.id && answer.model);
});

eachCall("the object is parsed", { kind: "object" }, async (client, call) => {
  assert.deepEqual((await direct(client, call)).answer.parsed, table.object);
});

eachCall("the upstream sees the same request", {}, async (client, call) => {
  const [without] = (await makeCall(client, call, answerTo(call), { at: "lab", account: "same" })).upstream;
  const [behind] = (await makeCall(client, call, answerTo(call), { account: "same" })).upstream;
  assert.deepEqual([behind.target, behind.body], [without.target, without.body]);
  assert.deepEqual(travelling(behind.headers, ofTheHop), travelling(without.headers, ofTheHop));
  assert.match(behind.header("via") ?? "", /surgetank/);
});

eachCall("the vendor's headers arrive", {}, async (client, call) => {
  const without = (await direct(client, call)).exchanges[0];
  const [seen] = (await makeCall(client, call, answerTo(call), { account: "direct" })).exchanges;
  const added = [...seen.headers.keys()].filter((name) => name.startsWith("x-surgetank-"));
  const leftOut = new Set([...ofTheAnswer, ...added, "via", "server-timing"]);
  assert.equal(seen.status, without.status);
  assert.deepEqual(travelling(seen.headers, leftOut), travelling(without.headers, leftOut));
  assert.match(seen.headers.get("request-id") ?? seen.headers.get("x-request-id"), /^req_lab_/);
});
