// The site of these pages: npm run docs:site. Pages are README.md and docs/*.md as they are; a link that leads nowhere, and
// a page that no list names, fail the build. Files that pages link to and that are no pages are copied beside them.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Every page of docs/, by what a reader wants. */
const PAGES = {
  "Fine-tuning": ["guide", "first-settings", "data", "prepared-rows", "course", "settings", "stability", "router", "revffn"],
  Machines: ["tiers", "ranks", "hub", "docker"],
  "Runs and results": ["runs", "dashboard", "reporting", "checkpoints", "quality", "results", "benchmarks"],
  "Programs and shells": ["library", "shell"],
  "How it is made": ["architecture", "extending", "dependencies", "fuzzing"],
};

const OTHERS = ["CHANGELOG.md", "LOG.md", "CONTRIBUTING.md", "SECURITY.md"];
const EXAMPLES = ["tiny-moe", "moby-dick", "released"].map((name) => `examples/${name}/README.md`);

const named = Object.values(PAGES).flat();
const there = readdirSync(join(ROOT, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => name.slice(0, -3));
for (const name of there)
  if (!named.includes(name)) throw new Error(`docs/${name}.md is in no list of .vitepress/config.mjs`);

const titleOf = (page) => /^# (.*)$/m.exec(readFileSync(join(ROOT, page), "utf8"))?.[1].replaceAll("`", "") ?? page;

/** Targets of links that are files and no pages, in all pages. */
function linkedFiles() {
  const pages = ["README.md", ...OTHERS, ...EXAMPLES, ...named.map((name) => `docs/${name}.md`)];
  return pages.flatMap((page) =>
    [...readFileSync(join(ROOT, page), "utf8").matchAll(/\]\(([^)#:]+)\)/g)]
      .map(([, link]) => join(dirname(page), link))
      .filter((path) => !path.endsWith(".md")),
  );
}

export default {
  title: "RevMoE",
  description: "Fine-tune all parameters of Mixture-of-Experts language models on one machine",
  srcDir: ".",
  srcExclude: ["!(README|CHANGELOG|LOG|CONTRIBUTING|SECURITY).md", "!(docs|examples)/**/*.md"],
  rewrites: { "README.md": "index.md", "examples/:name/README.md": "examples/:name/index.md" },
  outDir: "build/site",
  cacheDir: "build/site-cache",
  // Relative links work wherever the site lies.
  base: process.env.DOCS_BASE ?? "/",
  themeConfig: {
    outline: [2, 3],
    search: { provider: "local" },
    sidebar: [
      { text: "RevMoE", link: "/" },
      ...Object.entries(PAGES).map(([text, pages]) => ({
        text,
        items: pages.map((name) => ({ text: titleOf(`docs/${name}.md`), link: `/docs/${name}` })),
      })),
      { text: "More", items: OTHERS.map((page) => ({ text: titleOf(page), link: `/${page.slice(0, -3)}` })) },
    ],
  },
  buildEnd({ outDir }) {
    for (const path of linkedFiles()) {
      if (!existsSync(join(ROOT, path))) throw new Error(`a page links to ${path}, which is not there`);
      mkdirSync(join(outDir, dirname(path)), { recursive: true });
      cpSync(join(ROOT, path), join(outDir, path), { recursive: true });
    }
  },
};
