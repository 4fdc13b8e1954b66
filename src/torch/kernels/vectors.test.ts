// That the compiler made vectors of every kernel's loops (native/kernels): arithmetic on the widest registers of each kind of CPU stands in the
// object file. A loop with a branch, or with a call that is not inlined, has none; such a kernel is slow and nothing else shows it.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { resolveEngine } from "../../../setup/libtorch.mjs";
import { kernelSources } from "./nvrtc.js";

/** Kernels that compute nothing in vectors, each with the reason: on which kind of CPU, or on all. */
const WITHOUT: readonly { name: RegExp; kind?: string; why: string }[] = [
  { name: /^store_plain$/, why: "it copies" },
  { name: /^(delta_after_float|gather_rows_.*)$/, why: "it copies" },
  { name: /^expert_(counts|places)$/, why: "it counts one choice after the other" },
  { name: /_int64(_|$)/, kind: "avx2", why: "AVX2 turns no 64-bit whole numbers into floats" },
];

const WIDEST = { avx2: "ymm", avx512: "zmm" };

const folder = dirname(resolveEngine().addon);
const names = [
  ...kernelSources()
    .join("")
    .matchAll(/^REVMOE_KERNEL\((\w+)/gm),
].map(([, name]) => name);
const noObjdump = spawnSync("objdump", ["--version"]).error !== undefined;

/** The instructions of each function of an object file. */
function functionsOf(file: string): Map<string, string> {
  const { stdout } = spawnSync("objdump", ["-d", "--no-show-raw-insn", file], { encoding: "utf8", maxBuffer: 2 ** 28 });
  return new Map(stdout.split(/^\w+ </m).map((text) => [text.slice(0, text.indexOf(">")), text]));
}

for (const [kind, register] of Object.entries(WIDEST)) {
  const file = join(folder, `kernels-${kind}.o`);
  const skip = (noObjdump && "no objdump") || (!existsSync(file) && `no ${file}`);
  test(`every kernel computes in ${register} registers`, { skip }, () => {
    const functions = functionsOf(file);
    // Not moves, zeros and the like, which stand beside a loop of single numbers too.
    const arithmetic = new RegExp(`\\tv(?!mov|p?xor|p?broadcast|perm|insert|extract)\\S+ .*%${register}`);
    const single = names.filter((name) => {
      const text = functions.get(`revmoe_${name}_${kind}`);
      assert.ok(text, `${name} is not in ${file}`);
      return !arithmetic.test(text);
    });
    const isKnown = (name: string): boolean =>
      WITHOUT.some((each) => each.name.test(name) && (each.kind ?? kind) === kind);
    assert.deepEqual(
      single.filter((name) => !isKnown(name)),
      [],
    );
    assert.ok(WITHOUT.every((each) => (each.kind ?? kind) !== kind || single.some((name) => each.name.test(name))));
  });
}
