// Finds libtorch, and the engine (the native addon) that was built against it. Uses only Node built-ins, because the
// set-up runs this before any package is installed; the command line imports it, too (types: libtorch.d.mts). Order:
// LIBTORCH, that of an earlier set-up, the torch of the active python3, the system's. A LIBTORCH without a libtorch is
// an error, never skipped.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { installLine } from "./apt.mjs";
import { buildFolder, buildFolders, setUpCommand } from "./folders.mjs";
import { SetupError } from "./program.mjs";

export { installLine } from "./apt.mjs";
export { packageRoot, setUpCommand } from "./folders.mjs";
export { SetupError } from "./program.mjs";

/** @typedef {import("./libtorch.mjs").Libtorch} Libtorch */
/** @typedef {import("./libtorch.mjs").Engine} Engine */
/** @typedef {{ source: Libtorch["source"], root: string, includeDir: string, libDir: string }} Place */

export const oldestVersion = "1.13";

/**
 * What must be in the environment before libtorch is opened, unless the user set it. Debian's libtorch 2.6 brings UCX
 * (through MPI), whose memory hooks free a page in use when sbrk fails: one start in a hundred dies of it.
 */
export const beforeOpening = { UCX_MEM_EVENTS: "no" };

/** One on each line. */
export const waysToGetLibtorch = () =>
  [
    `  ${installLine(["libtorch-dev", "libopenblas0-pthread", "g++"])}`,
    "      Debian and Ubuntu; computes on the CPU (some 300 MB to download, 1.2 GB on disk)",
    "  pip install torch",
    "      CPU or NVIDIA; its python3 must be the one on PATH",
    `  LIBTORCH=/path ${setUpCommand}`,
    "      an unpacked libtorch, a site-packages/torch, or a Python venv; it is remembered",
  ].join("\n");

/** @param {Libtorch["source"]} source */
export const sourceName = (source) =>
  ({
    LIBTORCH: "LIBTORCH",
    remembered: "the LIBTORCH of an earlier set-up",
    python3: "the torch of python3",
    system: "the system",
  })[source];

/**
 * The libtorch to build against; throws a SetupError that says how to get one.
 * @param {import("./libtorch.mjs").Search} [search]
 * @returns {Libtorch}
 */
export function findLibtorch(search) {
  const found = searchLibtorch(search);
  if (found) return found;
  throw new SetupError(
    `libtorch: none found by LIBTORCH, python3 or the system. Get it in one of three ways:\n${waysToGetLibtorch()}`,
  );
}

/**
 * Like findLibtorch, but returns undefined if there is none.
 * @param {import("./libtorch.mjs").Search} [search]
 * @returns {Libtorch | undefined}
 */
export function searchLibtorch({
  env = process.env,
  systemRoots = ["/usr/local", "/usr"],
  folders = buildFolders(),
} = {}) {
  if (env.LIBTORCH) return describe(placeOfEnvironment(env.LIBTORCH));
  const remembered = env.LIBTORCH === undefined ? folders.map(rememberedLibtorch).find(Boolean) : undefined;
  const place = remembered
    ? placeRemembered(remembered)
    : (placeOfPython(env) ?? systemRoots.map((root) => placeOf("system", root)).find(Boolean));
  return place && describe(place);
}

/**
 * Keeps the LIBTORCH of this set-up for the next ones; an empty LIBTORCH forgets it.
 * @param {Pick<Libtorch, "source">} libtorch
 * @param {{ env?: NodeJS.ProcessEnv, folder?: string }} [options]
 */
export function rememberLibtorch({ source }, { env = process.env, folder = buildFolder() } = {}) {
  const path = join(folder, "libtorch.json");
  if (env.LIBTORCH === "") rmSync(path, { force: true });
  if (source !== "LIBTORCH") return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    path,
    `${JSON.stringify({ LIBTORCH: resolve(env.LIBTORCH ?? ""), since: new Date().toISOString() }, null, 2)}\n`,
  );
}

/** @param {string} folder @returns {string | undefined} */
function rememberedLibtorch(folder) {
  return readJson(join(folder, "libtorch.json"))?.LIBTORCH;
}

/** @param {string} path @returns {Place} */
function placeRemembered(path) {
  try {
    return { ...placeOfEnvironment(path), source: "remembered" };
  } catch {
    throw new SetupError(
      `LIBTORCH=${path} of an earlier set-up: no libtorch is there any more. Put it back, name another with ` +
        `LIBTORCH=/path ${setUpCommand}, or forget it with LIBTORCH= ${setUpCommand}; that takes the torch of python3 or the system's.`,
    );
  }
}

/**
 * The engine to load, without starting python3: that of LIBTORCH if it is set, else the one of the last set-up.
 * @param {import("./libtorch.mjs").EngineSearch} [search]
 * @returns {Engine}
 */
export function resolveEngine({ env = process.env, folders = buildFolders() } = {}) {
  const place = env.LIBTORCH ? placeOfEnvironment(env.LIBTORCH) : undefined;
  const id = place ? idOf(place, versionOf(place)) : "";
  const folder = folders.find((each) => readEngine(join(each, id)));
  const engine = folder && readEngine(join(folder, id));
  if (!engine) {
    throw new SetupError(
      place
        ? `LIBTORCH=${env.LIBTORCH}: no engine is built against it. Run: LIBTORCH=${env.LIBTORCH} ${setUpCommand}`
        : `engine: none is built yet. Run: ${setUpCommand}`,
    );
  }
  const addon = join(folder, engine.id, "revmoe.node");
  if (!existsSync(addon)) throw new SetupError(`${addon}: the engine is gone. Run: ${setUpCommand}`);
  const fingerprint = fingerprintOf(engine.libDir);
  if (fingerprint !== engine.fingerprint) {
    const now = fingerprint ? "libtorch is not" : "there is no libtorch any more,";
    throw new SetupError(
      `${engine.libDir}: ${now} the ${engine.version} that the engine was built against. Run: ${setUpCommand}`,
    );
  }
  const source = place?.source ?? (engine.source === "LIBTORCH" ? "remembered" : engine.source);
  return { ...engine, source, addon };
}

/**
 * What a build left in `folder`: build/<id>, or build/ itself for the default engine.
 * @param {string} folder
 * @returns {Engine | undefined}
 */
export function readEngine(folder) {
  return readJson(join(folder, "engine.json"));
}

/** @param {string} path */
function readJson(path) {
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    throw new SetupError(`${path}: cannot be read. Remove it, then run: ${setUpCommand}`);
  }
}

/** Whether the driver of an NVIDIA card is running; also in a container or in Windows' Linux subsystem. */
export const hasNvidiaDriver = () =>
  ["/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"].some((path) => existsSync(path));

/** @param {string} value @returns {Place} */
function placeOfEnvironment(value) {
  const root = resolve(value);
  const inVenv = ["lib", "lib64"].flatMap((lib) =>
    list(join(root, lib))
      .filter((name) => name.startsWith("python3"))
      .map((name) => join(root, lib, name, "site-packages/torch")),
  );
  for (const candidate of [root, join(root, "torch"), ...inVenv]) {
    const place = placeOf("LIBTORCH", candidate);
    if (place) return place;
  }
  throw new SetupError(
    `LIBTORCH=${value}: no libtorch there (expected include/ATen/ATen.h and lib/libtorch_cpu.so in it, ` +
      `or a Python venv with torch). Correct it, or unset it to use another.`,
  );
}

// find_spec only searches; importing torch takes seconds. The current folder is left out of the search.
const PYTHON_LOOK = `import sys, importlib.util
sys.path = [p for p in sys.path if p]
spec = importlib.util.find_spec("torch")
print(spec.origin if spec and spec.origin else "")`;

/** @param {NodeJS.ProcessEnv} env @returns {Place | undefined} */
function placeOfPython(env) {
  const python = spawnSync("python3", ["-c", PYTHON_LOOK], {
    env,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const origin = python.status === 0 ? python.stdout.trim() : "";
  return origin ? placeOf("python3", dirname(origin)) : undefined;
}

/** @param {Libtorch["source"]} source @param {string} root @returns {Place | undefined} */
function placeOf(source, root) {
  const includeDir = join(root, "include");
  if (!existsSync(join(includeDir, "ATen/ATen.h"))) return undefined;
  const multiarch = process.arch === "arm64" ? "lib/aarch64-linux-gnu" : "lib/x86_64-linux-gnu";
  const libDir = ["lib", multiarch, "lib64"]
    .map((lib) => join(root, lib))
    .find((lib) => ["libtorch_cpu.so", "libc10.so"].every((name) => existsSync(join(lib, name))));
  return libDir === undefined ? undefined : { source, root, includeDir, libDir };
}

/** @param {Place} place @returns {Libtorch} */
function describe(place) {
  const { source, root, includeDir, libDir } = place;
  const version = versionOf(place);
  if (isOlder(version, oldestVersion)) {
    throw new SetupError(
      `${root}: libtorch ${version} is too old (expected ${oldestVersion} or newer). ` +
        `A newer one, in one of three ways:\n${waysToGetLibtorch()}`,
    );
  }
  return {
    source,
    root,
    libDir,
    version,
    // The compiler searches /usr/include anyway; naming it would only change the order.
    includeDirs: [includeDir, join(includeDir, "torch/csrc/api/include")].filter((path) => path !== "/usr/include"),
    // Names of C++ functions with string arguments show with which of libstdc++'s two string types they were built.
    cxx11Abi: /_ZN3c10\w*__cxx11/.test(readFileSync(join(libDir, "libc10.so"), "latin1")),
    cuda: existsSync(join(libDir, "libtorch_cuda.so")) && existsSync(join(libDir, "libc10_cuda.so")),
    id: idOf(place, version),
    fingerprint: fingerprintOf(libDir),
  };
}

/** @param {Place} place */
function versionOf({ root, includeDir }) {
  for (const header of ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h", "torch/version.h"]) {
    const path = join(includeDir, header);
    const version =
      existsSync(path) && /define\s+TORCH_VERSION\s+(?:\\\s+)?"(\d[\d.]*)/.exec(readFileSync(path, "utf8"));
    if (version) return version[1];
  }
  const file = join(root, "build-version");
  const version = existsSync(file) && /^\d[\d.]*/.exec(readFileSync(file, "utf8"));
  if (version) return version[0];
  throw new SetupError(
    `${root}: this libtorch does not say its version (expected torch/version.h or build-version in it).`,
  );
}

/** @param {Place} place @param {string} version */
function idOf({ libDir }, version) {
  return `${version}-${createHash("sha256").update(realpathSync(libDir)).digest("hex").slice(0, 4)}`;
}

/** Changes when libtorch is replaced in place. @param {string} libDir */
function fingerprintOf(libDir) {
  const path = join(libDir, "libtorch_cpu.so");
  if (!existsSync(path)) return "";
  const { size, mtimeMs } = statSync(path);
  return `${basename(realpathSync(path))} ${size} ${Math.floor(mtimeMs)}`;
}

/** @param {string} version @param {string} than */
function isOlder(version, than) {
  const [a, b] = [version, than].map((text) => text.split(".").map(Number));
  return a[0] !== b[0] ? a[0] < b[0] : a[1] < b[1];
}

/** @param {string} folder */
const list = (folder) => (existsSync(folder) ? readdirSync(folder) : []);
