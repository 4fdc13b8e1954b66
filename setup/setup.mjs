// Does what is missing before RevMoE can run, and nothing else: Node's version, libtorch and a compiler, npm packages,
// the native engine, TypeScript. Prints a line for each thing it does; uses the network only for what is missing. `node
// setup/setup.mjs`; exit code 1 with the reason and the remedy if something cannot be got.
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";

import { canInstall, install, installLine } from "./apt.mjs";
import { buildEngine, compiler } from "./build.mjs";
import { findLibtorch, rememberLibtorch, searchLibtorch, sourceName, waysToGetLibtorch } from "./libtorch.mjs";
import { havePackages } from "./packages.mjs";
import { SetupError, checkNode, isProgram, onPath, runAsProgram } from "./program.mjs";
import { buildTypeScript } from "./typescript.mjs";

/**
 * Returns the engine, ready to load.
 * @param {{ say?: (line: string) => void, asDefault?: boolean }} [options] asDefault: used also without LIBTORCH.
 */
export async function setUp({ say = console.log, asDefault = true } = {}) {
  checkNode();
  const libtorch = await haveLibtorch(say);
  if (asDefault) rememberLibtorch(libtorch);
  await haveCompiler(say);
  await havePackages(say);
  const engine = await buildEngine(libtorch, { say, asDefault });
  await buildTypeScript(say);
  return engine;
}

/** @param {(line: string) => void} say */
async function haveLibtorch(say) {
  let libtorch = searchLibtorch();
  if (!libtorch) {
    // If installing is not allowed, findLibtorch says what the user can do.
    if (canInstall()) {
      try {
        const missing = ["libtorch-dev", "libopenblas0-pthread", ...(lacksCompiler() ? ["g++"] : [])];
        await install(missing, say, "libtorch: none found by LIBTORCH, python3 or the system");
      } catch (failure) {
        throw new SetupError(
          `${/** @type {Error} */ (failure).message}\nThe ways to get libtorch:\n${waysToGetLibtorch()}`,
        );
      }
    }
    libtorch = findLibtorch();
  }
  if (libtorch.libDir.startsWith("/usr/lib") && lacksBlas(libtorch.libDir) && canInstall()) {
    try {
      await install(["libopenblas0-pthread"], say, "libtorch: no fast BLAS beside it");
    } catch (failure) {
      say(`setup: float32 will be slow: ${/** @type {Error} */ (failure).message}`);
    }
  }
  return libtorch;
}

// Debian's libblas.so.3 is a link to one of several; that in blas/ is the slow reference. A user who has a fast one
// beside it chose the slow one.
/** @param {string} libDir */
function lacksBlas(libDir) {
  const blas = join(libDir, "libblas.so.3");
  if (!existsSync(blas) || readdirSync(libDir).some((name) => name.startsWith("openblas-"))) return false;
  return realpathSync(blas).startsWith(join(libDir, "blas/"));
}

const lacksCompiler = () => !onPath(compiler()[0]);

/** @param {(line: string) => void} say */
async function haveCompiler(say) {
  if (!lacksCompiler()) return;
  if (process.env.CXX)
    throw new SetupError(`CXX=${process.env.CXX}: no such program. Mend it or unset it; g++ is used then.`);
  if (!canInstall())
    throw new SetupError(`g++: the C++ compiler is missing. Run: ${installLine(["g++"])} (or set CXX)`);
  await install(["g++"], say, "g++: the C++ compiler is missing");
}

if (isProgram(import.meta.url)) {
  await runAsProgram(async () => {
    const started = performance.now();
    const engine = await setUp();
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(
      `set up in ${seconds} s: libtorch ${engine.version} from ${sourceName(engine.source)} (${engine.root})`,
    );
  });
}
