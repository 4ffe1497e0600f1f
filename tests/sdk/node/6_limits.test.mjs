// A user who asks too fast is told so by the proxy, in the words of the vendor.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { makeCall, nameOf, note } from "./call.mjs";
import { clients } from "./rows.mjs";

async function twice(client, options = {}) {
  const account = randomUUID();
  const first = await makeCall(client, client.calls[0], "ok", { at: "limited", account, ...options });
  return [first, await makeCall(client, client.calls[0], "ok", { at: "limited", account, ...options })];
}

function eachClient(title, body) {
  describe(title, { concurrency: clients.length }, () => {
    for (const client of clients) test(client.name, () => body(client));
  });
}

eachClient("the second call is told to wait", async (client) => {
  const [first, second] = await twice(client, { maxRetries: 0 });
  note("6_limits", client, client.calls[0], "own limit, no retries", second);

  assert.ifError(first.error);
  if (client.family === "vercel") assert.equal(second.error.statusCode, 429);
  else assert.ok(second.error instanceof client.sdk.RateLimitError, nameOf(second.error));
  assert.ok(Number(second.header("retry-after")) >= 1);
  assert.deepEqual(second.upstream, [], "the upstream is spared");
  const body = second.error.error ?? second.error.data;
  assert.equal((body.error ?? body).type, "rate_limit_error");
});

eachClient("its fields can be read", async (client) => {
  const [, second] = await twice(client, { maxRetries: 0 });
  assert.match(second.header("ratelimit") ?? "", /"[^"]+";r=0/);
  assert.match(second.header("ratelimit-policy") ?? "", /"[^"]+";q=\d+/);
});

eachClient("the SDK comes back by itself", async (client) => {
  const [, second] = await twice(client);
  note("6_limits", client, client.calls[0], "own limit", second);

  assert.ifError(second.error);
  assert.deepEqual(second.exchanges.map(({ status }) => status), [429, 200]);
  assert.equal(second.upstream.length, 1);
  // `retry-after` is in whole seconds; every SDK takes the exact `retry-after-ms` before it.
  const told = Number(second.exchanges[0].headers.get("retry-after-ms")) / 1000;
  assert.ok(told > 0 && told <= Number(second.exchanges[0].headers.get("retry-after")), `${told} s`);
  assert.ok(second.seconds >= told && second.seconds < told + 3, `${second.seconds} s, told ${told} s`);
});

eachClient("another user is not touched", async (client) => {
  for (let user = 0; user < 3; user += 1)
    assert.ifError((await makeCall(client, client.calls[0], "ok", { at: "limited", maxRetries: 0 })).error);
});
