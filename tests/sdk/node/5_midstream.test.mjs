// A stream breaks, in every way and at every place: matrix.json says what each client makes of it, cell by cell.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { makeCall, matrix, nameOf, note, plain } from "./call.mjs";
import { saying } from "./lab.mjs";
import { clients, direct } from "./rows.mjs";

async function cell(client, call, row) {
  const well = saying(matrix.texts[call.kind]);
  const [, text] = well.split(";");
  const seen = await makeCall(client, call, `${row.script};${text},${well}`, { at: "hurried", headers: row.headers });
  note("5_midstream", client, call, `${row.fault} ${row.place}`, seen);

  const isRepeated = row.repeated?.includes(client.name) ?? false;
  const expected = isRepeated ? "answer" : row[call.dialect];
  assert.ok(seen.seconds < 20, `it hung: ${seen.seconds} s`);
  assert.equal(seen.exchanges.length, isRepeated ? 2 : 1, "what has begun cannot be tried again");
  assert.equal(seen.upstream.length, isRepeated || expected === "retried" ? 2 : 1);
  const { answer } = await direct(client, call, well);
  if (expected === "answer" || expected === "retried") {
    assert.ifError(seen.error);
    if (!row.script.startsWith("giant")) assert.deepEqual(plain(seen.answer), plain(answer));
    return;
  }
  assert.ok(seen.error, `a part was taken for the whole: ${JSON.stringify(seen.answer.text)}, ${seen.answer.finish}`);
  const names = expected === "raised" ? [nameOf(seen.error)] : matrix.errors[expected].node[client.family];
  assert.ok(names.includes(nameOf(seen.error)), `${nameOf(seen.error)}: ${seen.error.message}`);
  assert.ok(answer.text.startsWith(seen.answer.text), seen.answer.text);
}

describe("the cell is as the table says", { concurrency: 4 }, () => {
  for (const client of clients)
    for (const call of client.calls.filter((call) => call.streams))
      for (const row of matrix.rows)
        test(`${client.name} ${call.name} ${row.fault} ${row.place}`, () => cell(client, call, row));
});
