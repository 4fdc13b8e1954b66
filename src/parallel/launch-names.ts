// Where a process learns which rank it is: from the names that launchers put into its environment. Reads nothing else, and opens nothing.
import { UserError } from "../errors.js";

type Environment = Readonly<Record<string, string | undefined>>;

export interface RankPlace {
  rank: number;
  world: number;
  /** Of this machine's ranks. */
  localRank: number;
  /** Where all meet. */
  host: string;
  port: number;
  /** Whether this process has the store there, and not the launcher. */
  serves: boolean;
  /** How often all were started before. */
  restarts: number;
  /** The names that said so. */
  source: string;
}

const DEFAULT_PORT = 29500;
const PORTS_FROM = 20000;
const PORTS = 10000;

/** Null for a process by itself. Errors: UserError where names contradict each other or lack one. */
export function rankPlace(env: Environment): RankPlace | null {
  const found = fromTorchrun(env) ?? fromSlurm(env) ?? fromMpi(env);
  if (found === null || found.world === 1) return null;
  const { rank, world, source } = found;
  if (rank >= world)
    throw new UserError(`${source}: rank ${rank} of ${world} (expected a rank from 0 to ${world - 1}).`);
  return found;
}

/** Also PyTorchJob, and `revmoe launch`. */
function fromTorchrun(env: Environment): RankPlace | null {
  if (env.RANK === undefined && env.WORLD_SIZE === undefined) return null;
  if (env.RANK === undefined || env.WORLD_SIZE === undefined) {
    // One of these names by itself may be anybody's; with an address, somebody meant ranks.
    if (env.MASTER_ADDR === undefined) return null;
    const [has, lacks] = env.RANK === undefined ? ["WORLD_SIZE", "RANK"] : ["RANK", "WORLD_SIZE"];
    throw new UserError(
      `${has}: ${env[has]} is set and ${lacks} is not (expected both, or neither). Set ${lacks} in every process, or unset MASTER_ADDR to train in one.`,
    );
  }
  const world = whole(env, "WORLD_SIZE", 1);
  return {
    rank: whole(env, "RANK"),
    world,
    localRank: whole(env, "LOCAL_RANK", 0, 0),
    ...meetingPlace(env, world, undefined, undefined),
    serves: whole(env, "RANK") === 0 && env.TORCHELASTIC_USE_AGENT_STORE !== "True",
    restarts: whole(env, "TORCHELASTIC_RESTART_COUNT", 0, 0),
    source: "RANK and WORLD_SIZE",
  };
}

/** What `srun` starts; the shell of a batch script has a SLURM_PROCID as well, but no step. */
function fromSlurm(env: Environment): RankPlace | null {
  if (env.SLURM_PROCID === undefined || env.SLURM_STEP_NUM_TASKS === undefined) return null;
  const rank = whole(env, "SLURM_PROCID");
  const world = whole(env, "SLURM_STEP_NUM_TASKS", 1);
  const hosts = env.SLURM_STEP_NODELIST ?? env.SLURM_JOB_NODELIST;
  return {
    rank,
    world,
    localRank: whole(env, "SLURM_LOCALID", 0, 0),
    ...meetingPlace(env, world, hosts && firstHost(hosts), PORTS_FROM + (whole(env, "SLURM_JOB_ID", 0, 0) % PORTS)),
    serves: rank === 0,
    restarts: whole(env, "SLURM_RESTART_COUNT", 0, 0),
    source: "SLURM_PROCID and SLURM_STEP_NUM_TASKS",
  };
}

function fromMpi(env: Environment): RankPlace | null {
  if (env.OMPI_COMM_WORLD_RANK === undefined || env.OMPI_COMM_WORLD_SIZE === undefined) return null;
  const rank = whole(env, "OMPI_COMM_WORLD_RANK");
  const world = whole(env, "OMPI_COMM_WORLD_SIZE", 1);
  const here = env.OMPI_COMM_WORLD_LOCAL_SIZE === env.OMPI_COMM_WORLD_SIZE ? "127.0.0.1" : undefined;
  return {
    rank,
    world,
    localRank: whole(env, "OMPI_COMM_WORLD_LOCAL_RANK", 0, 0),
    ...meetingPlace(env, world, here, DEFAULT_PORT),
    serves: rank === 0,
    restarts: 0,
    source: "OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE",
  };
}

/** What MASTER_ADDR and MASTER_PORT say, else what is known otherwise. */
function meetingPlace(
  env: Environment,
  world: number,
  host: string | undefined,
  port: number | undefined,
): { host: string; port: number } {
  if (world === 1) return { host: "", port: 0 };
  const [address, at] = [env.MASTER_ADDR ?? host, env.MASTER_PORT === undefined ? port : whole(env, "MASTER_PORT", 1)];
  if (address === undefined || address === "" || at === undefined) {
    throw new UserError(
      `${at === undefined ? "MASTER_PORT" : "MASTER_ADDR"} is missing: ${world} ranks must know where to meet. Set it to ${
        at === undefined ? "a free port of rank 0's machine" : "the machine of rank 0"
      }, the same in all.`,
    );
  }
  return { host: address, port: at };
}

/** Of a list as Slurm writes it: node[003-005,9],login1. */
export const firstHost = (list: string): string =>
  (/^(?:[^,[]|\[[^\]]*\])*/.exec(list) as RegExpExecArray)[0].replaceAll(/\[([^\],-]*)[^\]]*\]/g, "$1");

function whole(env: Environment, name: string, least = 0, otherwise?: number): number {
  const text = env[name];
  if ((text === undefined || text === "") && otherwise !== undefined) return otherwise;
  const value = Number(text);
  if (text === "" || !Number.isSafeInteger(value) || value < least)
    throw new UserError(`${name}: ${JSON.stringify(text)} (expected a whole number of at least ${least}).`);
  return value;
}

/** How many processes a node of a Kubeflow job starts, and which node it is. */
export interface NodePlace {
  nnodes: number;
  nodeRank: number;
  nproc: number;
  host: string;
  port: number;
}

/** From PET_NNODES and its like; what is not there is left open. */
export function kubeflowPlace(env: Environment): Partial<NodePlace> {
  const given = <T>(name: string, value: () => T): T | undefined => (env[name] ? value() : undefined);
  return {
    nnodes: given("PET_NNODES", () => whole(env, "PET_NNODES", 1)),
    nodeRank: given("PET_NODE_RANK", () => whole(env, "PET_NODE_RANK")),
    // "auto", "cpu" and "gpu" ask for one per device or processor: a replica uses all processors of its machine by itself.
    nproc: given("PET_NPROC_PER_NODE", () =>
      /^(auto|cpu|gpu)$/.test(env.PET_NPROC_PER_NODE ?? "") ? 1 : whole(env, "PET_NPROC_PER_NODE", 1),
    ),
    host: given("PET_MASTER_ADDR", () => env.PET_MASTER_ADDR as string),
    port: given("PET_MASTER_PORT", () => whole(env, "PET_MASTER_PORT", 1)),
  };
}
