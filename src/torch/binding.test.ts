import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const DIST = fileURLToPath(new URL("../", import.meta.url));
/** Files that do their work when they are imported. */
const PROGRAMS = /^(cli|docs|fuzz\/fuzz|.*(worker|\/sender))\.js$/;

const run = (text: string, env: Record<string, string>) =>
  spawnSync(process.execPath, ["--input-type=module", "--eval", text], {
    encoding: "utf8",
    cwd: DIST,
    env: { ...process.env, ...env },
  });

const NO_ENGINE = { LIBTORCH: "/nowhere" };

test("every module can be imported where there is no engine", () => {
  const modules = readdirSync(DIST, { recursive: true, encoding: "utf8" }).filter(
    (file) => /^(?!.*(\.test|testing-)).*\.js$/.test(file) && !PROGRAMS.test(file),
  );
  assert.ok(modules.length > 100);
  const { status, stderr } = run(modules.map((file) => `await import("./${file}");`).join("\n"), NO_ENGINE);
  assert.equal(status, 0, stderr);
});

test("the first use of the engine says that there is none", () => {
  for (const use of [
    'const { zeros } = await import("./torch/tensor.js"); zeros([2], "float32");',
    'const { scope } = await import("./torch/scope.js"); scope(() => 1);',
    'const { onShadow } = await import("./torch/shadow.js"); onShadow(() => 1);',
  ]) {
    const { status, stderr } = run(use, NO_ENGINE);
    assert.equal(status, 1);
    assert.match(stderr, /UserError: .*\/nowhere/);
  }
});

test("gradients are off from the first use on", () => {
  const { status, stderr } = run(
    `const { zeros } = await import("./torch/tensor.js");
     const { withGrad } = await import("./torch/autograd.js");
     const { native } = await import("./torch/binding.js");
     zeros([2], "float32");
     if (native.setGradMode(false) !== false) throw new Error("on");
     withGrad(() => 1);
     if (native.setGradMode(false) !== false) throw new Error("on again");`,
    {},
  );
  assert.equal(status, 0, stderr);
});

test("a second thread is refused while the first has the engine, and may have it afterwards", () => {
  const { status, stdout, stderr } = run(
    `const { Worker } = await import("node:worker_threads");
     const use = 'const { toArray, zeros } = await import("./torch/tensor.js"); toArray(zeros([2], "float32"));';
     const inThread = () => new Promise((done) => {
       const worker = new Worker("(async () => {" + use.replace("./", process.cwd() + "/") + "})()", { eval: true });
       let outcome = "fine";
       worker.on("error", ({ name, message }) => (outcome = name + ": " + message)).on("exit", () => done(outcome));
     });
     console.log(await inThread());
     const { zeros, toArray } = await import("./torch/tensor.js");
     console.log(toArray(zeros([1], "float32")).length);
     console.log(await inThread());
     console.log(toArray(zeros([3], "float32")).length);`,
    {},
  );
  assert.equal(status, 0, stderr);
  const [first, one, second, three] = stdout.trim().split("\n");
  assert.deepEqual([first, one, three], ["fine", "1", "3"]);
  assert.match(
    second,
    /^UserError: the engine: another thread of this process has it.* Use it in that thread, or in a/,
  );
});
