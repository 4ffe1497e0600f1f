// A stream breaks after it began: nobody takes the part for the whole.
import assert from "node:assert/strict";
import { makeCall, note } from "./call.mjs";
import { answerTo, direct, eachRow } from "./rows.mjs";

eachRow("the application is told", "broken", { streams: true }, async (client, call, fault) => {
  // The fault's parameters come behind the answer's own text where one is asked for.
  const [, ...text] = answerTo(call).split(";");
  const seen = await makeCall(client, call, [fault.fault, ...text].join(";"));
  note("5_midstream", client, call, fault.name, seen);

  assert.ok(seen.error, `a part was taken for the whole: ${JSON.stringify(seen.answer.text)}, ${seen.answer.finish}`);
  assert.ok(seen.seconds < 3, `${seen.seconds} s`);
  const { answer } = await direct(client, call);
  assert.ok(answer.text.startsWith(seen.answer.text), seen.answer.text);
  assert.deepEqual([seen.exchanges.length, seen.upstream.length], [1, 1], "what has begun cannot be tried again");
});
