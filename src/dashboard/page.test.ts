// The page in a real browser: Chromium without a window, driven by playwright-core. Skipped where there is none.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";

import { takeLock } from "../checkpoint/run/lock.js";
import { startDashboard } from "./server.js";
import { addLine, addText, makeFolder, makeRun, stepLine } from "./testing-runs.js";

const BROWSERS = [
  process.env.REVMOE_CHROMIUM ?? "",
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];
const executablePath = BROWSERS.find((path) => path !== "" && existsSync(path));
const skip = executablePath === undefined && "no Chromium (apt install chromium, or set REVMOE_CHROMIUM)";

let browser: Browser | null = null;
before(async () => {
  // In a container, root has no sandbox; all that is opened is our own page.
  if (!skip) browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(() => browser?.close());

/** A page of these runs; what it asks of another host, and every error in it, fails the test. */
async function opened(t: TestContext, folders: string[], options: object = {}): Promise<Page> {
  const dashboard = await startDashboard(folders, 0);
  const context = await (browser as Browser).newContext({ viewport: { width: 1300, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong: string[] = [];
  page.on("request", (request) => request.url().startsWith(dashboard.url) || wrong.push(request.url()));
  page.on("pageerror", (failure) => wrong.push(String(failure.stack)));
  page.on("console", (line) => line.type() === "error" && wrong.push(line.text()));
  t.after(async () => {
    await context.close();
    await dashboard.close();
    assert.deepEqual(wrong, []);
  });
  await page.goto(dashboard.url);
  return page;
}

const textOf = (page: Page, selector: string): Promise<string> => page.locator(selector).first().innerText();

test("all of a run is there, and what comes while it trains comes to the page", { skip }, async (t) => {
  const folder = makeFolder(t);
  makeRun(folder, "other", 4);
  const dir = makeRun(folder, "at-work", 10);
  const lock = takeLock(dir);
  t.after(() => lock.release());
  const page = await opened(t, [folder]);
  await page.getByText("10 of 20").first().waitFor();
  assert.equal(await textOf(page, "#detail-name"), "at-work");
  assert.match(await textOf(page, "#detail-state"), /^Training, last line/);
  const figures = (await textOf(page, "#figures")).replaceAll(/\s+/g, " ");
  assert.match(
    figures,
    /Loss 3\.0000 .*Held-out loss 2\.2500 .*Tokens per second 1,234 .*Peak memory 1000 B 1000 B planned/,
  );
  assert.equal(await page.locator(".chart canvas").count(), 6);
  const memory = await page.locator("#memory-body tr").allInnerTexts();
  assert.deepEqual(memory.at(-1)?.split("\t"), ["Peak", "1000 B", "1000 B", "none"]);
  assert.ok(
    memory.some((row) => row.startsWith("Working set\t210 B\t210 B\tnone")),
    memory.join("\n"),
  );
  assert.match(await textOf(page, "#samples-body"), /Step 10\s+Call me <b>Ishmael<\/b>\./);
  assert.match(await textOf(page, "#log-body"), /Warning: a spike/);
  assert.deepEqual(await page.locator("#settings-body tr.differ").allInnerTexts(), ["learning_rate\t0.001\t0.0004"]);
  assert.match(await textOf(page, "#experts-body"), /Step 10, layer 0: busiest expert 1\.00 × its even share/);

  addText(dir, "torn\n");
  addLine(dir, stepLine(11));
  await page.getByText("11 of 20").first().waitFor();
  assert.match(await textOf(page, "#log-body"), /line 14 of metrics\.jsonl is no event and left out/);
  makeRun(folder, "new", 2);
  await page.getByRole("button", { name: "new" }).click();
  await page.getByText("2 of 4").first().waitFor();
  assert.equal(await textOf(page, "#detail-name"), "new");
});

test("by keys alone: shortcuts, charts step by step, theme, next run", { skip }, async (t) => {
  const folder = makeFolder(t);
  for (const name of ["a", "b"]) makeRun(folder, name, 6);
  const page = await opened(t, [folder], { colorScheme: "light" });
  await page.locator(".chart canvas").first().waitFor();
  const chosen = await textOf(page, "#detail-name");
  await page.keyboard.press("j");
  assert.notEqual(await textOf(page, "#detail-name"), chosen);
  await page.keyboard.press("?");
  assert.match(await textOf(page, "dialog[open]"), /Theme: system, light, dark/);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  const ground = (): Promise<unknown> => page.evaluate("getComputedStyle(document.body).backgroundColor");
  const light = await ground();
  await page.keyboard.press("t");
  assert.equal(await ground(), light);
  await page.keyboard.press("t");
  assert.notEqual(await ground(), light);
  await page.locator(".plot").first().focus();
  for (const [key, step] of [
    ["ArrowLeft", 5],
    ["Home", 1],
    ["ArrowRight", 2],
    ["End", 6],
  ] as const) {
    await page.keyboard.press(key);
    assert.match(await textOf(page, ".tip:not([hidden])"), new RegExp(`^Step ${step}\\b`), key);
  }
  await page.locator("#experts-body canvas").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowLeft");
  assert.match(
    await textOf(page, "#experts-body"),
    /Step 5, layer 1: busiest expert 1\.50 × its even share; 1 without a token/,
  );
});

/** Text whose contrast with the ground that it stands on is below what WCAG asks for (AA). */
const FAINT = `(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const groundOf = (element) => { for (let at = element; at; at = at.parentElement) { const color = getComputedStyle(at).backgroundColor; if (channels(color)[3] !== 0) return color; } return "rgb(255, 255, 255)"; };
  return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility() && [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim())).map((each) => {
    const [a, b] = [light(getComputedStyle(each).color), light(groundOf(each))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), each.textContent.slice(0, 40)];
  }).filter(([contrast]) => contrast < 4.5);
})()`;

for (const colorScheme of ["light", "dark"] as const) {
  test(`${colorScheme}: all text can be read, and on a phone nothing is wider than the screen`, { skip }, async (t) => {
    const folder = makeFolder(t);
    makeRun(folder, "a-run-with-quite-a-long-name-that-goes-on-and-on", 3);
    makeRun(folder, "b", 5);
    const page = await opened(t, [folder], { colorScheme, viewport: { width: 360, height: 740 } });
    await page.locator(".chart canvas").first().waitFor();
    assert.deepEqual(await page.evaluate(FAINT), []);
    assert.equal(await page.evaluate("document.documentElement.scrollWidth"), 360);
  });
}

test("a tooltip between steps says the nearest; zooming into one chart zooms into all, and Esc ends it", {
  skip,
}, async (t) => {
  const folder = makeFolder(t);
  makeRun(folder, "a", 20);
  const page = await opened(t, [folder]);
  const over = page.locator(".u-over").first();
  await over.waitFor();
  const { x, y, width } = (await over.boundingBox()) as { x: number; y: number; width: number };
  // From step 0.5 to 20.5, as the charts are.
  const at = (step: number): number => x + (width * (step - 0.5)) / 20;
  await page.mouse.move(at(7.4), y + 50);
  assert.match(await textOf(page, ".tip:not([hidden])"), /^Step 7\s+a\s+3\.3000$/);
  const widths = (): Promise<unknown> =>
    page.evaluate("[...document.querySelectorAll('.u-select')].map((each) => each.offsetWidth > 0)");
  await page.mouse.move(at(4.7), y + 50);
  await page.mouse.down();
  await page.mouse.move(at(9.3), y + 60, { steps: 4 });
  assert.deepEqual(await widths(), Array(6).fill(true));
  await page.mouse.up();
  // The place of step 7 is now in the middle.
  await page.mouse.move(x + width / 2, y + 50);
  assert.match(await textOf(page, ".tip:not([hidden])"), /^Step 7\b/);
  await page.mouse.move(x + width - 2, y + 50);
  assert.match(await textOf(page, ".tip:not([hidden])"), /^Step 9\b/);
  await page.keyboard.press("Escape");
  await page.mouse.move(at(20), y + 50);
  assert.match(await textOf(page, ".tip:not([hidden])"), /^Step 20\b/);
});

test("a folder without runs, and a run before its first line, say so", { skip }, async (t) => {
  const folder = makeFolder(t);
  const page = await opened(t, [folder]);
  await page.getByText("No run here yet").waitFor();
  assert.match(await textOf(page, "#notes"), /no run is in this folder yet/);
  makeRun(join(folder, "group"), "begun", 0);
  await page.getByRole("button", { name: "begun" }).waitFor();
  assert.match(await textOf(page, "#memory-body"), /Planned/);
  assert.match(await textOf(page, ".chart"), /Nothing yet: this comes with the first step/);
});
