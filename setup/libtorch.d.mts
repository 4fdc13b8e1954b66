// Types of libtorch.mjs, which is plain JavaScript because it runs before TypeScript is installed.

export interface Libtorch {
  /** Which of the three ways found it. */
  source: "LIBTORCH" | "python3" | "system";
  root: string;
  includeDirs: string[];
  libDir: string;
  /** Without a local suffix: "2.6.0", also for "2.6.0+cu124". */
  version: string;
  /** Which of libstdc++'s two string types it was built with. */
  cxx11Abi: boolean;
  /** Whether it carries CUDA libraries; says nothing of a device. */
  cuda: boolean;
  /** Names the build folder: version and a hash of the real path. */
  id: string;
  fingerprint: string;
}

export interface Engine {
  id: string;
  /** Absolute path of the addon. */
  addon: string;
  version: string;
  source: Libtorch["source"];
  root: string;
  libDir: string;
  fingerprint: string;
  /** Whether libtorch's CUDA libraries are linked. */
  cuda: boolean;
  /** Why they are not, where libtorch has them. */
  cudaRefused: string | null;
  /** ISO 8601. */
  builtAt: string;
}

export interface Search {
  env?: NodeJS.ProcessEnv;
  systemRoots?: string[];
}

export interface EngineSearch {
  env?: NodeJS.ProcessEnv;
  /** The build folder; by default build/ of this package. */
  folder?: string;
}

export class SetupError extends Error {}
export const packageRoot: string;
export const buildRoot: string;
export const oldestVersion: string;
export const waysToGetLibtorch: string;
export function findLibtorch(search?: Search): Libtorch;
export function searchLibtorch(search?: Search): Libtorch | undefined;
export function resolveEngine(search?: EngineSearch): Engine;
export function hasNvidiaDriver(): boolean;
export function readEngine(folder: string): Engine | undefined;
