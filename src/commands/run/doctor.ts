// `revmoe doctor`: reports what was found on this machine, what is missing, and how to get it. Exit code 1 means that
// there is no engine, so scripts can ask for it.
import { installLine, setUpCommand, sourceName, waysToGetLibtorch } from "../../../setup/libtorch.mjs";
import { formatBytes } from "../../format.js";
import type { CommandInput } from "../command.js";
import type { KernelFacts } from "../../torch/kernels/facts.js";
import { type Facts, gatherFacts } from "./machine.js";

export interface Advice {
  problem: string;
  remedy: string;
}

export async function run({ json, out }: CommandInput): Promise<number> {
  const facts = await gatherFacts();
  const advice = adviceFor(facts);
  out.write(json ? `${JSON.stringify({ ...facts, advice }, null, 2)}\n` : report(facts, advice));
  return facts.engine ? 0 : 1;
}

/** What is missing or could be better, the most urgent first. */
export function adviceFor(facts: Facts): Advice[] {
  const { engine, found, nvidiaDriver } = facts;
  if (!engine) {
    return [
      {
        problem: `no engine: ${facts.engineFailure?.split("\n")[0]}`,
        remedy: found
          ? `${setUpCommand}; it would use libtorch ${found.version} from ${sourceOf(found)}`
          : (facts.foundFailure ?? `${setUpCommand}, or get libtorch yourself:\n${waysToGetLibtorch()}`),
      },
    ];
  }
  const advice: Advice[] = [];
  const { libtorch } = engine;
  if (nvidiaDriver && engine.cudaDevices === 0) {
    if (engine.cuda)
      advice.push({
        problem: "CUDA is linked, but no device answers",
        remedy: "nvidia-smi shows why; its driver may be too old for this libtorch",
      });
    else if (engine.cudaRefused)
      advice.push({
        problem: `an NVIDIA driver is here, but CUDA is not linked: ${engine.cudaRefused}`,
        remedy: setUpCommand,
      });
    else
      advice.push({
        problem: `an NVIDIA driver is here, but libtorch ${libtorch.version} (${libtorch.root}) has no CUDA`,
        remedy: `pip install torch; ${setUpCommand}`,
      });
  }
  for (const { device, whyNot } of engine.kernels.devices) {
    if (device === "cpu" || whyNot === null || whyNot.startsWith("REVMOE_KERNELS")) continue;
    advice.push({
      problem: `${device} runs libtorch's operators in place of our kernels, which takes longer: ${whyNot}`,
      remedy: /no NVRTC/.test(whyNot)
        ? "pip install nvidia-cuda-nvrtc beside torch, or REVMOE_NVRTC=/path/libnvrtc.so.13"
        : /streams/.test(whyNot)
          ? `pip install --upgrade torch; ${setUpCommand}`
          : "report it, with the output of revmoe doctor --json",
    });
  }
  if (engine.blas.startsWith("reference")) {
    advice.push({
      problem: "float32 products use the slow reference BLAS",
      remedy: installLine(["libopenblas0-pthread"]),
    });
  }
  if (found && found.root !== libtorch.root) {
    advice.push({
      problem: `a set-up would now take libtorch ${found.version} from ${sourceOf(found)}`,
      remedy: setUpCommand,
    });
  }
  if (facts.foundFailure) advice.push({ problem: "a set-up would find no libtorch", remedy: facts.foundFailure });
  return advice;
}

type Place = NonNullable<Facts["found"]>;

const sourceOf = ({ source, root }: Place): string => `${sourceName(source)} (${root})`;

/** Why this libtorch is used, and how to use another. */
function whyThis({ source }: Place): string {
  if (source === "LIBTORCH") return "LIBTORCH is set";
  const another = `for another: LIBTORCH=/path ${setUpCommand}`;
  return source === "remembered" ? `${another}; to forget it: LIBTORCH= ${setUpCommand}` : another;
}

export function report(facts: Facts, advice: readonly Advice[]): string {
  const { engine, memory, disk } = facts;
  const rows = [
    ["Node.js", facts.node],
    ...(engine ? engineRows(engine) : [["engine", "none"]]),
    ["processor", `${facts.processor}, ${facts.cores} core(s)`],
    [
      "instructions",
      Object.entries(facts.instructions)
        .map(([name, has]) => (has ? name : `no ${name}`))
        .join(", "),
    ],
    ["memory", `${formatBytes(memory.availableBytes)} available of ${formatBytes(memory.totalBytes)}`],
    ["disk", `${formatBytes(disk.availableBytes)} available in ${disk.folder}`],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  const lines = rows.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
  lines.push(
    "",
    ...(advice.length === 0
      ? ["Nothing is missing."]
      : advice.flatMap(({ problem, remedy }) => [`- ${problem}`, `  remedy: ${remedy}`])),
  );
  return `${lines.join("\n")}\n`;
}

function engineRows(engine: NonNullable<Facts["engine"]>): string[][] {
  const { libtorch } = engine;
  const cuda =
    engine.cudaDevices > 0
      ? Array.from({ length: engine.cudaDevices }, (_, i) => `cuda:${i}`).join(", ")
      : "no CUDA device";
  return [
    ["libtorch", `${libtorch.version} from ${sourceOf(libtorch)}; ${whyThis(libtorch)}`],
    ["engine", `${engine.addon}, built ${engine.builtAt.slice(0, 16).replace("T", " ")} UTC`],
    ["devices", `cpu with ${engine.threads} thread(s); ${cuda}`],
    ["ranks", ranksRow(engine)],
    ["BLAS", engine.blas],
    ["operators", `libtorch's use ${engine.libtorchKernels}`],
    ...kernelRows(engine.kernels),
    ["float32", speed(engine.float32Gflops)],
    ["bfloat16", `${speed(engine.bfloat16Gflops)}; ${bfloat16Verdict(engine)}`],
  ];
}

function ranksRow({ groups, nccl }: NonNullable<Facts["engine"]>): string {
  if (!groups) return "one process: this libtorch has no Gloo";
  return `several processes, over Gloo; ${nccl === null ? "no NCCL" : `between cards NCCL ${nccl.version} can be asked for (${nccl.library})`}`;
}

function kernelRows({ devices, nvrtc, nvrtcFailure, cubins }: KernelFacts): string[][] {
  const onDevices = devices.map(
    ({ device, form, whyNot }) => `${device}: ${form ?? `libtorch's operators (${whyNot})`}`,
  );
  const kept = cubins.files === 0 ? "none kept" : `${cubins.files} kept, ${formatBytes(cubins.bytes)}`;
  return [
    ["kernels", onDevices.join("; ")],
    ["NVRTC", nvrtc ? `${nvrtc.version} (${nvrtc.library})` : `${nvrtcFailure}; only GPUs need it`],
    ["cubins", `${kept}, in ${cubins.folder}`],
  ];
}

const speed = (gflops: number): string =>
  gflops > 0 ? `${gflops.toFixed(0)} GFLOP/s on the CPU` : "very slow on the CPU";

function bfloat16Verdict({ float32Gflops, bfloat16Gflops }: NonNullable<Facts["engine"]>): string {
  const ratio = bfloat16Gflops / float32Gflops;
  if (float32Gflops === 0) return bfloat16Gflops > 0 ? "faster than float32" : "as slow as float32";
  if (ratio > 1.2) return `fast: ${ratio.toFixed(1)} times float32`;
  return ratio > 0.8 ? "as fast as float32" : "slow: compute in float32";
}
