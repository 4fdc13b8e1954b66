// Pictures in docs/images/ that show what two commands print: the page of `revmoe data --html`, and the table of
// `revmoe plan`, light and dark. Needs Chromium (apt install chromium). Pictures of the dashboard show runs, and are
// taken by hand.
//   node experiments/pictures/pictures.mjs
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "revmoe-pictures-"));

/** @param {string[]} words */
function revmoe(...words) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, "dist/cli.js"), ...words], {
    cwd: folder,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

/** @param {string} name @param {string} text */
function file(name, text) {
  writeFileSync(join(folder, name), text);
  return name;
}

/** @param {string[]} contents of user and assistant in turn */
const conversation = (...contents) => ({
  messages: contents.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content })),
});

function dataPage() {
  const rows = [
    conversation(
      "What is the white whale called?",
      "Moby Dick.",
      "And who hunts it?",
      "Captain Ahab, with the crew of the Pequod.",
    ),
    conversation("Who tells the story?", "Ishmael, the only one of the crew who lives to tell it."),
    conversation("Where does the voyage begin?", "In Nantucket, on a cold Christmas Day."),
  ];
  file("chats.jsonl", rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  const template =
    "{% for message in messages %}{{ message.role + ': ' }}{% if message.role == 'assistant' %}{% generation %}{{ message.content }}" +
    "{% endgeneration %}{% else %}{{ message.content }}{% endif %}{{ '\\n' }}{% endfor %}";
  const model = join(root, "examples/tiny-moe");
  const shown = ["--rows", "3", "--max-length", "64", "--html", "rows.html"];
  revmoe("data", "chats.jsonl", "--model", model, "--chat-template", file("chat.jinja", template), ...shown);
  return join(folder, "rows.html");
}

/** @param {string} text */
const escaped = (text) =>
  // A browser breaks lines at hyphens; a terminal does not.
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("-", "\u2011");

function planPage() {
  file("config.json", readFileSync(join(root, "examples/released/qwen3-30b-a3b/config.json"), "utf8"));
  const machine = ["--gpu", "RTX 4090", "--memory", "64GiB", "--disk", "1TiB"];
  const printed = revmoe("plan", "--model", "config.json", ...machine).replaceAll("config.json", "Qwen3-30B-A3B");
  const typed = 'revmoe plan --model Qwen3-30B-A3B --gpu "RTX 4090" --memory 64GiB --disk 1TiB';
  const style =
    ":root { color-scheme: light dark } body { margin: 0; padding: 20px 24px; width: max-content; max-width: 1052px;" +
    "background: light-dark(#f6f8fa, #14171c); color: light-dark(#24292f, #d5dae1) }" +
    "pre { margin: 0; font: 13px/1.5 'DejaVu Sans Mono', monospace; white-space: pre-wrap }" +
    "b { color: light-dark(#0969da, #79b8ff); font-weight: 600 }";
  const html = `<!doctype html><meta charset="utf-8"><style>${style}</style><pre>$ <b>${escaped(typed)}</b>\n${escaped(printed.trimEnd())}</pre>`;
  return join(folder, file("plan.html", html));
}

const browser = await chromium.launch({
  executablePath: process.env.REVMOE_CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
for (const [name, page] of [
  ["data", dataPage()],
  ["plan", planPage()],
])
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    const opened = await browser.newPage({
      colorScheme,
      viewport: { width: 1100, height: 200 },
      deviceScaleFactor: 1.2,
    });
    await opened.goto(pathToFileURL(page).href);
    await opened.screenshot({ path: join(root, `docs/images/${name}-${colorScheme}.png`), fullPage: true });
    await opened.close();
  }
await browser.close();
rmSync(folder, { recursive: true });
