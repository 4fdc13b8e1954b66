// Finds libtorch, and the engine (the native addon) that was built against it. Node built-ins only, because the set-up
// runs this before any package is installed; the command line imports it too (types: libtorch.d.mts).
// Order: LIBTORCH, the torch of the active python3, the system's. A LIBTORCH of no use is an error, never skipped.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** @typedef {import("./libtorch.mjs").Libtorch} Libtorch */
/** @typedef {import("./libtorch.mjs").Engine} Engine */
/** @typedef {{ source: Libtorch["source"], root: string, includeDir: string, libDir: string }} Place */

/** The folder that holds native/, src/ and build/. */
export const packageRoot = dirname(dirname(fileURLToPath(import.meta.url)));
export const buildRoot = join(packageRoot, "build");
export const oldestVersion = "1.13";

export const waysToGetLibtorch = [
  "  apt-get install libtorch-dev libopenblas0-pthread   Debian and Ubuntu; computes on the CPU",
  "  pip install torch                                   CPU or NVIDIA; its python3 must be the one on PATH",
  "  LIBTORCH=/path                                      an unpacked libtorch, a site-packages/torch, or a Python venv",
].join("\n");

/** A failure that the person can mend: shown without a stack. */
export class SetupError extends Error {
  name = "SetupError";
}

/**
 * The libtorch to build against; throws a SetupError that says how to get one.
 * @param {import("./libtorch.mjs").Search} [search]
 * @returns {Libtorch}
 */
export function findLibtorch(search) {
  const found = searchLibtorch(search);
  if (found) return found;
  throw new SetupError(`libtorch: none found by LIBTORCH, python3 or the system. Get it in one of three ways:\n${waysToGetLibtorch}`);
}

/**
 * As findLibtorch, but undefined when there is none.
 * @param {import("./libtorch.mjs").Search} [search]
 * @returns {Libtorch | undefined}
 */
export function searchLibtorch({ env = process.env, systemRoots = ["/usr/local", "/usr"] } = {}) {
  if (env.LIBTORCH) return describe(placeOfEnvironment(env.LIBTORCH));
  const place = placeOfPython(env) ?? systemRoots.map((root) => placeOf("system", root)).find(Boolean);
  return place && describe(place);
}

/**
 * The engine to load, without starting python3: that of LIBTORCH if it is set, else the one of the last set-up.
 * @param {import("./libtorch.mjs").EngineSearch} [search]
 * @returns {Engine}
 */
export function resolveEngine({ env = process.env, folder = env.REVMOE_BUILD || buildRoot } = {}) {
  const place = env.LIBTORCH ? placeOfEnvironment(env.LIBTORCH) : undefined;
  const id = place && idOf(place, versionOf(place));
  const engine = readEngine(id ? join(folder, id) : folder);
  if (!engine) {
    throw new SetupError(
      place
        ? `LIBTORCH=${env.LIBTORCH}: no engine is built against it. Run: LIBTORCH=${env.LIBTORCH} npm run setup`
        : "engine: none is built yet. Run: npm run setup",
    );
  }
  const addon = join(folder, engine.id, "revmoe.node");
  if (!existsSync(addon)) throw new SetupError(`${addon}: the engine is gone. Run: npm run setup`);
  if (fingerprintOf(engine.libDir) !== engine.fingerprint) {
    throw new SetupError(`${engine.libDir}: libtorch is not the ${engine.version} that the engine was built against. Run: npm run setup`);
  }
  return { ...engine, source: place?.source ?? engine.source, addon };
}

/**
 * What a build left in `folder`: build/<id>, or build/ itself for the default engine.
 * @param {string} folder
 * @returns {Engine | undefined}
 */
export function readEngine(folder) {
  const path = join(folder, "engine.json");
  if (!existsSync(path)) return undefined;
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    throw new SetupError(`${path}: cannot be read. Remove it, then run: npm run setup`);
  }
}

/** Whether the driver of an NVIDIA card is running, also as a container or Windows' Linux subsystem shows it. */
export const hasNvidiaDriver = () => ["/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/dxg"].some((path) => existsSync(path));

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
      `or a Python venv with torch). Correct it, or unset it to use another.\n` +
      `The ways to get libtorch:\n${waysToGetLibtorch}`,
  );
}

// find_spec only looks; importing torch takes seconds. The current folder is no place to look for packages.
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
        `A newer one, in one of three ways:\n${waysToGetLibtorch}`,
    );
  }
  return {
    source,
    root,
    libDir,
    version,
    // The compiler looks into /usr/include by itself; naming it would only change the order.
    includeDirs: [includeDir, join(includeDir, "torch/csrc/api/include")].filter((path) => path !== "/usr/include"),
    // Names of C++ functions that take a string tell which of libstdc++'s two string types they were built with.
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
    const version = existsSync(path) && /define\s+TORCH_VERSION\s+(?:\\\s+)?"(\d[\d.]*)/.exec(readFileSync(path, "utf8"));
    if (version) return version[1];
  }
  const file = join(root, "build-version");
  const version = existsSync(file) && /^\d[\d.]*/.exec(readFileSync(file, "utf8"));
  if (version) return version[0];
  throw new SetupError(`${root}: this libtorch does not say its version (expected torch/version.h or build-version in it).`);
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
