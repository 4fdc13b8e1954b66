// Sets up, says which libtorch is used, and runs the tests: `npm test`, or `npm test -- data` for those whose path
// holds "data". Arguments that begin with "-" go to node (--test-name-pattern=...). The exit code is that of the tests.
// `npm run test:engine -- DIR` tests against the libtorch in DIR. A LIBTORCH here leaves the default engine as it is.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { join, resolve } from "node:path";

import { packageRoot } from "./folders.mjs";
import { sourceName } from "./libtorch.mjs";
import { SetupError, runAsProgram } from "./program.mjs";
import { setUp } from "./setup.mjs";
import { filesOf } from "./typescript.mjs";

await runAsProgram(async () => {
  const args = process.argv.slice(2);
  const at = args.indexOf("--libtorch");
  if (at >= 0) {
    const [, folder] = args.splice(at, 2);
    if (!folder) throw new SetupError("--libtorch: a folder is missing (expected npm run test:engine -- DIR)");
    process.env.LIBTORCH = resolve(process.env.INIT_CWD ?? ".", folder);
  }
  const engine = await setUp({ asDefault: !process.env.LIBTORCH });
  const cuda = engine.cuda ? ", CUDA linked" : "";
  console.log(`testing with libtorch ${engine.version} from ${sourceName(engine.source)} (${engine.root})${cuda}`);

  const options = args.filter((arg) => arg.startsWith("-"));
  const filters = args.filter((arg) => !arg.startsWith("-"));
  const all = filesOf(join(packageRoot, "dist")).filter((name) => name.endsWith(".test.js"));
  const chosen = all.filter((name) => filters.length === 0 || filters.some((filter) => name.includes(filter)));
  if (chosen.length === 0)
    throw new SetupError(`test: no test file's path holds "${filters.join('" or "')}" (of ${all.length} in dist)`);
  // One more than the cores, of which at most two count: many tests wait for processes, for disks, and for each other.
  const atOnce = `--test-concurrency=${Math.min(2, availableParallelism()) + 1}`;
  const tests = spawnSync(
    process.execPath,
    ["--test", atOnce, "--test-reporter=spec", ...options, ...chosen.map((name) => join("dist", name))],
    { cwd: packageRoot, stdio: ["ignore", "inherit", "inherit"] },
  );
  process.exitCode = tests.status ?? 1;
});
