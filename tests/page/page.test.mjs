// The status page in a real browser, while a storm begins and ends.
//
// It is one story, told in order: a calm minute, a crowd above the quota, an outage, the end of both, and surgetank's
// own end. Pictures of it land in .cache/page/.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { chromium } from "playwright-core";

import { Stack, ask, end, traffic } from "./stack.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = process.env.PAGE_SHOTS ?? ".cache/page";
const SIZES = [360, 1440].flatMap((width) => ["light", "dark"].map((scheme) => ({ width, scheme })));
const PATIENCE = { timeout: 60_000 };

let stack, browser, page, calm;
const complaints = [];

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  stack = await Stack.start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // The sandbox needs rights that containers and root do not have; only our own page is opened.
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
  });
  page = await open({ width: 1440, scheme: "light" });
});

after(async () => {
  await browser?.close();
  await stack?.stop();
});

async function open({ width, scheme }) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme, reducedMotion: "reduce" });
  const opened = await context.newPage();
  opened.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  opened.on("pageerror", (error) => complaints.push(String(error)));
  opened.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
  await opened.goto(`${stack.admin}/`);
  await opened.locator('body[data-link="live"]').waitFor(PATIENCE);
  return opened;
}

const level = (wanted) => page.locator(`#headline[data-level="${wanted}"]`).waitFor(PATIENCE);
const textOf = (selector) => page.locator(selector).innerText();
const eventually = (what) => page.waitForFunction(what, undefined, PATIENCE);

test("a calm minute is told as one", async () => {
  calm = traffic(stack, 8, (n) => ({ claude: n % 2 === 0, user: n % 5 }));
  await level("calm");
  await eventually(() => /All is well\. .* being answered\./.test(document.getElementById("sentence").textContent));
  await eventually(() => document.querySelectorAll("#lanes .lane").length === 2);
  assert.match(await textOf("#lanes"), /openai · gpt-5[^]*anthropic · claude-sonnet-5-5/);
  assert.match(await textOf("#lanes"), /REQUESTS LEFT|Requests left/, "the vendor's own count of its quota");
  assert.equal(await page.locator("#charts canvas").count(), 3);
  assert.match(await page.locator("#charts .plot").first().getAttribute("aria-label"), /answered \d+/);
  assert.equal(await textOf("#waiters-empty"), "Nobody.");
});

test("a crowd above the quota shows at once, and whose fault it is", async () => {
  const storm = traffic(stack, 30, (n) => ({ user: n % 9 }));
  await level("busy");
  await eventually(() => Number(document.getElementById("figure-waiting").textContent) > 30);
  assert.match(await textOf("#sentence"), /openai (asks to slow down|takes requests more slowly)/);
  assert.equal(await textOf("#fault"), "Whose fault: the quota");
  assert.match(await textOf("#callers"), /\d+ wait now, the longest for/);
  assert.match(await textOf("#lanes .lane:first-child .pill"), /paced|full|gate closed|one asks/);
  assert.match(await textOf("#waiters li:first-child"), /user [0-9a-f]{8}\s+\d+ waiting/);
  assert.match(await page.title(), /^◐ /);
  await storm();
});

test("an outage is the vendor's, and what callers got is counted", async () => {
  const broken = { "x-lab-fault": "502", "x-surgetank-max-retries": "0" };
  await Promise.all([1, 2, 3].map(() => ask(stack, { claude: true, headers: broken })));
  await level("trouble");
  assert.match(await textOf("#sentence"), /^anthropic is failing \(3 of \d+ attempts lately\)\.$/);
  assert.equal(await textOf("#fault"), "Whose fault: the vendor");
  assert.match(await textOf("#callers"), /3 got a substitute/);
  assert.match(await textOf("#trouble li:first-child"), /anthropic failed \(502\): the caller got a substitute[^]*× 3/);
  const id = (await textOf("#trouble li:first-child small")).match(/last request ([0-9a-f]{32})/)?.[1];
  assert.ok(stack.surgetank.said.includes(id), "the id leads to the log");
});

for (const { width, scheme } of SIZES) {
  test(`at ${width} px, ${scheme}: all of it fits and can be used by everybody`, async () => {
    const view = await open({ width, scheme });
    await view.locator("#charts canvas").nth(2).waitFor(PATIENCE);
    const [inner, wide] = await view.evaluate(() => [window.innerWidth, document.documentElement.scrollWidth]);
    assert.ok(wide <= inner, `${wide} px of content in ${inner} px`);
    await view.locator("summary").first().click();
    await view.locator("#charts table tbody tr").first().waitFor(PATIENCE);
    // Evaluated from outside: the page's own policy lets no foreign script in.
    await view.evaluate(AXE);
    const { violations } = await view.evaluate(() => axe.run());
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map((node) => node.html.slice(0, 120))]), []);
    await view.locator("summary").first().click();
    await view.screenshot({ path: `${SHOTS}/page-${width}-${scheme}.png`, fullPage: true });
    await view.context().close();
  });
}

test("nothing that anybody wrote is on the page", async () => {
  const shown = await page.content();
  for (const secret of ["canary", "must appear on no page"]) assert.ok(!shown.includes(secret), secret);
});

test("what is over is told as over", async () => {
  await level("calm");
  await eventually(() => document.getElementById("figure-waiting").textContent === "0");
  assert.match(await textOf("#trouble"), /502/, "but what has been is not forgotten");
  await calm();
});

test("until here, the browser had nothing to complain of", () => assert.deepEqual(complaints, []));

test("an end of surgetank is seen, not guessed", async () => {
  await end(stack.surgetank);
  await page.locator('body[data-link="lost"]').waitFor(PATIENCE);
  assert.match(await textOf("#sentence"), /^No news from surgetank since \d\d:\d\d:\d\d\.$/);
});
