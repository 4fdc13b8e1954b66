// The emulated GPU (native/emulated): that it finds what a GPU would do wrong, in kernels that have a fault each (test/kernels), and that our own
// kernels have none, in a few small tests of theirs. `npm run emulate -- WORDS` runs any others.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";

import { packageRoot } from "../../../setup/libtorch.mjs";

/** Small tests that launch every kernel; each operator once, then what has values to compare. */
const OWN = [
  ...["torch/ops/rules.test", "torch/ops/activations.test", "optim/adamw.test", "optim/references.test"],
  ...["reversible/streams.test", "reversible/loss-kernels.test", "layers/passes.test"],
];

const FAULTS: Record<string, RegExp> = {
  lonely_barrier: /block 0: of 256 threads, 1 wait at a barrier, 0 in a shuffle, 255 are done/,
  half_a_warp: /block 0: of 256 threads, 0 wait at a barrier, 16 in a shuffle, 240 are done/,
  unsynced: /thread \d+ reads memory that another thread wrote, with no barrier between \(addr2line -Cifse .*faulty 0x/,
  all_write: /thread \d+ writes memory that another thread wrote, with no barrier between/,
  reused: /thread 0 writes shared memory that another thread reads, with no barrier between/,
  neighbours: /block 1: thread 0 writes memory that another item reads/,
  behind: /block 0: thread 0 reads memory that another item wrote/,
  unwritten: /reads shared memory that its item has not written/,
  too_far: /writes memory outside of every tensor/,
  of_the_host: /reads memory outside of every tensor/,
  misaligned: /reads memory at an address that is no multiple of the value's size/,
  past_an_array: /index 4 is outside of an array \(.*faulty\.cpp:\d+\)/,
  no_such_kernel: /not among the emulated kernels/,
};

const emulate = join(packageRoot, "setup/emulate.mjs");
const { buildEmulated } = (await import(emulate)) as {
  buildEmulated(source: string, target: string, link: string[]): Promise<void>;
};

let said = "";

before(async () => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-emulated-"));
  try {
    const program = join(folder, "faulty");
    await buildEmulated(join(packageRoot, "test/kernels/faulty.cpp"), program, []);
    said = spawnSync(program, { encoding: "utf8" }).stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
});

for (const [name, words] of Object.entries(FAULTS)) {
  test(`a kernel's fault is found: ${name}`, () => {
    const line = said.split("\n").find((each) => new RegExp(`^${name}[,:]`).test(each));
    assert.match(line ?? "", words);
  });
}

test("kernels without a fault compute what they shall, also behind those that had one", () => {
  const lines = said.split("\n").filter((line) => line.includes(": right"));
  assert.deepEqual(lines, ["sums: right, 4950 4950, 0", "sums: right, 4950 4950, 0", "largest: right, 0 0, 99"]);
});

test("our kernels have no fault, and pass their tests", () => {
  for (const name of OWN) assert.ok(existsSync(new URL(`../../${name}.js`, import.meta.url)), name);
  const { status, stdout, stderr } = spawnSync(process.execPath, [emulate, ...OWN], { encoding: "utf8" });
  assert.equal(status, 0, `${stdout.slice(-3000)}${stderr}`);
  assert.match(stdout, /^ℹ fail 0$/m);
});

test("REVMOE_CPU chooses the form of the kernels, and what it cannot be is said", () => {
  const binding = JSON.stringify(new URL("../binding.js", import.meta.url).href);
  const kernels = JSON.stringify(new URL("./kernels.js", import.meta.url).href);
  const script = `import { native } from ${binding}; import { hasKernels } from ${kernels};
    hasKernels("cpu"); console.log(native.kernelsOfCpu());`;
  const chosen = (choice: string): string => {
    const env = { ...process.env, REVMOE_CPU: choice };
    const ended = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8", env });
    return ended.stdout.trim() || ended.stderr;
  };
  for (const kind of ["plain", "emulated"]) assert.equal(chosen(kind), kind);
  assert.match(chosen("avx2"), /^(avx2|plain)$/);
  assert.equal(chosen(""), chosen("avx512"));
  for (const wrong of ["sse", "AVX2", "emulate"])
    assert.match(
      chosen(wrong),
      new RegExp(`REVMOE_CPU: "${wrong}" is not possible \\(expected plain, avx2, avx512 or emu`),
    );
});
