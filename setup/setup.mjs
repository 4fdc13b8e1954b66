// Does what is missing before RevMoE can run, and nothing else: Node's version, libtorch and a compiler, npm packages,
// the native engine, TypeScript. Says each thing it does in a line; uses the network only for what is missing.
// `node setup/setup.mjs`; exit code 1 with the reason and the remedy when something cannot be had.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync, readdirSync, realpathSync } from "node:fs";
import { delimiter, join } from "node:path";

import { buildEngine, compiler } from "./build.mjs";
import { SetupError, findLibtorch, packageRoot, searchLibtorch, waysToGetLibtorch } from "./libtorch.mjs";
import { isProgram, runAsProgram } from "./program.mjs";
import { buildTypeScript } from "./typescript.mjs";

const oldestNode = "20.17";

/**
 * Returns the engine, ready to load.
 * @param {{ say?: (line: string) => void, asDefault?: boolean }} [options] asDefault: used also without LIBTORCH.
 */
export async function setUp({ say = console.log, asDefault = true } = {}) {
  checkNode();
  const libtorch = haveLibtorch(say);
  haveCompiler(say);
  havePackages(say);
  const engine = await buildEngine(libtorch, { say, asDefault });
  buildTypeScript(say);
  return engine;
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  const [oldestMajor, oldestMinor] = oldestNode.split(".").map(Number);
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  throw new SetupError(`Node.js ${process.versions.node} is too old (expected ${oldestNode} or newer). See https://nodejs.org/en/download`);
}

/** @param {(line: string) => void} say */
function haveLibtorch(say) {
  let libtorch = searchLibtorch();
  if (!libtorch) {
    // Without leave to install, findLibtorch says what the person can do.
    if (canInstall()) {
      try {
        install(["libtorch-dev", "libopenblas0-pthread", "g++"], say, "libtorch: none found");
      } catch (failure) {
        throw new SetupError(`${/** @type {Error} */ (failure).message}\nGet libtorch in one of three ways:\n${waysToGetLibtorch}`);
      }
    }
    libtorch = findLibtorch();
  }
  if (libtorch.libDir.startsWith("/usr/lib") && lacksBlas(libtorch.libDir) && canInstall()) {
    try {
      install(["libopenblas0-pthread"], say, "libtorch: no fast BLAS beside it");
    } catch (failure) {
      say(`setup: float32 will be slow: ${/** @type {Error} */ (failure).message}`);
    }
  }
  return libtorch;
}

// Debian's libblas.so.3 leads to one of several; that in blas/ is the slow reference. Who has a fast one beside
// it chose so.
/** @param {string} libDir */
function lacksBlas(libDir) {
  const blas = join(libDir, "libblas.so.3");
  if (!existsSync(blas) || readdirSync(libDir).some((name) => name.startsWith("openblas-"))) return false;
  return realpathSync(blas).startsWith(join(libDir, "blas/"));
}

/** @param {(line: string) => void} say */
function haveCompiler(say) {
  if (onPath(compiler()[0])) return;
  if (process.env.CXX) throw new SetupError(`CXX=${process.env.CXX}: no such program. Mend it or unset it; g++ is used then.`);
  if (!canInstall()) throw new SetupError("g++: the C++ compiler is missing. Run: apt-get install g++ (or set CXX)");
  install(["g++"], say, "g++: missing");
}

/** @param {(line: string) => void} say */
function havePackages(say) {
  const lockFile = join(packageRoot, "package-lock.json");
  if (!existsSync(lockFile)) return; // installed as a package: npm has seen to what we need
  /** @type {Record<string, { version?: string, optional?: boolean }>} */
  const wanted = JSON.parse(readFileSync(lockFile, "utf8")).packages;
  const wrong = Object.keys(wanted).filter((path) => {
    if (path === "") return false;
    const file = join(packageRoot, path, "package.json");
    return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).version !== wanted[path].version : !wanted[path].optional;
  });
  if (wrong.length === 0) return;
  say(`npm: ${wrong.length} package(s) missing or of another version: npm ci`);
  // Development packages bring the TypeScript compiler, so they are wanted also where NODE_ENV says production.
  const npm = spawnSync("npm", ["ci", "--include=dev", "--no-audit", "--no-fund"], {
    cwd: packageRoot,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (npm.error) throw new SetupError("npm: no such program on PATH. It comes with Node.js: https://nodejs.org/en/download");
  if (npm.status !== 0) throw new SetupError(`npm ci ended with ${npm.signal ?? npm.status}; its own lines above say why.`);
}

/** @param {string} program */
function onPath(program) {
  if (program.includes("/")) return existsSync(program);
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const isRoot = () => process.getuid?.() === 0;

/** Whether packages can be installed without asking the person anything. */
function canInstall() {
  if (!onPath("apt-get")) return false;
  return isRoot() || (onPath("sudo") && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0);
}

/** @param {string[]} packages @param {(line: string) => void} say @param {string} why */
function install(packages, say, why) {
  say(`${why}: apt-get install ${packages.join(" ")} (a minute or so)`);
  const known = spawnSync("apt-cache", ["show", ...packages], { stdio: "ignore" }).status === 0;
  if (!known) aptGet(["update"]);
  const options = ["install", "-y", "-q", "--no-install-recommends", ...packages];
  let result = aptGet(options);
  // Package lists older than the archive name files that are gone.
  if (result.status !== 0 && known && aptGet(["update"]).status === 0) result = aptGet(options);
  if (result.status !== 0) {
    const last = `${result.stdout ?? ""}${result.stderr ?? ""}`.trimEnd().split("\n").slice(-10).join("\n");
    throw new SetupError(`apt-get install ${packages.join(" ")} failed:\n${last}`);
  }
}

/** @param {string[]} args */
function aptGet(args) {
  const command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120", ...args];
  if (!isRoot()) command.unshift("sudo", "-n");
  return spawnSync(command[0], command.slice(1), {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 1 << 26,
  });
}

if (isProgram(import.meta.url)) {
  await runAsProgram(async () => {
    const started = performance.now();
    const engine = await setUp();
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`set up in ${seconds} s: libtorch ${engine.version} from ${engine.source} (${engine.root})`);
  });
}
