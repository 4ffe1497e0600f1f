// The fake API as the tests command it: scripts go in by header, what it saw comes out of `/_lab/requests`.

export const stack = JSON.parse(process.env.SDK_STACK ?? "null");
if (!stack) {
  console.error("these tests need the running binary: start them by tests/sdk/run node [ARGS]");
  process.exit(64);
}

// What arrived with this `x-lab-key`, oldest first.
export async function upstreamCalls(key) {
  const answer = await fetch(`${stack.lab}/_lab/requests?key=${key}`);
  const { requests } = await answer.json();
  return requests.map(({ target, headers, body_sha256, played, outcome }) => ({
    target, headers, body: body_sha256, played, outcome,
    header: (name) => headers.find(([field]) => field.toLowerCase() === name)?.[1],
  }));
}

// The fault on this and every later call: `503;retry-after=1` becomes `503*;retry-after=1`.
export function forever(fault) {
  const [name, ...parameters] = fault.split(";");
  return [`${name}*`, ...parameters].join(";");
}

// A healthy answer with this text. `encodeURIComponent` leaves some marks alone, none of which the script minds.
export const saying = (text) => `ok;text=${encodeURIComponent(text)}`;
