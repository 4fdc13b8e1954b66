// NVRTC, the compiler in CUDA's libraries, which needs no GPU: finds it, and compiles the kernels for a GPU's
// architecture, each file of kernels by itself and all at the same time. Results are kept in a folder under a hash of
// everything they depend on. They are put there by a rename, so several processes may do it at once.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { packageRoot } from "../../../setup/libtorch.mjs";
import { native } from "../binding.js";

const OPTIONS = ["--std=c++17", "--fmad=false", "--device-as-default-execution-space"];

const INCLUDED = /^#include "(.*)"$/gm;

/**
 * The sources of kernels, one for each file that all.h includes: the file after those that it includes itself (without
 * their kernels), each below a line with its name.
 */
export function kernelSources(folder = join(packageRoot, "native", "kernels")): string[] {
  const textOf = (name: string): string => readFileSync(join(folder, name), "utf8");
  return [...textOf("all.h").matchAll(INCLUDED)].map(([, file]) => {
    const read = new Set<string>();
    const joined = (name: string): string => {
      if (read.has(name)) return "";
      read.add(name);
      const text = textOf(name);
      const included = [...text.matchAll(INCLUDED)].map(([, other]) => joined(other));
      const own = name === file ? text : text.replaceAll(/^REVMOE_KERNEL\(.*$/gm, "");
      return `${included.join("")}#line 1 "${name}"\n${own.replaceAll(/^#(pragma once|include ").*$/gm, "")}\n`;
    };
    return joined(file);
  });
}

const NAME = /^libnvrtc\.so(\.\d+)*$/;
/** Folders beside libtorch/lib from PyPI: the packages of CUDA 13 and 12. */
const PACKAGES = ["nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"];
const SYSTEM = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];

/**
 * Where NVRTC may be, the likeliest place first: only REVMOE_NVRTC if it is set; else beside libtorch, then names that
 * the loader searches.
 */
export function nvrtcCandidates(libDir: string, wanted = process.env.REVMOE_NVRTC): string[] {
  if (wanted) return [wanted];
  const packages = dirname(dirname(libDir));
  const folders = [libDir, ...PACKAGES.map((name) => join(packages, name))].filter(existsSync);
  return [
    ...folders.flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => NAME.test(name))
        .sort()
        .reverse()
        .map((name) => join(folder, name)),
    ),
    ...SYSTEM,
  ];
}

/**
 * The first library that can be opened, and its version. Errors: the loader's messages if there is none; what is wrong
 * with a file that exists.
 */
export function findNvrtc(libraries: readonly string[]): { library: string; version: string } {
  const missing: string[] = [];
  for (const library of libraries) {
    try {
      return { library, version: native.nvrtcVersion(library) };
    } catch (failure) {
      const { message } = failure as Error;
      if (!message.includes("cannot open shared object")) throw failure;
      missing.push(message);
    }
  }
  throw new Error(`there is no NVRTC (${missing.at(0) ?? "nowhere to look"})`);
}

/**
 * Compiles the kernels for an architecture (90 for sm_90). Errors: those of findNvrtc; NVRTC's own log, which names
 * file and line.
 */
export function compileKernels(
  capability: number,
  libraries: readonly string[],
  sources = kernelSources(),
): Uint8Array[] {
  // The suffix allows a chip's own instructions; the kernels need nothing that only that chip has.
  const architecture = `sm_${capability}${capability >= 90 ? "a" : ""}`;
  const { library } = findNvrtc(libraries);
  return native.compileKernels(library, sources, [...OPTIONS, `--gpu-architecture=${architecture}`]);
}

/**
 * The same, taken from the folder if they are there. `version` is the driver's; `files` has null for what could not be
 * kept.
 */
export function cachedKernels(folder: string, capability: number, version: number, libraries: readonly string[]) {
  const sources = kernelSources();
  const files = sources.map((source) => {
    const key = createHash("sha256").update(JSON.stringify([source, OPTIONS, capability, version, libraries[0]]));
    return join(folder, `${key.digest("hex").slice(0, 32)}.cubin`);
  });
  const missing = [...files.keys()].filter((i) => !existsSync(files[i]));
  const made =
    missing.length === 0
      ? []
      : compileKernels(
          capability,
          libraries,
          missing.map((i) => sources[i]),
        );
  const cubins = files.map((file, i) =>
    missing.includes(i) ? made[missing.indexOf(i)] : new Uint8Array(readFileSync(file)),
  );
  return { files: files.map((file, i) => (!missing.includes(i) || keepCubin(file, cubins[i]) ? file : null)), cubins };
}

/** Returns whether the file could be written. */
function keepCubin(file: string, cubin: Uint8Array): boolean {
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(`${file}.${process.pid}.part`, cubin);
    renameSync(`${file}.${process.pid}.part`, file);
    return true;
  } catch {
    return false;
  }
}
