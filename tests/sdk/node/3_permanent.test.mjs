// Failures that no wait can mend: they arrive at once and as the vendor sent them.
import assert from "node:assert/strict";
import { nameOf, makeCall, note, plain } from "./call.mjs";
import { eachRow, official } from "./rows.mjs";
import { vercel } from "./vercel.mjs";

// What the SDKs call them. They have no class of their own for every status.
const classes = {
  400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError",
  422: "UnprocessableEntityError", 429: "RateLimitError", 501: "InternalServerError", 505: "InternalServerError",
  402: { openai: "APIError", anthropic: "PaymentRequiredError" },
  413: { openai: "APIError", anthropic: "ContentTooLargeError" },
};

eachRow("the error arrives at once and unchanged", "permanent", {}, async (client, call, fault) => {
  const seen = await makeCall(client, call, `${fault.fault},ok`, { account: `${client.family}-${call.name}` });
  note("3_permanent", client, call, fault.name, seen);

  const without = await makeCall(client, call, fault.fault, { at: "lab", maxRetries: 0 });
  assert.deepEqual(facts(seen), facts(without));
  const expected = classes[fault.status][client.family] ?? classes[fault.status];
  assert.ok(seen.error instanceof client.sdk[expected], `${nameOf(seen.error)} is no ${expected}`);
  assert.equal(seen.error.status, fault.status);
  assert.deepEqual([seen.exchanges.length, seen.upstream.length], [1, 1]);
  assert.ok(seen.seconds < 1, `${seen.seconds} s`);
  assert.equal(seen.header("x-surgetank-fallback"), undefined);
}, { among: official });

eachRow("Vercel: the error arrives unchanged", "permanent", {}, async (client, call, fault) => {
  const seen = await makeCall(client, call, `${fault.fault}*`);
  note("3_permanent", client, call, fault.name, seen);

  const error = seen.error.lastError ?? seen.error;
  assert.equal(nameOf(error), "AI_APICallError");
  assert.equal(error.statusCode, fault.status);
  const without = await makeCall(client, call, fault.fault, { at: "lab", maxRetries: 0 });
  assert.deepEqual(told(error), told(without.error));
  // Vercel knows no `x-should-retry`: it comes back twice, 2 and 4 s later, for every 429 and 5xx. The proxy adds nothing.
  const calls = fault.status === 429 || fault.status >= 500 ? 3 : 1;
  assert.deepEqual([seen.exchanges.length, seen.upstream.length], [calls, calls]);
}, { among: vercel, concurrency: 64 });

// Everything that an application can read from the error.
function facts({ error }) {
  assert.ok(error, "the call succeeded");
  const { status, message, code, type, param } = error;
  return plain({ name: nameOf(error), status, message, code, type, param, body: error.error });
}

function told({ statusCode, message, responseBody, data }) {
  return plain({ statusCode, message, responseBody, data });
}
