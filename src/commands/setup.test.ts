import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";

import { findLibtorch, rememberLibtorch, resolveEngine, SetupError, searchLibtorch } from "../../setup/libtorch.mjs";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "revmoe-setup-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(path: string, text: string, mode?: number): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text, { mode });
}

interface FakeLibtorch {
  version?: string;
  cuda?: boolean;
  cxx11?: boolean;
  lib?: string;
}

/** A folder that looks like a libtorch; returns it. */
function fakeLibtorch(
  name: string,
  { version = "2.6.0", cuda = false, cxx11 = true, lib = "lib" }: FakeLibtorch = {},
): string {
  const root = join(folder, name);
  write(join(root, "include/ATen/ATen.h"), "");
  write(
    join(root, "include/torch/csrc/api/include/torch/version.h"),
    `#define TORCH_VERSION_MAJOR 9\n#define TORCH_VERSION \\\n  "${version}"\n`,
  );
  const libraries = ["libtorch_cpu.so", "libc10.so", ...(cuda ? ["libtorch_cuda.so", "libc10_cuda.so"] : [])];
  for (const library of libraries) write(join(root, lib, library), "");
  write(
    join(root, lib, "libc10.so"),
    cxx11 ? "_ZN3c1010IndexErrorC1ENSt7__cxx1112basic_string" : "_ZN3c1010IndexErrorC1ESs __cxx11",
  );
  return root;
}

/** A PATH with nothing but a python3 that answers with this torch, or that has none. */
function fakePython(torch: string): string {
  const bin = join(folder, "bin");
  write(join(bin, "python3"), `#!/bin/sh\necho "${torch && join(torch, "__init__.py")}"\n`, 0o755);
  return bin;
}

const messageOf = (fn: () => unknown): string => {
  try {
    fn();
  } catch (failure) {
    assert.ok(failure instanceof SetupError, String(failure));
    return failure.message;
  }
  assert.fail("nothing was thrown");
};

test("LIBTORCH comes before python3, python3 before the system", () => {
  const named = fakeLibtorch("named", { version: "2.1.0" });
  const wheel = fakeLibtorch("wheel", { version: "2.6.0", cuda: true });
  const system = fakeLibtorch("system", { version: "1.13.0" });
  const PATH = fakePython(wheel);
  const search = (env: NodeJS.ProcessEnv) => {
    const { source, root, version } = findLibtorch({ env, systemRoots: [join(folder, "empty"), system], folders: [] });
    return { source, root, version };
  };
  assert.deepEqual(search({ PATH, LIBTORCH: named }), { source: "LIBTORCH", root: named, version: "2.1.0" });
  assert.deepEqual(search({ PATH }), { source: "python3", root: wheel, version: "2.6.0" });
  assert.deepEqual(search({ PATH: fakePython("") }), { source: "system", root: system, version: "1.13.0" });
  assert.deepEqual(search({ PATH: join(folder, "no-such") }), { source: "system", root: system, version: "1.13.0" });
});

test("a torch of python3 without headers gives way to the system", () => {
  const system = fakeLibtorch("system");
  const PATH = fakePython(join(folder, "hollow"));
  assert.equal(findLibtorch({ env: { PATH }, systemRoots: [system], folders: [] }).source, "system");
});

test("a LIBTORCH of no use is an error, though others are there", () => {
  const system = fakeLibtorch("system");
  const message = messageOf(() => findLibtorch({ env: { LIBTORCH: join(folder, "nothing") }, systemRoots: [system] }));
  assert.match(
    message,
    /^LIBTORCH=.*nothing: no libtorch there \(expected include\/ATen\/ATen\.h and lib\/libtorch_cpu\.so in it/,
  );
  assert.match(message, /Correct it, or unset it/);
});

test("LIBTORCH may be a virtual environment or a site-packages folder", () => {
  const packages = join(folder, "venv/lib/python3.11/site-packages");
  const torch = fakeLibtorch("venv/lib/python3.11/site-packages/torch");
  for (const LIBTORCH of [join(folder, "venv"), packages, torch]) {
    assert.equal(findLibtorch({ env: { LIBTORCH } }).root, torch);
  }
});

test("libraries are found in the folder of this processor's Debian", () => {
  const lib = { x64: "lib/x86_64-linux-gnu", arm64: "lib/aarch64-linux-gnu" }[process.arch as "x64" | "arm64"];
  const root = fakeLibtorch("usr", { lib });
  assert.equal(findLibtorch({ env: { LIBTORCH: root } }).libDir, join(root, lib));
});

test("string type, CUDA libraries and identity are read from the files", () => {
  const old = findLibtorch({ env: { LIBTORCH: fakeLibtorch("old", { cxx11: false }) } });
  assert.deepEqual([old.cxx11Abi, old.cuda], [false, false]);
  const wheel = fakeLibtorch("wheel", { cuda: true });
  const now = findLibtorch({ env: { LIBTORCH: wheel } });
  assert.deepEqual([now.cxx11Abi, now.cuda], [true, true]);
  assert.match(now.id, /^2\.6\.0-[0-9a-f]{4}$/);
  assert.notEqual(now.id, old.id);
  assert.deepEqual(now.includeDirs, [join(wheel, "include"), join(wheel, "include/torch/csrc/api/include")]);
});

test("the version comes from build-version where no header says it, without its suffix", () => {
  const root = fakeLibtorch("zip");
  rmSync(join(root, "include/torch"), { recursive: true });
  write(join(root, "build-version"), "2.9.1+cpu\n");
  assert.equal(findLibtorch({ env: { LIBTORCH: root } }).version, "2.9.1");
});

test("none at all: the message names the three ways", () => {
  const none = { env: { PATH: fakePython("") }, systemRoots: [join(folder, "empty")], folders: [] };
  assert.equal(searchLibtorch(none), undefined);
  const message = messageOf(() => findLibtorch(none));
  for (const way of [
    "apt-get update",
    "libtorch-dev libopenblas0-pthread g++",
    "pip install torch",
    "LIBTORCH=/path",
  ]) {
    assert.ok(message.includes(way), `${way} is missing in: ${message}`);
  }
});

test("a libtorch that is too old is refused with its version", () => {
  const root = fakeLibtorch("old", { version: "1.8.1" });
  assert.match(
    messageOf(() => findLibtorch({ env: { LIBTORCH: root } })),
    /old: libtorch 1\.8\.1 is too old \(expected 1\.13 or newer\)/,
  );
});

test("the engine is that of LIBTORCH, else the last one set up", () => {
  const build = join(folder, "build");
  const root = fakeLibtorch("named");
  const { id, libDir, fingerprint } = findLibtorch({ env: { LIBTORCH: root } });
  assert.match(
    messageOf(() => resolveEngine({ env: {}, folders: [build] })),
    /none is built yet. Run: npm run setup/,
  );
  assert.match(
    messageOf(() => resolveEngine({ env: { LIBTORCH: root }, folders: [build] })),
    /no engine is built.*Run: LIBTORCH=.*named npm run setup/,
  );

  write(
    join(build, id, "engine.json"),
    JSON.stringify({ id, libDir, fingerprint, version: "2.6.0", source: "system" }),
  );
  write(join(build, id, "revmoe.node"), "");
  const engine = resolveEngine({ env: { LIBTORCH: root }, folders: [build] });
  assert.deepEqual([engine.addon, engine.source], [join(build, id, "revmoe.node"), "LIBTORCH"]);

  write(join(build, "engine.json"), JSON.stringify({ id, libDir, fingerprint, version: "2.6.0", source: "system" }));
  assert.equal(resolveEngine({ env: {}, folders: [build] }).source, "system");
  write(join(libDir, "libtorch_cpu.so"), "another build of libtorch");
  assert.match(
    messageOf(() => resolveEngine({ env: {}, folders: [build] })),
    /libtorch is not the 2\.6\.0 that the engine was built against/,
  );
});

test("LIBTORCH of a set-up is remembered, said, and forgotten by an empty one", () => {
  const build = join(folder, "build");
  const system = fakeLibtorch("system", { version: "1.13.0" });
  const PATH = fakePython("");
  const search = (env: NodeJS.ProcessEnv = {}) => {
    const found = findLibtorch({ env: { PATH, ...env }, systemRoots: [system], folders: [build] });
    return [found.source, found.root];
  };
  for (const name of ["first", "second"]) {
    const root = fakeLibtorch(name);
    rememberLibtorch({ source: "LIBTORCH" }, { env: { LIBTORCH: root }, folder: build });
    assert.deepEqual(search(), ["remembered", root]);
  }
  // A plain set-up keeps it, and who names another for once gets that.
  rememberLibtorch({ source: "remembered" }, { env: {}, folder: build });
  assert.deepEqual(search({ LIBTORCH: system }), ["LIBTORCH", system]);
  rmSync(join(folder, "second"), { recursive: true });
  assert.match(
    messageOf(search),
    /^LIBTORCH=.*second of an earlier set-up: no libtorch is there any more\. .*LIBTORCH= npm run setup/,
  );
  assert.deepEqual(search({ LIBTORCH: "" }), ["system", system]);
  rememberLibtorch({ source: "system" }, { env: { LIBTORCH: "" }, folder: build });
  assert.deepEqual(search(), ["system", system]);
});

test("the person's own engine comes before that of the package", () => {
  const [own, shared] = [join(folder, "own"), join(folder, "shared")];
  const { id, libDir, fingerprint } = findLibtorch({ env: { LIBTORCH: fakeLibtorch("named") } });
  const build = (at: string) => {
    write(join(at, "engine.json"), JSON.stringify({ id, libDir, fingerprint, version: "2.6.0", source: "LIBTORCH" }));
    write(join(at, id, "revmoe.node"), "");
  };
  build(shared);
  const resolved = () => resolveEngine({ env: {}, folders: [own, shared] });
  assert.deepEqual([resolved().addon, resolved().source], [join(shared, id, "revmoe.node"), "remembered"]);
  build(own);
  assert.equal(resolved().addon, join(own, id, "revmoe.node"));
  rmSync(libDir, { recursive: true });
  assert.match(messageOf(resolved), /there is no libtorch any more, the 2\.6\.0 that the engine was built against/);
});
