import assert from "node:assert/strict";
import { test } from "node:test";

import { adviceFor, report, run } from "./doctor.js";
import { blasOf, type EngineFacts, type Facts } from "./machine.js";

const engine: EngineFacts = {
  libtorch: { version: "2.6.0", source: "python3", root: "/venv/torch" },
  addon: "/revmoe/build/2.6.0-ab12/revmoe.node",
  builtAt: "2026-01-02T03:04:05.000Z",
  threads: 8,
  cudaDevices: 0,
  cuda: false,
  cudaRefused: null,
  blas: "mkl (in libtorch)",
  groups: true,
  nccl: null,
  libtorchKernels: "AVX512",
  kernels: {
    devices: [{ device: "cpu", form: "avx512", whyNot: null }],
    nvrtc: null,
    nvrtcFailure: "there is no NVRTC (libnvrtc.so.13: cannot open shared object file)",
    cubins: { folder: "/revmoe/build/2.6.0-ab12/kernels", files: 0, bytes: 0 },
  },
  float32Gflops: 400,
  bfloat16Gflops: 1600,
};
const facts: Facts = {
  node: "20.17.0",
  processor: "Some CPU",
  cores: 8,
  instructions: { AVX2: true, AMX: false },
  nvidiaDriver: false,
  memory: { totalBytes: 64 * 2 ** 30, availableBytes: 48 * 2 ** 30 },
  disk: { folder: "/runs", availableBytes: 2 ** 40 },
  engine,
  engineFailure: null,
  found: engine.libtorch,
  foundFailure: null,
};

const problems = (changed: Partial<Facts>, changedEngine: Partial<EngineFacts> = {}): string[] =>
  adviceFor({ ...facts, engine: { ...engine, ...changedEngine }, ...changed }).map(
    ({ problem, remedy }) => `${problem} | ${remedy}`,
  );

test("a good machine gets no advice", () => {
  assert.deepEqual(problems({}), []);
  const text = report(facts, []);
  assert.match(
    text,
    /^libtorch +2\.6\.0 from the torch of python3 \(\/venv\/torch\); for another: LIBTORCH=\/path npm run setup$/m,
  );
  assert.match(text, /^bfloat16 +1600 GFLOP\/s on the CPU; fast: 4\.0 times float32$/m);
  assert.match(text, /^instructions +AVX2, no AMX$/m);
  assert.match(text, /^memory +48\.0 GiB available of 64\.0 GiB$/m);
  assert.match(text, /Nothing is missing\.\n$/);
});

test("no engine: why, and what a set-up would do", () => {
  const found = { ...facts, engine: null, engineFailure: "engine: none is built yet. Run: npm run setup" };
  assert.deepEqual(adviceFor(found), [
    {
      problem: "no engine: engine: none is built yet. Run: npm run setup",
      remedy: "npm run setup; it would use libtorch 2.6.0 from the torch of python3 (/venv/torch)",
    },
  ]);
  assert.match(
    adviceFor({ ...found, found: null })[0].remedy,
    /or get libtorch yourself:\n.*apt-get install .*libtorch-dev libopenblas0-pthread g\+\+/,
  );
});

test("an NVIDIA card that is not used gets the remedy that fits", () => {
  assert.match(problems({ nvidiaDriver: true })[0], /has no CUDA \| pip install torch/);
  assert.match(
    problems({ nvidiaDriver: true }, { cudaRefused: "no NVIDIA driver here" })[0],
    /is not linked: no NVIDIA driver here \| npm run setup/,
  );
  assert.match(problems({ nvidiaDriver: true }, { cuda: true })[0], /no device answers \| nvidia-smi/);
  assert.deepEqual(problems({ nvidiaDriver: true }, { cuda: true, cudaDevices: 1 }), []);
});

test("kernels: where they run, what compiles them, what is kept of it", () => {
  const withGpus = (whyNots: (string | null)[]): EngineFacts => ({
    ...engine,
    cudaDevices: whyNots.length,
    kernels: {
      devices: [
        ...engine.kernels.devices,
        ...whyNots.map((whyNot, i) => ({ device: `cuda:${i}`, form: whyNot === null ? "loaded" : null, whyNot })),
      ],
      nvrtc: { library: "/venv/nvidia/cu13/lib/libnvrtc.so.13", version: "13.0" },
      nvrtcFailure: null,
      cubins: { folder: "/cubins", files: 2, bytes: 3 * 2 ** 20 },
    },
  });
  assert.match(
    report(facts, []),
    /^kernels +cpu: avx512\nNVRTC +there is no NVRTC \(.*\); only GPUs need it\ncubins +none kept, in \/revmoe/m,
  );
  assert.match(
    report({ ...facts, engine: withGpus([null, "there is no NVRTC (nowhere)"]) }, []),
    /cpu: avx512; cuda:0: loaded; cuda:1: libtorch's operators \(there is no NVRTC \(nowhere\)\)\nNVRTC +13\.0 \(\/venv.*\)\ncubins +2 kept, 3\.00 MiB, in \/cubins$/m,
  );
  const advice = (whyNot: string): string[] => problems({}, withGpus([whyNot]));
  assert.match(
    advice("there is no NVRTC (nowhere)")[0],
    /^cuda:0 runs .*: there is no NVRTC \(nowhere\) \| pip install/,
  );
  assert.match(advice("this libtorch does not hand out its streams")[0], /\| pip install --upgrade torch; npm run/);
  assert.match(advice("nvrtcCompileProgram: NVRTC_ERROR_COMPILATION")[0], /\| report it/);
  assert.deepEqual(advice("REVMOE_KERNELS=reference"), []);
});

test("doctor says why this libtorch is used, and how to have another", () => {
  const line = (source: "LIBTORCH" | "remembered" | "system"): string =>
    report({ ...facts, engine: { ...engine, libtorch: { version: "2.6.0", source, root: "/x" } } }, []).split("\n")[1];
  assert.match(line("LIBTORCH"), /2\.6\.0 from LIBTORCH \(\/x\); LIBTORCH is set$/);
  assert.match(
    line("remembered"),
    /from the LIBTORCH of an earlier set-up \(\/x\); for another: .*; to forget it: LIBTORCH= npm run setup$/,
  );
  assert.match(line("system"), /from the system \(\/x\); for another: LIBTORCH=\/path npm run setup$/);
  assert.match(
    problems({ found: null, foundFailure: "LIBTORCH=/x is gone" })[0],
    /would find no libtorch \| LIBTORCH=\/x is gone/,
  );
});

test("where float32 is too slow to time, no ratio is made up", () => {
  const slow = (bfloat16Gflops: number): string =>
    report({ ...facts, engine: { ...engine, float32Gflops: 0, bfloat16Gflops } }, []);
  assert.match(slow(80), /float32 +very slow on the CPU\nbfloat16 +80 GFLOP\/s on the CPU; faster than float32/);
  assert.match(slow(0), /bfloat16 +very slow on the CPU; as slow as float32/);
});

test("a slow BLAS and a newer libtorch are pointed out", () => {
  assert.match(problems({}, { blas: "reference BLAS (slow)" })[0], /apt-get install .*libopenblas0-pthread/);
  assert.match(
    problems({ found: { version: "1.13.0", source: "system", root: "/usr" } })[0],
    /would now take libtorch 1\.13\.0 from the system \(\/usr\)/,
  );
});

test("the BLAS is named by what is loaded, then by what libtorch says", () => {
  const line = (path: string): string => `7f00-7f01 r-xp 00000000 fe:00 1 ${path}`;
  const reference = line("/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0");
  assert.equal(
    blasOf("BLAS_INFO=generic, ", `${reference}\n${line("/usr/lib/openblas-pthread/libopenblasp-r0.3.21.so")}`),
    "OpenBLAS (libopenblasp-r0.3.21.so)",
  );
  assert.equal(blasOf("BLAS_INFO=generic, ", reference), "reference BLAS (slow)");
  assert.equal(blasOf("Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release", ""), "mkl (in libtorch)");
});

test("the command prints one JSON document and succeeds where an engine is", async () => {
  let text = "";
  const out = { write: (part: string) => (text += part) };
  assert.equal(await run({ settings: {}, given: new Set(), json: true, out, err: out }), 0);
  const said = JSON.parse(text) as Facts;
  assert.ok(said.engine && said.engine.float32Gflops >= 0 && said.engine.bfloat16Gflops >= 0);
  const [cpu, ...gpus] = said.engine.kernels.devices;
  assert.match(cpu.form ?? "", /^(plain|avx2|avx512|emulated)$/);
  assert.equal(gpus.length, said.engine.cudaDevices);
  assert.equal(said.engine.kernels.nvrtc === null, said.engine.kernels.nvrtcFailure !== null);
  assert.equal(said.node, process.versions.node);
});
