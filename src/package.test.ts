// What npm would pack: all that an installed package reads when it builds its engine and compiles its kernels, and nothing that only tests need.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { packageRoot } from "../setup/libtorch.mjs";

const listed = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts", "--offline"], {
  cwd: packageRoot,
  encoding: "utf8",
});
const skip = listed.error !== undefined && "no npm";
const packed = skip
  ? []
  : (JSON.parse(listed.stdout) as { files: { path: string }[] }[])[0].files.map(({ path }) => path);

test("native/ is packed, but for the emulated GPU", { skip }, () => {
  const native = readdirSync(join(packageRoot, "native"), { recursive: true, encoding: "utf8" });
  const needed = native.filter((name) => /\.(h|[ch]pp)$/.test(name) && !name.startsWith("emulated/"));
  assert.ok(needed.includes("kernels/kernel.h"));
  assert.deepEqual(
    packed.filter((path) => path.startsWith("native/")).sort(),
    needed.map((name) => `native/${name}`).sort(),
  );
});

test("what setup/ imports is packed with it", { skip }, () => {
  const scripts = packed.filter((path) => /^(setup|bin)\/.*\.mjs$/.test(path));
  assert.ok(scripts.includes("setup/build.mjs"));
  for (const script of scripts) {
    const text = readFileSync(join(packageRoot, script), "utf8");
    for (const [, path] of text.matchAll(/(?:from |import\()"(\.[^"]+)"/g))
      assert.ok(packed.includes(join(script, "..", path)), `${script} imports ${path}`);
  }
});

test("the dashboard's page is packed, with all that it names", { skip }, () => {
  const files = packed.filter((path) => path.startsWith("page/"));
  assert.ok(files.includes("page/index.html"));
  for (const file of files) {
    const text = readFileSync(join(packageRoot, file), "utf8");
    for (const [, name] of text.matchAll(/(?:"\/page\/|from "\.\/)([\w.-]+)"/g)) {
      // From their package, by the server.
      if (!name.startsWith("uplot.")) assert.ok(files.includes(`page/${name}`), `${file}: ${name}`);
    }
  }
});

test("no test is packed, nor what only tests use", { skip }, () => {
  assert.deepEqual(
    packed.filter((path) => /\.test\.|\/testing-|^(src|test|experiments|native\/emulated|dist\/fuzz)\//.test(path)),
    [],
  );
});
