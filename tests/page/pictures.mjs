// The pictures of docs/: a quarter of an hour in the life of a small service, at its own speed.

import { chromium } from "playwright-core";

import { Stack, ask, traffic } from "./stack.mjs";

const MINUTE = 60_000;
const [, , docs] = process.argv;
const stack = await Stack.start();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-dev-shm-usage"] });

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const calm = traffic(stack, 9, (n) => ({ claude: n % 3 === 0, user: n % 11 }));

/** More callers, more and more of them, then fewer. */
async function wave(minutes, peak) {
  for (const part of [0.4, 0.8, 1, 0.7, 0.3]) {
    const some = traffic(stack, peak * part, (n) => ({ user: n % 23 }));
    await sleep((minutes * MINUTE) / 5);
    some();
  }
}

/** A vendor's bad minute: now and then an error, which a retry makes up for. */
async function badMinute(minutes) {
  const until = Date.now() + minutes * MINUTE;
  for (let n = 0; Date.now() < until; n++) {
    ask(stack, { claude: true, user: n % 11, headers: { "x-lab-script": "529,ok", "x-lab-key": `bad-${n}` } }).catch(() => {});
    await sleep(700);
  }
}

await sleep(3.5 * MINUTE);
await wave(2, 9);
await sleep(2 * MINUTE);
await badMinute(1.5);
await sleep(2 * MINUTE);
for (let n = 0; n < 4; n++) await ask(stack, { claude: true, headers: { "x-lab-fault": "400" } });
await sleep(1.5 * MINUTE);
const rush = wave(2.5, 16);
await sleep(1.4 * MINUTE);

for (const width of [360, 1440]) {
  for (const colorScheme of ["light", "dark"]) {
    const context = await browser.newContext({ viewport: { width, height: width === 360 ? 1400 : 900 }, colorScheme, reducedMotion: "reduce" });
    const page = await context.newPage();
    await page.goto(`${stack.admin}/`);
    await page.locator("#charts canvas").nth(2).waitFor();
    await page.screenshot({ path: `${docs}/page-${width}-${colorScheme}.png`, fullPage: width !== 360 });
    await context.close();
  }
}
await browser.close();
await rush;
await calm();
await stack.stop();
