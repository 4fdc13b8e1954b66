// Identifies a process so that another process can check it later. A number alone is not enough, since the system gives
// it to another process once the first has ended; so the process's start, the machine and its boot go with it. Owns
// nothing.
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";

export interface ProcessIdentity {
  pid: number;
  host: string;
  /** Empty if the system does not say. */
  machine: string;
  /** Identifies this boot of the machine; empty if the system does not say. */
  boot: string;
  /** Containers number processes separately; empty if the system does not say. */
  pidNamespace: string;
  /** Start of the process in ticks since the machine's boot; empty if the system does not say. */
  started: string;
}

export function thisProcess(): ProcessIdentity {
  return {
    pid: process.pid,
    host: hostname(),
    machine: orEmpty(() => readFileSync("/etc/machine-id", "utf8").trim()),
    boot: orEmpty(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()),
    pidNamespace: orEmpty(() => readlinkSync("/proc/self/ns/pid")),
    started: statusOf(process.pid)?.started ?? "",
  };
}

/** "gone" is certain; "unknown" means that the process cannot be seen from here. */
export function stateOf(one: ProcessIdentity): "alive" | "gone" | "unknown" {
  const here = thisProcess();
  if (one.host !== here.host || one.machine !== here.machine) return "unknown";
  if (one.boot !== here.boot) return "gone";
  if (one.pidNamespace !== here.pidNamespace) return "unknown";
  try {
    process.kill(one.pid, 0);
  } catch (failure) {
    // Any other error says that the process exists and is another user's.
    if ((failure as NodeJS.ErrnoException).code === "ESRCH") return "gone";
  }
  const status = statusOf(one.pid);
  if (!status || one.started === "") return "alive";
  return status.ended || status.started !== one.started ? "gone" : "alive";
}

/**
 * From proc(5): the name, in parentheses, may hold anything; the state is the first field after it, the start the
 * twentieth.
 */
function statusOf(pid: number): { ended: boolean; started: string } | undefined {
  const text = orEmpty(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  if (text === "") return undefined;
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { ended: fields[0] === "Z" || fields[0] === "X", started: fields[19] };
}

function orEmpty(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}
