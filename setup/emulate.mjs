// Runs tests with the GPU's form of the kernels on an emulated GPU (native/emulated): `npm run emulate -- optim
// torch/kernels` for tests whose path has one of these words. Every memory access is checked, so it is slow: choose
// small tests. The exit code is that of the tests. `node setup/emulate.mjs` without words only builds; then
// REVMOE_CPU=emulated is enough for any program.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

import { compiler, newest, run } from "./build.mjs";
import { packageRoot } from "./folders.mjs";
import { resolveEngine } from "./libtorch.mjs";
import { SetupError, isProgram, runAsProgram } from "./program.mjs";
import { filesOf } from "./typescript.mjs";

const native = join(packageRoot, "native");
const here = (/** @type {string} */ name) => join(native, "emulated", name);
const FLAGS = ["-std=gnu++20", "-O2", "-g1", "-fPIC", "-ffp-contract=off", "-DREVMOE_CUDA_EMULATED", `-I${native}`];
/** These options report every memory access to memory.cpp. */
const WATCHED = ["-fsanitize=thread,bounds"];

/**
 * Compiles kernels and what emulates a GPU for them.
 * @param {string} source a file of REVMOE_KERNEL lines
 * @param {string} target
 * @param {string[]} [link] `-shared` for an object that others open
 */
export async function buildEmulated(source, target, link = ["-shared"]) {
  const object = `${target}.${process.pid}.o`;
  const part = `${target}.${process.pid}.part`;
  await run([...compiler(), ...FLAGS, ...WATCHED, "-c", source, "-o", object], `compiling ${source}`);
  await run(
    [...compiler(), ...FLAGS, ...link, here("block.cpp"), here("memory.cpp"), object, "-o", part],
    "linking the emulated GPU",
  );
  rmSync(object);
  renameSync(part, target);
}

if (isProgram(import.meta.url)) {
  await runAsProgram(async () => {
    const target = join(dirname(resolveEngine().addon), "kernels-emulated.so");
    const sources = [join(native, "kernels"), join(native, "emulated")].flatMap((folder) =>
      readdirSync(folder).map((name) => join(folder, name)),
    );
    if (!existsSync(target) || newest([target]) < newest(sources)) {
      console.log(`emulate: compiling the kernels for an emulated GPU into ${target}`);
      await buildEmulated(here("kernels.cpp"), target);
    }
    const words = process.argv.slice(2);
    if (words.length === 0) return;
    const dist = join(packageRoot, "dist");
    const chosen = filesOf(dist).filter(
      (name) => name.endsWith(".test.js") && words.some((word) => name.includes(word)),
    );
    if (chosen.length === 0) throw new SetupError(`emulate: no test file's path holds "${words.join('" or "')}"`);
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const tests = spawnSync(
      process.execPath,
      ["--test", "--test-concurrency=2", "--test-reporter=spec", ...chosen.map((name) => join(dist, name))],
      { cwd: packageRoot, stdio: "inherit", env: { ...env, REVMOE_CPU: "emulated" } },
    );
    process.exitCode = tests.status ?? 1;
  });
}
