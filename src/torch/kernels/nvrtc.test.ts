// Where NVRTC is looked for, and, where there is one, every kernel compiled for four architectures: no GPU is needed for that.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { packageRoot, resolveEngine } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";
import { cachedKernels, compileKernels, kernelSources, nvrtcCandidates } from "./nvrtc.js";

const CAPABILITIES = [80, 89, 90, 100];

const libraries = nvrtcCandidates(resolveEngine().libDir);
/** Why kernels are not compiled here; undefined where they are. */
function whyNot(): string | undefined {
  try {
    compileKernels(80, libraries, ['extern "C" __global__ void nothing() {}']);
    return undefined;
  } catch (failure) {
    return `${(failure as Error).message}; pip install nvidia-cuda-nvrtc, then set REVMOE_NVRTC`;
  }
}
const skip = whyNot();

const folder = join(packageRoot, "native", "kernels");
/** Every name behind REVMOE_KERNEL( in the files. */
const names = readdirSync(folder)
  .filter((name) => name.endsWith(".h"))
  .flatMap((name) => [...readFileSync(join(folder, name), "utf8").matchAll(/^REVMOE_KERNEL\((\w+)/gm)])
  .map(([, name]) => name)
  .filter((name) => name !== "name");

for (const capability of CAPABILITIES) {
  test(`every kernel compiles for sm_${capability}`, { skip }, () => {
    const cubins = compileKernels(capability, libraries).map((cubin) => Buffer.from(cubin));
    for (const cubin of cubins) assert.equal(cubin.subarray(1, 4).toString(), "ELF");
    for (const name of names) assert.equal(cubins.filter((cubin) => cubin.includes(`.text.${name}\0`)).length, 1, name);
  });
}

test("what does not compile is said with file and line", { skip }, () => {
  const broken = kernelSources().map((source) =>
    source.replace("REVMOE_KERNEL(adamw_plain,", "REVMOE_KERNEL(adamw_plain, no such thing,"),
  );
  assert.throws(() => compileKernels(80, libraries, broken), /nvrtcCompileProgram: .*\nupdate\.h\(\d+\): error/);
});

test("what is compiled once is kept, by all it depends on", { skip }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-cubins-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const { files } = cachedKernels(folder, 80, 13_000, libraries);
  assert.equal(readdirSync(folder).length, files.length);
  writeFileSync(files[2] as string, "kept");
  rmSync(files[1] as string);
  const again = cachedKernels(folder, 80, 13_000, libraries);
  assert.equal(Buffer.from(again.cubins[2]).toString(), "kept");
  assert.equal(Buffer.from(again.cubins[1]).subarray(1, 4).toString(), "ELF");
  assert.deepEqual(again.files, files);
  cachedKernels(folder, 80, 13_010, libraries);
  assert.equal(readdirSync(folder).length, 2 * files.length);
  writeFileSync(join(folder, "file"), "");
  const unkept = cachedKernels(join(folder, "file"), 80, 13_000, libraries);
  assert.ok(unkept.files.every((file) => file === null) && unkept.cubins.length === files.length);
});

test("kernels are named once, and each is in the source", () => {
  assert.ok(names.length > 0);
  assert.equal(new Set(names).size, names.length);
  for (const name of names)
    assert.equal(kernelSources().filter((source) => source.includes(`\nREVMOE_KERNEL(${name},`)).length, 1, name);
  assert.ok(names.every((name) => /^[a-z0-9_]+$/.test(name)));
});

test("the source says nothing of CUDA's headers or C++'s", () => {
  assert.doesNotMatch(
    kernelSources()
      .join("")
      .replaceAll(/#ifdef __CUDACC_RTC__[\s\S]*?#endif/g, ""),
    /^#include <(?!math.h|stdint.h)/m,
  );
});

test("NVRTC is looked for beside libtorch, newest first, then where the loader looks", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-nvrtc-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [lib, beside] = [join(folder, "torch", "lib"), join(folder, "nvidia", "cu13", "lib")];
  for (const each of [lib, beside]) mkdirSync(each, { recursive: true });
  for (const name of ["libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0"])
    writeFileSync(join(beside, name), "");
  assert.deepEqual(nvrtcCandidates(lib, ""), [
    join(beside, "libnvrtc.so.13"),
    join(beside, "libnvrtc.so.12"),
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libnvrtc.so",
  ]);
  assert.deepEqual(nvrtcCandidates(lib, "/elsewhere/libnvrtc.so"), ["/elsewhere/libnvrtc.so"]);
});

test("without NVRTC it is said what was tried; a file that is no library is an error", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "revmoe-nvrtc-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const missing = join(folder, "libnvrtc.so.13");
  assert.throws(
    () => compileKernels(80, [missing]),
    /there is no NVRTC \(.*libnvrtc\.so\.13: cannot open shared object/,
  );
  writeFileSync(missing, "text");
  assert.throws(() => compileKernels(80, [missing]), /file too short|invalid ELF header/);
  assert.equal(typeof native.launchesKernels(), "boolean");
  assert.ok(readFileSync(missing, "utf8") === "text");
});
