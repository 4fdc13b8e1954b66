// The set-up where nothing is: a package with neither dist/ nor npm packages, on a PATH that holds only what a test put
// there. What is asked of apt-get is answered by a script.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
let folder = "";
let env: NodeJS.ProcessEnv = {};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "revmoe-bare-"));
  for (const name of ["bin", "setup", "native", "package.json"])
    cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  mkdirSync(join(folder, "path"));
  for (const name of ["env", "sh", "cat", "chmod"]) symlinkSync(join("/usr/bin", name), join(folder, "path", name));
  // A libtorch by its looks, so that none is asked for.
  for (const [path, text] of Object.entries({
    "include/ATen/ATen.h": "",
    "include/torch/version.h": '#define TORCH_VERSION "2.6.0"',
    "lib/libtorch_cpu.so": "",
    "lib/libc10.so": "",
  })) {
    mkdirSync(join(folder, "libtorch", path, ".."), { recursive: true });
    writeFileSync(join(folder, "libtorch", path), text);
  }
  env = { PATH: join(folder, "path"), HOME: folder, LIBTORCH: join(folder, "libtorch") };
});
afterEach(() => rmSync(folder, { recursive: true }));

function run(script: string, ...words: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(folder, script), ...words], {
    encoding: "utf8",
    env,
  });
  return { code: status, out: stdout, err: stderr };
}

/** An apt-get whose `update` and `install` end so. */
function fakeApt(update: string, install: string): void {
  const scripts = {
    "apt-get": `case "$*" in *update*) ${update};; *assume-no*) echo 'E: Unable to locate package g++'
echo 'Need to get 1,5 kB/283 MB of archives.'; echo 'After this operation, 1,203 MB of additional disk space will be used.'; exit 1;;
*) ${install};; esac`,
    sudo: 'shift; exec "$@"',
  };
  for (const [name, text] of Object.entries(scripts))
    writeFileSync(join(folder, "path", name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
}

test("before the set-up, every command is one sentence, and doctor says what there is", () => {
  for (const words of [["train", "--model", "x"], ["--help"], []]) {
    const { code, err } = run("bin/revmoe.mjs", ...words);
    assert.equal(code, 2);
    assert.match(err, /^revmoe: not set up yet: npm packages are missing \(.*yaml.*\)\. Run: npm install\n$/);
  }
  const { code, out, err } = run("bin/revmoe.mjs", "doctor");
  assert.deepEqual([code, err], [1, ""]);
  assert.match(out, /^libtorch {2}2\.6\.0 from LIBTORCH/m);
  assert.match(
    out,
    /^compiler {2}g\+\+ is missing; .*apt-get update.* && .*apt-get install --no-install-recommends g\+\+/m,
  );
  assert.match(out, /- not set up yet: .*\n {2}remedy: npm install$/m);
});

test("without leave to install, the advice is what a person types", () => {
  const { code, err } = run("setup/setup.mjs");
  assert.equal(code, 1);
  assert.match(
    err,
    /^setup: g\+\+: the C\+\+ compiler is missing\. Run: .*apt-get update.* && .*apt-get install .*g\+\+.*\(or set CXX\)\n$/,
  );
});

test("an update that fails is shown with its own last lines", () => {
  fakeApt(
    "echo 'E: The repository has no Release file.'; exit 100",
    "echo 'E: Unable to locate package g++'; exit 100",
  );
  const { code, out, err } = run("setup/setup.mjs");
  assert.equal(code, 1);
  assert.match(out, /^apt-get install g\+\+ \(283 MB to download, 1,203 MB on disk\)$/m);
  assert.match(
    err,
    /apt-get update failed:\nE: The repository has no Release file\.\nand so apt-get install g\+\+ failed:\nE: Unable to locate/,
  );
});

test("an update that fails does not matter where the package is there", () => {
  const compiler = join(folder, "path/g++");
  fakeApt("echo 'W: one of ten sources is gone'; exit 100", `echo '#!/bin/sh' > ${compiler}; chmod +x ${compiler}`);
  const { out, err } = run("setup/setup.mjs");
  assert.match(out, /refreshing the lists of packages\napt-get install g\+\+ .*\n$/);
  assert.match(err, /node-addon-api: not installed\. Run: npm install\n$/);
});

test("what apt-get says in its own status lines is no part of a failure", () => {
  fakeApt(
    "exit 0",
    "echo 'dlstatus:1:20.5:Retrieving file 1 of 2'; echo 'pmstatus:g++:50:Unpacking g++'; echo 'E: no space'; exit 100",
  );
  const { err } = run("setup/setup.mjs");
  assert.match(err, /apt-get install g\+\+ failed:\nE: no space\nTo see all of it: .*apt-get install/);
});

test("the choice is remembered though the set-up fails later", () => {
  run("setup/setup.mjs");
  const { LIBTORCH } = JSON.parse(readFileSync(join(folder, "build/libtorch.json"), "utf8")) as { LIBTORCH: string };
  assert.equal(LIBTORCH, env.LIBTORCH);
});
