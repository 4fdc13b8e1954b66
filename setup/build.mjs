// Compiles native/ against a libtorch into <id>/revmoe.node of the build folder, and makes that engine the default one.
// Compiles only what changed. The addon is replaced by a rename, so a process that has it loaded keeps the old one.
// `node setup/build.mjs`; exit code 1 with the compiler's last lines if it fails.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";

import { installLine } from "./apt.mjs";
import { buildFolder, packageRoot } from "./folders.mjs";
import { beforeOpening, findLibtorch, hasNvidiaDriver, readEngine, rememberLibtorch } from "./libtorch.mjs";
import { SetupError, isProgram, runAsProgram } from "./program.mjs";
import { runWatched } from "./watched.mjs";

/** @typedef {import("./libtorch.mjs").Libtorch} Libtorch */
/** @typedef {import("./libtorch.mjs").Engine} Engine */

const nativeRoot = join(packageRoot, "native");

const KINDS_OF_X64 = {
  plain: [],
  avx2: ["-march=x86-64-v3"],
  avx512: ["-march=x86-64-v4", "-mprefer-vector-width=512"],
};

/** @typedef {{ source: string, object: string, flags: string[] }} Unit an object file, and its own flags */

/** Whether it is the kernels for one kind of CPU. @param {Unit} unit */
const isKernel = ({ source }) => source.endsWith("kernels/cpu.cpp");

/**
 * Builds the engine of this libtorch where it is missing or out of date.
 * @param {Libtorch} libtorch
 * @param {{ say?: (line: string) => void, asDefault?: boolean, root?: string, flags?: string[], loadEnv?: NodeJS.ProcessEnv }} [options]
 *   root: the folder that replaces build/; flags: more flags to compile and link; loadEnv: environment of a process
 *   that loads the result
 * @returns {Promise<Engine>}
 */
export async function buildEngine(
  libtorch,
  { say = console.log, asDefault = true, root = buildFolder(), flags = [], loadEnv } = {},
) {
  const folder = join(root, libtorch.id);
  const before = readSettings(folder);
  // An image for a container is built without a driver, for machines that have one.
  const driver = process.env.REVMOE_CUDA === "1" || hasNvidiaDriver();
  // Trying to load CUDA takes a second, so a success is not tried again.
  const cudaLoads =
    before?.fingerprint === libtorch.fingerprint && before.driver && driver && before.cudaRefused === null;
  const cudaRefused = !libtorch.cuda || cudaLoads ? null : whyNotCuda(libtorch, driver);
  const cuda = libtorch.cuda && cudaRefused === null;
  const units = unitsOf(list(".cpp"));
  const settings = {
    fingerprint: libtorch.fingerprint,
    driver,
    cudaRefused,
    compile: [...compileCommand(libtorch), ...flags],
    link: [...linkCommand(libtorch, cuda), ...flags],
    units,
  };

  const objectOf = (/** @type {Unit} */ { object }) => join(folder, object);
  const keepObjects = before?.fingerprint === settings.fingerprint && before.compile.join() === settings.compile.join();
  if (!keepObjects) rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const [headersAt, kernelsAt] = [newest(list(".hpp")), newest(list(".h"))];
  // Headers of kernels (.h) are read by the kernels and by the operators that launch them; other headers by all but the
  // kernels.
  const stale = units.filter((unit) => {
    const launches = isKernel(unit) || /\/(operators|experts)\//.test(unit.source);
    return (
      newest([objectOf(unit)]) <
      Math.max(newest([unit.source]), isKernel(unit) ? 0 : headersAt, launches ? kernelsAt : 0)
    );
  });
  const addon = join(folder, "revmoe.node");
  const current = readEngine(folder);
  const upToDate =
    current &&
    stale.length === 0 &&
    JSON.stringify(before) === JSON.stringify(settings) &&
    newest([addon]) >= newest(units.map(objectOf));
  const engine = upToDate
    ? current
    : {
        id: libtorch.id,
        addon: `${libtorch.id}/revmoe.node`,
        version: libtorch.version,
        source: libtorch.source,
        root: libtorch.root,
        libDir: libtorch.libDir,
        fingerprint: libtorch.fingerprint,
        cuda,
        cudaRefused,
        builtAt: new Date().toISOString(),
      };
  if (!upToDate) {
    const files = `${stale.length} of ${units.length} files to compile`;
    say(`engine: building against ${describe(libtorch)}${cuda ? " with CUDA" : ""} in ${folder}`);
    say(`engine: ${files}${stale.length > 3 ? "; two or three minutes on two cores" : ""}`);
    writeJson(join(folder, "settings.json"), settings);
    await compileAll(settings.compile, stale, objectOf, libtorch, say);
    const part = `${addon}.${process.pid}.part`;
    await run([...settings.link, ...units.map(objectOf), "-o", part], `linking against ${describe(libtorch)}`);
    const refused = whyNotLoaded(part, loadEnv);
    if (refused) {
      rmSync(part);
      throw new SetupError(`engine: built against ${describe(libtorch)}, but it does not load: ${refused}`);
    }
    renameSync(part, addon);
    writeJson(join(folder, "engine.json"), engine);
  }
  const found = { ...engine, source: libtorch.source, root: libtorch.root };
  if (asDefault || !readEngine(root)) writeJson(join(root, "engine.json"), found);
  return found;
}

/** @param {string} name */
function packageFolder(name) {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
  } catch {
    throw new SetupError(`${name}: not installed. Run: npm install`);
  }
}

/** @param {Libtorch} libtorch */
function compileCommand(libtorch) {
  // ATen.h says which C++ it needs: 14 in 1.13, 17 in 2.1, 20 in 2.15.
  const aten = libtorch.includeDirs
    .concat("/usr/include")
    .map((path) => join(path, "ATen/ATen.h"))
    .find(existsSync);
  const standard = Math.max(17, Number(/C\+\+(\d+) or later/.exec(readFileSync(aten ?? "", "utf8"))?.[1] ?? 17));
  return [
    ...compiler(),
    `-std=gnu++${standard}`,
    "-O2",
    // Without this flag, loops with square roots are not vectorised, because a root may set errno.
    "-fno-math-errno",
    "-fPIC",
    "-c",
    `-D_GLIBCXX_USE_CXX11_ABI=${Number(libtorch.cxx11Abi)}`,
    "-DNODE_ADDON_API_CPP_EXCEPTIONS_ALL",
    "-DNAPI_VERSION=8",
    `-I${nativeRoot}`,
    ...[
      ...libtorch.includeDirs,
      packageFolder("node-addon-api"),
      join(packageFolder("node-api-headers"), "include"),
    ].map((path) => `-I${path}`),
  ];
}

/** @param {Libtorch} libtorch @param {boolean} cuda */
function linkCommand({ libDir }, cuda) {
  // No symbol of the CUDA libraries is used: loading them registers the device. Node's own symbols resolve when node
  // loads the addon.
  const libraries = ["torch_cpu", "c10", ...(cuda ? ["torch", "torch_cuda", "c10_cuda"] : [])];
  // Old dtags, so that an LD_LIBRARY_PATH with another libtorch does not win.
  const paths = [`-L${libDir}`, `-Wl,-rpath,${libDir}`, "-Wl,--disable-new-dtags"];
  return [...compiler(), "-shared", ...paths, "-Wl,--no-as-needed", ...libraries.map((name) => `-l${name}`)];
}

/** Program and first arguments: CXX may be "ccache g++". */
export const compiler = () => (process.env.CXX?.trim() || "g++").split(/\s+/);

/**
 * @param {string[]} compile
 * @param {Unit[]} units
 * @param {(unit: Unit) => string} objectOf
 * @param {Libtorch} libtorch
 * @param {(line: string) => void} say
 */
async function compileAll(compile, units, objectOf, libtorch, say) {
  const started = performance.now();
  // Kernels come first: they include nothing of libtorch, whose headers are compiled meanwhile.
  const waiting = [...units.filter(isKernel), ...units.filter((unit) => !isKernel(unit))];
  const folder = dirname(objectOf(units[0]));
  const header = join(folder, `${FIRST}.${process.pid}.hpp`);
  // Headers of a build that was stopped are large.
  for (const name of readdirSync(folder)) {
    const [first, pid] = name.split(".");
    if (first === FIRST && !isAlive(Number(pid))) rmSync(join(folder, name), { force: true });
  }
  const precompiled = waiting.length >= MANY && compiler().length === 1 ? precompile(compile, header) : null;
  let finished = 0;
  const worker = async () => {
    for (let unit = waiting.shift(); unit; unit = waiting.shift()) {
      const { source } = unit;
      const flags = isKernel(unit) ? unit.flags : [...unit.flags, ...((await precompiled) ?? [])];
      const part = `${objectOf(unit)}.${process.pid}.part`;
      const name = basename(objectOf(unit), ".o");
      try {
        await run([...compile, ...flags, source, "-o", part], `compiling ${name} against ${describe(libtorch)}`);
      } catch (failure) {
        waiting.length = 0;
        throw failure;
      }
      renameSync(part, objectOf(unit));
      const seconds = Math.round((performance.now() - started) / 1000);
      say(`engine: ${++finished} of ${units.length} compiled, ${seconds} s (${name})`);
    }
  };
  const ended = await Promise.allSettled(
    Array.from({ length: Math.min(availableParallelism(), units.length) }, worker),
  );
  await precompiled;
  for (const name of [header, `${header}.gch`]) rmSync(name, { force: true });
  for (const end of ended) if (end.status === "rejected") throw end.reason;
}

/** Starts the names of headers that are compiled first; then comes the number of the process. */
const FIRST = "first";

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (failure) {
    return /** @type {NodeJS.ErrnoException} */ (failure).code === "EPERM";
  }
}

/** From this many files on it pays to compile headers first: that takes 14 s, and saves 5 s for each file. */
const MANY = 6;

/**
 * Flags that put precompiled headers, which nearly all files include, in front of a file; none if the compiler cannot
 * do this. ccache would not keep such files.
 * @param {string[]} compile
 * @param {string} header
 */
async function precompile(compile, header) {
  writeFileSync(header, "#include <ATen/ATen.h>\n#include <napi.h>\n#include <torch/library.h>\n");
  const { failed } = await runWatched([...compile, "-x", "c++-header", header, "-o", `${header}.gch`]);
  return failed ? [] : ["-include", header];
}

/** Runs a compiler; throws its last lines if it fails. @param {string[]} command @param {string} doing */
export async function run(command, doing) {
  const ended = await runWatched(command);
  if (ended.missing)
    throw new SetupError(`${command[0]}: the C++ compiler is missing. Run: ${installLine(["g++"])} (or set CXX)`);
  if (!ended.failed) return;
  const killed = ended.how.startsWith("SIG") ? ` (killed by ${ended.how}; a file takes up to 1.5 GB of memory)` : "";
  throw new SetupError(
    `${doing} failed${killed}. The last lines of ${command[0]}:\n${ended.lines.slice(-30).join("\n")}`,
  );
}

// The CUDA libraries take 0.25 GB and a second at each start, so they are linked only if they can be used.
/** @param {Libtorch} libtorch @param {boolean} driver */
function whyNotCuda({ libDir }, driver) {
  if (!driver) return "no NVIDIA driver here";
  return whyNotLoaded(join(libDir, "libtorch_cuda.so"));
}

/**
 * Undefined symbols and missing libraries show only when a process loads the file.
 * @param {string} path @param {NodeJS.ProcessEnv} [env]
 */
function whyNotLoaded(path, env = process.env) {
  // The message that a library is not an addon ("did not self-register") comes only after it was loaded.
  const script = `try {
    process.dlopen({ exports: {} }, process.argv[1]);
  } catch ({ message }) {
    if (!message.includes("self-register")) { console.log(message); process.exit(3); }
  }`;
  const child = spawnSync(process.execPath, ["-e", script, path], {
    env: { ...beforeOpening, ...env },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  return child.status === 0 ? null : child.stdout.trim() || `it ends the process (${child.signal ?? child.status})`;
}

/** Modification time of the newest of these; a missing file counts as 0. @param {string[]} paths */
export const newest = (paths) =>
  Math.max(0, ...paths.map((path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0));

/** @param {Libtorch} libtorch */
const describe = ({ version, root }) => `libtorch ${version} (${root})`;

/**
 * Full paths of the addon's files below native/ with this ending. Leaves out the emulated GPU, which is for tests
 * (emulate.mjs), and profile/, which is not part of the addon.
 * @param {string} ending
 */
const list = (ending) =>
  readdirSync(nativeRoot, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(ending) && !/^(emulated|profile)\//.test(name))
    .sort()
    .map((name) => join(nativeRoot, name));

/**
 * The files to compile, each once, but the kernels once for each kind of CPU (native/kernels/kernel.h). All kinds give
 * the same bits: no product is fused with a sum.
 * @param {string[]} sources
 * @returns {Unit[]}
 */
const unitsOf = (sources) =>
  sources.flatMap((source) => {
    const name = basename(source, ".cpp");
    if (!source.endsWith("kernels/cpu.cpp")) return [{ source, object: `${name}.o`, flags: [] }];
    return Object.entries(process.arch === "x64" ? KINDS_OF_X64 : { plain: [] }).map(([kind, flags]) => ({
      source,
      object: `kernels-${kind}.o`,
      flags: [`-DREVMOE_CPU=${kind}`, "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", ...flags],
    }));
  });

/** @param {string} folder */
function readSettings(folder) {
  try {
    return JSON.parse(readFileSync(join(folder, "settings.json"), "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * Writes the file whole or not at all; does not touch it if nothing changes. @param {string} path @param {object} value
 */
function writeJson(path, value) {
  const text = `${JSON.stringify(value, null, 2)}\n`;
  if (existsSync(path) && readFileSync(path, "utf8") === text) return;
  writeFileSync(`${path}.${process.pid}.part`, text);
  renameSync(`${path}.${process.pid}.part`, path);
}

if (isProgram(import.meta.url)) {
  await runAsProgram(async () => {
    const libtorch = findLibtorch();
    rememberLibtorch(libtorch);
    const engine = await buildEngine(libtorch);
    console.log(`engine: ${join(buildFolder(), engine.addon)} is up to date`);
  });
}
