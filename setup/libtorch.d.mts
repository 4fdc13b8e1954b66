// Types of libtorch.mjs, which is plain JavaScript because it runs before TypeScript is installed.

export interface Libtorch {
  /** Which way found it; remembered: by the LIBTORCH of an earlier set-up. */
  source: "LIBTORCH" | "remembered" | "python3" | "system";
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
  /** Where a remembered LIBTORCH may be; by default the folders where engines may be. */
  folders?: string[];
}

export interface EngineSearch {
  env?: NodeJS.ProcessEnv;
  /** Where engines may be, in order; by default build/ of this package, or the person's cache before it. */
  folders?: string[];
}

/** The folder that holds native/, setup/ and, after a set-up, dist/ and build/. */
export const packageRoot: string;
export class SetupError extends Error {}
/** What the person types to install these packages of Debian or Ubuntu. */
export function installLine(packages: string[]): string;
/** What the person types to set up. */
export const setUpCommand: string;
/** What must be in the environment before libtorch is opened, unless the person set it otherwise. */
export const beforeOpening: Readonly<Record<string, string>>;
export const oldestVersion: string;
export function waysToGetLibtorch(): string;
export function sourceName(source: Libtorch["source"]): string;
export function findLibtorch(search?: Search): Libtorch;
export function searchLibtorch(search?: Search): Libtorch | undefined;
export function rememberLibtorch(
  libtorch: Pick<Libtorch, "source">,
  options?: { env?: NodeJS.ProcessEnv; folder?: string },
): void;
export function resolveEngine(search?: EngineSearch): Engine;
export function hasNvidiaDriver(): boolean;
export function readEngine(folder: string): Engine | undefined;
