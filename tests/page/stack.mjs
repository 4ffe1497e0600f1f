// What the page is shown: two fake vendors, surgetank before them, and a crowd.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const READY_WITHIN_MS = 15_000;

// A quota that a small crowd exceeds, and short waits: a storm of seconds instead of minutes.
const OPENAI = `
answer: { words: 8, first_token: 30ms, interval: 5ms }
quota: { rate: 10/s, burst: 10, rejects_cost: 0.2, per: all, hints: none }
`;
const ANTHROPIC = `
answer: { words: 8, first_token: 30ms, interval: 5ms }
quota: { rate: 50/s, burst: 100, per: all }
`;
const CONFIG = `
upstreams:
  openai: { base_url: "\${OPENAI_LAB}" }
  anthropic: { base_url: "\${ANTHROPIC_LAB}" }
routes:
  - { name: claude, match: { path: /v1/messages }, upstream: anthropic }
  - { name: chat, upstream: openai }
retry: { base: 300ms, cap: 2s, jitter: 200ms }
`;

export class Stack {
  #processes = [];
  #scratch = mkdtempSync(join(tmpdir(), "surgetank-page-"));

  static async start() {
    const stack = new Stack();
    const [openai, anthropic, listen, admin] = await Promise.all([port(), port(), port(), port()]);
    stack.proxy = `http://${listen}`;
    stack.admin = `http://${admin}`;
    stack.#run("lab", "--listen", openai, "--scenario", stack.#file("openai.yaml", OPENAI));
    stack.#run("lab", "--listen", anthropic, "--scenario", stack.#file("anthropic.yaml", ANTHROPIC));
    await Promise.all([openai, anthropic].map((lab) => answers(`http://${lab}/_lab/stats`)));
    const config = CONFIG.replace("${OPENAI_LAB}", `http://${openai}`).replace("${ANTHROPIC_LAB}", `http://${anthropic}`);
    stack.surgetank = stack.#run("run", "--config", stack.#file("surgetank.yaml", config), "--listen", listen, "--admin", admin);
    await answers(`${stack.admin}/readyz`);
    return stack;
  }

  async stop() {
    await Promise.all(this.#processes.map(end));
    rmSync(this.#scratch, { recursive: true });
  }

  state = async () => (await fetch(`${this.admin}/api/state`)).json();

  #file(name, text) {
    const path = join(this.#scratch, name);
    writeFileSync(path, text);
    return path;
  }

  #run(...args) {
    const child = spawn(process.env.SURGETANK_BIN, args, { stdio: ["ignore", "ignore", "pipe"] });
    child.said = "";
    child.stderr.on("data", (piece) => (child.said = (child.said + piece).slice(-20_000)));
    this.#processes.push(child);
    return child;
  }
}

export function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGINT");
  child.kill("SIGINT");
  return ended;
}

/** One caller's request. What it gets is not looked at here: the page has to tell. */
export async function ask(stack, { claude = false, user = "u", model, headers = {} } = {}) {
  const messages = [{ role: "user", content: "A question that must appear on no page." }];
  const body = claude ? { model: model ?? "claude-sonnet-5-5", max_tokens: 50, messages } : { model: model ?? "gpt-5", messages };
  const key = "sk-page-canary-key";
  const answer = await fetch(`${stack.proxy}${claude ? "/v1/messages" : "/v1/chat/completions"}`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-surgetank-user": `canary-user-${user}`, ...(claude ? { "x-api-key": key } : { authorization: `Bearer ${key}` }), ...headers },
    body: JSON.stringify(body),
  });
  await answer.text();
  return answer;
}

/** A steady stream of requests until it is told to end. */
export function traffic(stack, perSecond, make) {
  const under = new Set();
  let count = 0;
  const timer = setInterval(() => {
    const asked = ask(stack, make(count++)).catch(() => {});
    under.add(asked);
    asked.finally(() => under.delete(asked));
  }, 1000 / perSecond);
  return async () => {
    clearInterval(timer);
    await Promise.all(under);
  };
}

async function port() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port: free } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return `127.0.0.1:${free}`;
}

async function answers(url) {
  const deadline = Date.now() + READY_WITHIN_MS;
  for (;;) {
    const ready = await fetch(url).then((answer) => answer.ok, () => false);
    if (ready) return;
    if (Date.now() > deadline) throw new Error(`${url} does not answer`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}
