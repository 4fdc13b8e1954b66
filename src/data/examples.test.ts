import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const EXAMPLES = new URL("../../examples/", import.meta.url);

test("the rows of examples/moby-dick are what make-data.mjs writes", async () => {
  const { makeData } = (await import(new URL("make-data.mjs", EXAMPLES).href)) as {
    makeData(name: string, folder: string): Record<"train" | "valid", string>;
  };
  const folder = mkdtempSync(join(tmpdir(), "revmoe-rows-"));
  try {
    const made = makeData("moby-dick", folder);
    for (const name of ["train", "valid"] as const) {
      const shipped = fileURLToPath(new URL(`moby-dick/${name}.jsonl`, EXAMPLES));
      assert.ok(readFileSync(made[name]).equals(readFileSync(shipped)), name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
