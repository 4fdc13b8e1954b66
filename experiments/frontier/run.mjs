// Billions of parameters, all trained, with the weights on disk:
//   node experiments/frontier/run.mjs [--geometry NAME] [--layers N] [--experts N] [--tokens N] [--steps N]
//     [--optimizer NAME] [--rate X] [--compute-dtype NAME] [--expert-group-size N] [--loss-tile-tokens N]
//     [--durability snapshot|step] [--dir FOLDER] [--json FILE]
// A released geometry, by default that of Qwen1.5-MoE-A2.7B, with random bfloat16 weights. They are made in the folder
// on disk and removed at the end, also after Ctrl-C; one batch of real text (Moby-Dick, with the tokenizer of
// examples/tiny-moe) is repeated. Disk bandwidth is measured first, past the page cache. Anonymous memory is sampled
// from outside. work.mjs does the work, in its own process.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { configOf, GEOMETRIES, parametersOf } from "./geometry.mjs";

const { values } = parseArgs({
  options: {
    geometry: { type: "string", default: "qwen1.5-moe-a2.7b" },
    layers: { type: "string" },
    experts: { type: "string" },
    tokens: { type: "string", default: "1024" },
    steps: { type: "string", default: "3" },
    optimizer: { type: "string", default: "adalomo" },
    rate: { type: "string", default: "0.01" },
    "compute-dtype": { type: "string", default: "auto" },
    "expert-group-size": { type: "string", default: "0" },
    "loss-tile-tokens": { type: "string", default: "1024" },
    durability: { type: "string", default: "snapshot" },
    dir: { type: "string", default: tmpdir() },
    json: { type: "string" },
  },
});
if (!GEOMETRIES.includes(values.geometry)) {
  console.error(`--geometry ${values.geometry}: is not known (expected ${GEOMETRIES.join(", ")}).`);
  process.exit(2);
}
const [layers, experts] = [values.layers, values.experts].map((given) => given && Number(given));
const parameters = parametersOf(configOf(values.geometry, { layers, experts }));
const needed = 2 * parameters * (values.durability === "step" ? 2 : 1) * 1.03 + 3e9;
const { bavail, bsize } = statfsSync(values.dir);
if (bavail * bsize < needed) {
  console.error(
    `${values.dir}: ${gb(needed)} are needed, ${gb(bavail * bsize)} are free. Choose another --dir, or fewer --layers.`,
  );
  process.exit(1);
}

const folder = mkdtempSync(join(values.dir, "revmoe-frontier-"));
let child;
const cleanUp = () => {
  child?.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
};
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    cleanUp();
    process.exit(130);
  });
}
try {
  const disk = measureDisk(join(folder, "probe"));
  console.log(`disk: reads ${gb(disk.read)}/s, writes ${gb(disk.write)}/s (2 GiB past the page cache)`);
  const result = await work();
  report({ ...result, disk });
} finally {
  cleanUp();
}

function measureDisk(path) {
  const megabytes = 2048;
  const dd = (...args) => {
    const started = performance.now();
    const { status, stderr } = spawnSync("dd", [...args, "bs=8M"], { encoding: "utf8" });
    if (status !== 0) throw new Error(`dd ${args.join(" ")}: ${stderr}`);
    return (megabytes * 2 ** 20) / ((performance.now() - started) / 1000);
  };
  const write = dd("if=/dev/zero", `of=${path}`, `count=${megabytes / 8}`, "oflag=direct", "conv=fsync");
  const read = dd(`if=${path}`, "of=/dev/null", "iflag=direct");
  rmSync(path);
  return { read, write };
}

async function work() {
  mkdirSync(join(folder, "run"));
  const script = fileURLToPath(new URL("./work.mjs", import.meta.url));
  const options = {
    ...values,
    layers,
    experts,
    tokens: Number(values.tokens),
    steps: Number(values.steps),
    rate: Number(values.rate),
    computeDtype: values["compute-dtype"],
    expertGroupSize: Number(values["expert-group-size"]),
    lossTileTokens: Number(values["loss-tile-tokens"]),
    folder,
  };
  child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ["ignore", "pipe", "inherit"] });
  const result = { steps: [], peakAnonBytes: 0 };
  const sampler = setInterval(() => {
    try {
      const kib = Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1] ?? 0);
      result.peakAnonBytes = Math.max(result.peakAnonBytes, kib * 1024);
    } catch {
      // The process has ended.
    }
  }, 100);
  const ended = new Promise((done) => child.on("close", done));
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line);
    if (event.kind === "step") {
      result.steps.push(event);
      console.log(
        `step ${event.step}: loss ${event.loss.toFixed(4)}, ${event.seconds.toFixed(1)} s ` +
          `(waiting for reads ${event.waitS.toFixed(1)}, updates ${event.updateS.toFixed(1)}, undo log and sync ${event.writeS.toFixed(1)}), ` +
          `read ${gb(event.readBytes)}, written ${gb(event.writtenBytes)}`,
      );
    } else {
      Object.assign(result, event);
      if (event.kind === "planned")
        console.log(`planned: ${gib(event.deviceBytes)}, and ${gib(event.diskBytes)} in files`);
      if (event.makeS)
        console.log(`${(event.parameters / 1e9).toFixed(3)} B parameters, made on disk in ${event.makeS.toFixed(1)} s`);
    }
  }
  clearInterval(sampler);
  const code = await ended;
  if (code !== 0) throw new Error(`work.mjs ended with ${code}`);
  if (result.parameters !== parameters) throw new Error(`${result.parameters} parameters instead of ${parameters}`);
  return result;
}

function report(result) {
  const { disk, steps } = result;
  // The first step finds the page cache as it was after the weights were made; the last is the steady state.
  const last = steps.at(-1);
  const [readS, writeS] = [last.readBytes / disk.read, last.writtenBytes / disk.write];
  const computeS = last.seconds - last.waitS - last.updateS - last.writeS;
  const limitS = readS + writeS;
  const share = (seconds) => `${((100 * seconds) / last.seconds).toFixed(0)} %`;
  console.log(`loss: ${steps.map(({ loss }) => loss.toFixed(4)).join(" -> ")}`);
  console.log(
    `last step: ${last.seconds.toFixed(1)} s: waiting for reads ${share(last.waitS)}, computing ${share(computeS)}, updates ${share(last.updateS)}, ` +
      `undo log and sync ${share(last.writeS)}; rest of the writing after the last step ${result.flushS.toFixed(1)} s`,
  );
  console.log(
    `limit of the disk: ${limitS.toFixed(1)} s (${readS.toFixed(1)} reading, ${writeS.toFixed(1)} writing); the step takes ${(last.seconds / limitS).toFixed(2)} times that`,
  );
  console.log(
    `peak anonymous memory ${gib(result.peakAnonBytes)}; allocator's peak ${gib(result.memory.peakBytes)} = ${result.terms}`,
  );
  console.log(
    "| parameters | tokens | optimizer | s/step | reads awaited | computing | updates | read | written | disk limit | peak anonymous | loss |",
  );
  console.log("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
  console.log(
    `| ${(result.parameters / 1e9).toFixed(2)} B | ${result.tokens} | ${values.optimizer} | ${last.seconds.toFixed(1)} | ${share(last.waitS)} | ${share(computeS)} | ` +
      `${share(last.updateS)} | ${gb(last.readBytes)} | ${gb(last.writtenBytes)} | ${limitS.toFixed(1)} s | ${gib(result.peakAnonBytes)} | ` +
      `${steps.map(({ loss }) => loss.toFixed(3)).join(", ")} |`,
  );
  if (values.json)
    writeFileSync(values.json, `${JSON.stringify({ settings: values, ...result, limitS, computeS }, null, 2)}\n`);
  if (!(last.loss < steps[0].loss)) {
    console.error("the loss did not fall");
    process.exitCode = 1;
  }
}

function gb(bytes) {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

function gib(bytes) {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
