// Runs tests on an engine that checks itself: the addon built with gcc's sanitizers of addresses and of undefined
// behaviour, in build/sanitized/, beside the ordinary one. `npm run sanitize`, or `npm run sanitize -- torch optim` for
// tests whose path has one of these words. What the sanitizers say is printed last; exit code 1 if they say anything,
// or a test fails. Limits: node and libtorch are not instrumented, so leaks are not searched; tests take several times
// as long.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { buildEngine, compiler } from "./build.mjs";
import { packageRoot } from "./folders.mjs";
import { SetupError, findLibtorch } from "./libtorch.mjs";
import { runAsProgram } from "./program.mjs";
import { buildTypeScript, filesOf } from "./typescript.mjs";

const root = join(packageRoot, "build", "sanitized");
const reports = join(root, "reports");
const flags = [
  "-fsanitize=address,undefined",
  "-fno-sanitize-recover=undefined",
  "-fno-omit-frame-pointer",
  "-g1",
  "-O1",
];

await runAsProgram(async () => {
  const env = { ...process.env, REVMOE_BUILD: root, ...sanitizers() };
  buildTypeScript(console.log);
  await buildEngine(findLibtorch(), { root, flags, loadEnv: env });
  rmSync(reports, { recursive: true, force: true });
  mkdirSync(reports);

  const words = process.argv.slice(2);
  const all = filesOf(join(packageRoot, "dist")).filter((name) => name.endsWith(".test.js"));
  const chosen = all.filter((name) => words.length === 0 || words.some((word) => name.includes(word)));
  if (chosen.length === 0) throw new SetupError(`sanitize: no test file's path holds "${words.join('" or "')}"`);
  const tests = spawn(
    process.execPath,
    ["--test", "--test-concurrency=1", "--test-reporter=spec", ...chosen.map((name) => join("dist", name))],
    { cwd: packageRoot, stdio: ["ignore", "pipe", "pipe"], env },
  );
  const said = new Set();
  for (const stream of [tests.stdout, tests.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      console.log(line);
      // Undefined behaviour ends its process with such a line; the log has only faults of addresses.
      if (line.includes("runtime error:")) said.add(line.trim());
    });
  }
  const [status] = await once(tests, "close");
  const logs = readdirSync(reports).map((name) => readFileSync(join(reports, name), "utf8"));
  for (const text of [...said, ...logs]) console.log(`\n${text}`);
  const found = said.size + logs.length;
  console.log(
    `sanitize: ${chosen.length} test files, ${found} report(s)${found > 0 ? `; those of addresses are in ${reports}` : ""}`,
  );
  process.exitCode = found > 0 ? 1 : (status ?? 1);
});

/** The environment in which a process can load the addon, and where its reports go. */
function sanitizers() {
  // node has its own libstdc++; without the system's, the sanitizer finds no exceptions to intercept.
  const libraries = ["libasan.so", "libubsan.so", "libstdc++.so.6"].map((name) => {
    const [program, ...args] = compiler();
    const path = spawnSync(program, [...args, `-print-file-name=${name}`], { encoding: "utf8" }).stdout?.trim() ?? "";
    if (!existsSync(path))
      throw new SetupError(`${name}: not found by ${program}. Install gcc's sanitizers (libasan, libubsan).`);
    return path;
  });
  return {
    LD_PRELOAD: libraries.join(" "),
    // The engine itself handles faults of mapped files (native/io/cut_files.cpp).
    ASAN_OPTIONS: `detect_leaks=0:handle_sigbus=0:strict_string_checks=1:log_path=${join(reports, "address")}`,
    UBSAN_OPTIONS: "print_stacktrace=1",
  };
}
