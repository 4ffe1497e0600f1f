// What the proxy tells in headers can be read with the SDKs' own means.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { anthropic, raw as anthropicRaw } from "./anthropic.mjs";
import { makeCall, note } from "./call.mjs";
import { openai, raw as openaiRaw } from "./openai.mjs";
import { vercel } from "./vercel.mjs";

const headersOf = (answer) => answer.headers && new Headers(answer.headers);
const ways = [
  ...openaiRaw.map((call) => [openai, call, "openai"]),
  ...anthropicRaw.map((call) => [anthropic, call, "anthropic"]),
  ...vercel.map((client) => [client, client.calls[0], client.name === "ai/anthropic" ? "anthropic" : "openai"]),
];
const scripts = [
  ["healthy", "ok", "1", null],
  ["third try", "503,500,ok", "3", null],
  ["exhausted", "503*", "4", "reply"],
];

describe("what happened can be read", () => {
  for (const [client, call, upstream] of ways)
    for (const [name, script, attempts, substituted] of scripts)
      test(`${client.name} ${call.name} ${name}`, async () => {
        const seen = await makeCall(client, call, script);
        note("7_headers", client, call, name, seen);

        assert.ifError(seen.error);
        const headers = headersOf(seen.answer) ?? seen.answer.whole;
        assert.ok(seen.answer.text);
        assert.ok(headers.get("x-surgetank-request-id"));
        assert.equal(headers.get("x-surgetank-upstream"), upstream);
        assert.equal(headers.get("x-surgetank-attempts"), attempts);
        assert.equal(headers.get("x-surgetank-fallback"), substituted);
        assert.equal(Number(headers.get("x-surgetank-waited-ms") ?? 0) >= 20, attempts !== "1");
        assert.ok(headers.get("server-timing"));
      });
});

describe("request ids differ", () => {
  for (const [client, call] of ways)
    test(`${client.name} ${call.name}`, async () => {
      const ids = new Set();
      for (let round = 0; round < 3; round += 1) {
        const { answer } = await makeCall(client, call, "ok");
        ids.add((headersOf(answer) ?? answer.whole).get("x-surgetank-request-id"));
      }
      assert.equal(ids.size, 3);
      assert.ok(!ids.has(null));
    });
});
