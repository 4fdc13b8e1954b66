// Every command that the pages show is one: its name, its flags, how many values they take, and the values that are no placeholders.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import type { Command } from "../commands/command.js";
import { COMMANDS } from "../commands/registry.js";
import { nameOf, type SettingValue } from "../settings/table.js";
import { readEntry } from "../settings/values.js";
import { ownWords, parseFlags } from "./flags.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PAGES = [
  "README.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "examples/tiny-moe/README.md",
  "examples/moby-dick/README.md",
  "examples/released/README.md",
].concat(
  readdirSync(join(ROOT, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
);

test("the site of the docs lists every page, and no other", async () => {
  // Loading it throws where a page of docs/ is in no list, or a listed one is missing.
  const { default: site } = (await import(new URL("../../.vitepress/config.mjs", import.meta.url).href)) as {
    default: { themeConfig: { sidebar: { items?: { link: string }[] }[] } };
  };
  const listed = site.themeConfig.sidebar.flatMap(({ items = [] }) => items.map(({ link }) => link));
  for (const page of PAGES.filter((page) => page.startsWith("docs/")))
    assert.ok(listed.includes(`/${page.slice(0, -3)}`), page);
});

interface Shown {
  page: string;
  line: string;
  /** Whether it can be pasted: from a block, and not from running text. */
  whole: boolean;
}

const CALL = /^(?:[A-Z_]+=\S+ )*(?:npx revmoe|revmoe|node dist\/cli\.js)(?: |$)/;

/** Calls in blocks of code, and in running text. */
function shownOn(page: string): Shown[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  const blocks = [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```|^ {4}(\S.*)$/gm)];
  const whole = blocks
    .filter(([, language = ""]) => ["", "sh", "bash"].includes(language))
    .flatMap(([, , block, indented]) => (block ?? indented).replaceAll(/\\\n\s*/g, "").split("\n"));
  const rest = text.replaceAll(/^```[\s\S]*?^```/gm, "");
  const inline = [...rest.matchAll(/`([^`]+)`/g)].map(([, code]) => code.replaceAll(/\s*\n\s*/g, " "));
  return [
    ...whole.map((line) => ({ page, line: line.trim().replace(/^\$ /, ""), whole: true })),
    ...inline.map((line) => ({ page, line, whole: false })),
  ].filter(({ line }) => CALL.test(line));
}

/** As a shell parts them, up to a comment, a pipe or a file. */
function wordsOf(line: string): string[] {
  const words: string[] = [];
  for (const [word] of line.replace(CALL, "").matchAll(/(?:"[^"]*"|'[^']*'|[^\s"'])+/g)) {
    if (/^(#|\||>|&&|;)/.test(word)) break;
    words.push(word.replaceAll(/["']/g, ""));
  }
  return words;
}

/** FOLDER, N, ..., a|b: what the reader has to fill in. */
const isPlaceholder = (value: SettingValue): boolean =>
  typeof value === "string" && /^[A-Z][A-Z_.]*$|\.\.\.|\|/.test(value);

async function check(words: string[], whole: boolean): Promise<void> {
  const [name, ...all] = words[0] === "help" ? words.slice(1) : words;
  if (name === undefined || name.startsWith("--") || isPlaceholder(name)) return;
  assert.ok(Object.hasOwn(COMMANDS, name), `${name} is a command`);
  const command = await COMMANDS[name].load();
  const { own, passed } = ownWords(
    command,
    all.filter((word) => word !== "..."),
  );
  if (passed.length > 0) await check([...passed], whole);
  if (own.includes("--help")) return;
  if (!whole) return flagsOf(own).forEach((flag) => assert.ok(isKnown(command, flag), `${flag} is a flag of ${name}`));
  const { flags } = parseFlags(command, own);
  for (const [each, value] of Object.entries(flags))
    if (!isPlaceholder(value)) readEntry(command.settings.rows[each], { name: each, value, text: null, place: null });
}

const flagsOf = (words: readonly string[]): string[] =>
  words.filter((word) => /^--[a-z]/.test(word)).map((word) => word.split("=")[0]);

const isKnown = ({ settings: { rows }, json }: Command, flag: string): boolean => {
  const name = nameOf(flag.slice(2));
  const positive = name.replace(/^no_/, "");
  return Object.hasOwn(rows, name) || rows[positive]?.kind === "boolean" || (flag === "--json" && json === true);
};

test("every call on the pages is one that the command line takes", async () => {
  const shown = PAGES.flatMap(shownOn);
  const pasted = shown.filter(({ whole }) => whole).length;
  for (const [name, { load }] of Object.entries(COMMANDS))
    for (const line of (await load()).example.split("\n"))
      shown.push({ page: `revmoe ${name} --help`, line, whole: true });
  assert.ok(pasted > 20 && shown.length > 60, `${pasted} of ${shown.length}`);
  const faults: string[] = [];
  for (const { page, line, whole } of shown) {
    try {
      await check(wordsOf(line), whole);
    } catch (failure) {
      faults.push(`${page}: ${line}\n    ${(failure as Error).message}`);
    }
  }
  assert.deepEqual(faults, []);
});

/** Of the scripts for development, and of every command. */
const FOREIGN = /^--(cpu|depths|corpus|help)$/;

test("every flag that running text names is one of some command", async () => {
  const commands: Command[] = [];
  for (const { load } of Object.values(COMMANDS)) commands.push(await load());
  const faults: string[] = [];
  for (const page of PAGES) {
    const text = readFileSync(join(ROOT, page), "utf8").replaceAll(/^```[\s\S]*?^```/gm, "");
    for (const [, code] of text.matchAll(/`(--[a-z][^`]*)`/g))
      for (const flag of flagsOf(code.split(/\s+/)))
        if (!commands.some((command) => isKnown(command, flag)) && !FOREIGN.test(flag))
          faults.push(`${page}: ${flag} (${code})`);
  }
  assert.deepEqual(faults, []);
});

test("faults in pages are found", async () => {
  for (const [line, whole] of [
    ["revmoe trian x.yaml", true],
    ["revmoe train --learnin-rate 1", false],
    ["revmoe train --learning-rate", true],
    ["revmoe train --method revers --model m", true],
    ["revmoe launch --nproc 2 trian", true],
    ["revmoe launch --nproc 2 train --no-such", false],
    ["npx revmoe plan --model m --max-length many", true],
  ] as const)
    await assert.rejects(check(wordsOf(line), whole), line);
  await check(wordsOf("LIBTORCH=/x revmoe train c.yaml --seed N --output-dir runs/a # more | x"), true);
});
