// One upstream call fails and the next is well: the application does not notice.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { makeCall, note, plain } from "./call.mjs";
import { answerTo, clients, direct, eachRow } from "./rows.mjs";

eachRow("the caller sees nothing", "transient", {}, async (client, call, fault) => {
  const without = await direct(client, call);
  const seen = await makeCall(client, call, `${fault.fault},${answerTo(call)}`);
  note("2_transient", client, call, fault.name, seen);

  assert.ifError(seen.error);
  assert.deepEqual(plain(seen.answer), plain(without.answer));
  assert.deepEqual(seen.upstream.map(({ played }) => played), [fault.fault.split(";")[0], "ok"]);
  assert.equal(seen.exchanges.length, 1, "the SDK had to retry");
  assert.equal(seen.header("x-surgetank-attempts"), "2");
  const [first, second] = seen.upstream.map(({ target, body, headers }) => ({ target, body, headers }));
  assert.deepEqual(first, second);
  // Vercel tells no count.
  assert.equal(seen.upstream[1].header("x-stainless-retry-count"), client.family === "vercel" ? undefined : "0");
}, { concurrency: 4 });

describe("retry-after is obeyed", { concurrency: clients.length }, () => {
  for (const client of clients)
    test(client.name, async () => {
      const [call] = client.calls;
      const seen = await makeCall(client, call, `429;retry-after=1,${answerTo(call)}`);
      note("2_transient", client, call, "429, retry-after: 1", seen);

      assert.ifError(seen.error);
      assert.ok(seen.seconds >= 1 && seen.seconds < 3, `${seen.seconds} s`);
      assert.deepEqual([seen.exchanges.length, seen.upstream.length], [1, 2]);
      assert.ok(Number(seen.header("x-surgetank-waited-ms")) >= 1000);
    });
});
