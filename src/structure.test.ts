// The tree is the architecture: imports go downhill between folders, none go in a circle, files stay short, and the docs
// that follow from tables agree with them.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

import { settingsMarkdown, settingsSchema } from "./train/settings/settings.js";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const SRC = join(ROOT, "src");

/** What a run is made of. */
const RUNS = "torch parallel settings data model families reversible optim checkpoint store network step".split(" ");

/** The folders from the bottom up, and what each may import from, beside itself and the shared files of src/ itself. */
const DOWNHILL: Record<string, string[]> = {
  torch: [],
  parallel: ["torch", "metrics"],
  settings: [],
  metrics: [],
  model: ["torch"],
  layers: ["torch", "model"],
  families: ["model", "layers"],
  reversible: ["torch", "settings"],
  optim: ["torch", "settings"],
  checkpoint: ["torch", "model", "families", "metrics"],
  data: ["metrics", "checkpoint"],
  hub: ["families", "data", "checkpoint", "metrics"],
  upcycle: ["torch", "model", "layers", "families", "checkpoint"],
  store: ["torch", "parallel", "model", "optim", "checkpoint"],
  network: ["torch", "parallel", "model", "families", "reversible", "data", "checkpoint", "store"],
  step: ["torch", "parallel", "model", "reversible", "optim", "data", "metrics", "checkpoint", "store", "network"],
  generate: ["torch", "model", "families", "reversible", "data", "checkpoint", "store", "network"],
  train: [...RUNS, "metrics", "hub", "generate"],
  eval: ["settings", "model", "families", "data", "checkpoint", "network", "train", "generate"],
  verify: ["torch", "model", "families", "optim", "data", "checkpoint", "upcycle", "network", "step", "train"],
  plan: [...RUNS, "metrics", "train", "generate"],
  compare: [...RUNS, "train"],
  library: [...RUNS, "metrics", "hub", "train", "generate", "plan"],
  dashboard: ["metrics", "checkpoint"],
};
const ALL = Object.keys(DOWNHILL);
/** Above all others: the command line, and the fuzzer, which looks into everything ("": also files of src/ itself). */
Object.assign(DOWNHILL, { commands: ALL, cli: [...ALL, "commands"], fuzz: [...ALL, "commands", "cli", ""] });
/** Files of src/ itself that any folder may use; the others (the command line) are above all folders. */
const SHARED = new Set(["errors", "format", "read-file"]);
const LONGEST_FILE = 400;
const MOST_FILES = 25;

const isTest = (file: string): boolean => file.endsWith(".test.ts") || file.includes("/testing-");
const files = readdirSync(SRC, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const folderOf = (file: string): string => (file.includes("/") ? file.slice(0, file.indexOf("/")) : "");

/** Of values and of types. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(SRC, file), "utf8");
  const found = text.matchAll(/(?:^|\n)(?:import|export)\s+(?:[^"';]*?from\s+)?"(\.[^"]+)"/g);
  return [...found]
    .map(([, path]) => relative(SRC, resolve(SRC, dirname(file), path)).replace(/\.js$/, ".ts"))
    .filter((path) => !path.startsWith(".."));
}

test("imports go downhill", () => {
  for (const file of files.filter((each) => !isTest(each) && folderOf(each) !== "")) {
    const allowed = DOWNHILL[folderOf(file)];
    assert.ok(allowed, `${file}: a new folder needs a place in the order of imports`);
    for (const path of importsOf(file)) {
      const to = folderOf(path);
      const isShared = to === "" && SHARED.has(path.replace(/\.ts$/, ""));
      const fine = isShared || to === folderOf(file) || allowed.includes(to);
      assert.ok(fine, `${file} imports ${path}`);
    }
  }
});

/** The first circle that imports make among the files; undefined where there is none. */
function circleOf(some: readonly string[], importsFrom: (file: string) => string[]): string[] | undefined {
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string[] | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
    if (done.has(file)) return undefined;
    done.add(file);
    for (const next of importsFrom(file)) {
      const circle = some.includes(next) ? visit(next, [...path, file]) : undefined;
      if (circle) return circle;
    }
    return undefined;
  };
  for (const file of some) {
    const circle = visit(file, []);
    if (circle) return circle;
  }
  return undefined;
}

test("a circle of imports is found", () => {
  const lines: Record<string, string[]> = { a: ["b", "c"], b: ["c"], c: ["d"], d: [], e: ["f"], f: ["e"] };
  assert.equal(
    circleOf(["a", "b", "c", "d"], (file) => lines[file]),
    undefined,
  );
  assert.deepEqual(
    circleOf(Object.keys(lines), (file) => lines[file]),
    ["e", "f", "e"],
  );
  assert.deepEqual(
    circleOf(["a", "c"], (file) => ({ a: ["c"], c: ["c"] })[file] ?? []),
    ["c", "c"],
  );
});

test("no imports go in a circle, nor do those of types", () => {
  const text = (circle: string[] | undefined): string => circle?.join(" -> ") ?? "";
  assert.equal(text(circleOf(files, importsOf)), "");
});

test("no folder holds more than a person can look through", () => {
  const counts = new Map<string, number>();
  for (const file of files) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
  for (const [folder, count] of counts) assert.ok(count <= MOST_FILES, `${folder}: ${count} files`);
});

test("only src/torch touches the addon", () => {
  for (const file of files.filter((each) => folderOf(each) !== "torch" && !isTest(each))) {
    assert.ok(!importsOf(file).includes("torch/binding.ts"), file);
  }
});

test("files are short and open with what they are for", () => {
  for (const file of files) {
    const lines = readFileSync(join(SRC, file), "utf8").split("\n");
    assert.ok(isTest(file) || lines.length <= LONGEST_FILE, `${file}: ${lines.length} lines`);
    const opening = lines[0].startsWith("#!") ? lines[1] : lines[0];
    if (!isTest(file)) assert.match(opening, /^\/\/ \S/, `${file} has no opening comment`);
  }
});

test("docs/settings.md and its schema are what the table of settings says", () => {
  const written = readFileSync(join(ROOT, "docs/settings.md"), "utf8");
  assert.ok(written.includes(settingsMarkdown().trim()), "run: node dist/docs.js");
  assert.equal(
    readFileSync(join(ROOT, "docs/settings.schema.json"), "utf8"),
    settingsSchema(),
    "run: node dist/docs.js",
  );
});

/** Campaigns that end runs look inside, as the tests do; pictures are taken by a browser. */
const NOT_THE_LIBRARY = /^experiments\/(frontier\/kill|trust\/cuts|pictures\/pictures)\.mjs$/;

test("experiments and examples import the public library alone", () => {
  for (const folder of ["experiments", "examples"]) {
    const scripts = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
    for (const script of scripts.filter((name) => name.endsWith(".mjs"))) {
      const text = readFileSync(join(ROOT, folder, script), "utf8");
      for (const [, path] of text.matchAll(/(?:from|import\()\s*"([^"]+)"/g)) {
        const isOwn = path === "revmoe" || path.startsWith("node:") || /^[.].*[.]mjs$/.test(path);
        assert.ok(isOwn || NOT_THE_LIBRARY.test(`${folder}/${script}`), `${folder}/${script}: ${path}`);
      }
    }
  }
});

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const foldersOf = (path: string): string[] =>
  readdirSync(join(ROOT, path), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);

test("the tree in the README is the tree on disk", () => {
  const [, tree] = readme.match(/## The tree\n\n```\n([\s\S]*?)```/) ?? [];
  assert.ok(tree, "README.md has a tree");
  const shown = [...tree.matchAll(/^( *)([\w-]+)\/(?: |$)/gm)].map(([, indent, name]) => ({ indent, name }));
  const at = (depth: number): string[] => shown.filter(({ indent }) => indent.length === depth).map(({ name }) => name);
  const ignored = readFileSync(join(ROOT, ".gitignore"), "utf8")
    .split("\n")
    .map((line) => line.replace(/\/$/, ""));
  // What git ignores comes and goes; names with a star there are folders of builds.
  const isOurs = (name: string): boolean =>
    !name.startsWith(".") && name !== "shared" && !ignored.includes(name) && !name.startsWith("dist-");
  // In a worktree the ignored folders may be links, which are no folders here.
  assert.deepEqual(at(0).sort(), foldersOf("").filter(isOurs).sort(), "top level");
  assert.deepEqual(at(2).sort(), [...foldersOf("src"), ...foldersOf("native")].sort(), "src and native");
});

const pages = ["", "docs/", "examples/", "examples/tiny-moe/", "examples/moby-dick/", "examples/released/"].flatMap(
  (folder) =>
    readdirSync(join(ROOT, folder))
      .filter((name) => name.endsWith(".md"))
      .map((name) => folder + name),
);

test("links between the pages lead somewhere", () => {
  for (const page of pages) {
    const text = readFileSync(join(ROOT, page), "utf8");
    for (const [, link] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      assert.ok(existsSync(join(ROOT, dirname(page), link)), `${page}: ${link}`);
    }
  }
});

test("files and tests that the pages name are there", () => {
  const tests = files.filter((file) => file.endsWith(".test.ts")).map((file) => file.replace(/\.ts$/, ".js"));
  for (const page of pages.filter((name) => name !== "LOG.md")) {
    const text = readFileSync(join(ROOT, page), "utf8");
    for (const [, path] of text.matchAll(/`((?:src|native|setup|experiments|examples|test|docs)\/[\w./-]+\.\w+)`/g)) {
      assert.ok(path.includes("NAME") || existsSync(join(ROOT, path)), `${page}: ${path}`);
    }
    for (const [, words] of text.matchAll(/npm test -- ([\w/ -]+)`/g)) {
      for (const word of words.split(" ")) {
        assert.ok(
          tests.some((file) => file.includes(word)),
          `${page}: npm test -- ${word}`,
        );
      }
    }
  }
});
