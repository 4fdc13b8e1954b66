// Bare Debian machines as folders: made once by debootstrap; each use has its own layer (overlayfs), which is thrown
// away. Root only. A machine has this machine's Node.js, its access to the network (apt's Acquire settings,
// certificates), and otherwise only Debian's smallest system.
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** @typedef {{ folder: string, root: string, stop: () => void }} Machine */

/** @param {string} suite @param {string} folder everything is kept below it. @returns {Machine} */
export function startMachine(suite, folder) {
  const base = join(folder, `base-${suite}`);
  if (!existsSync(base)) makeBase(suite, base);
  const layer = join(folder, `machine-${suite}`);
  const root = join(layer, "root");
  stopMachine(layer);
  for (const name of ["root", "upper", "work"]) mkdirSync(join(layer, name), { recursive: true });
  const layers = `lowerdir=${base},upperdir=${join(layer, "upper")},workdir=${join(layer, "work")}`;
  must("mount", "-t", "overlay", "overlay", "-o", layers, root);
  // Downloads are kept from one machine to the next.
  const archives = join(folder, `archives-${suite}`);
  mkdirSync(join(archives, "partial"), { recursive: true });
  for (const mounted of [
    ["--bind", archives, join(root, "var/cache/apt/archives")],
    ["--rbind", "/dev", join(root, "dev")],
    ["-t", "proc", "proc", join(root, "proc")],
  ]) {
    must("mount", ...mounted);
  }
  must("mount", "--make-rslave", join(root, "dev"));
  return { folder: layer, root, stop: () => stopMachine(layer) };
}

/** @param {string} suite @param {string} base */
function makeBase(suite, base) {
  console.log(`${suite}: making the bare system by debootstrap (a minute or so)`);
  const part = `${base}.part`;
  rmSync(part, { recursive: true, force: true });
  must("debootstrap", "--variant=minbase", suite, part);
  for (const name of readdirSync("/etc/apt/apt.conf.d")) {
    const file = join("/etc/apt/apt.conf.d", name);
    if (/^Acquire/m.test(readFileSync(file, "utf8"))) cpSync(file, join(part, file));
  }
  for (const file of ["/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"]) {
    if (!existsSync(file)) continue;
    mkdirSync(join(part, dirname(file)), { recursive: true });
    rmSync(join(part, file), { force: true });
    writeFileSync(join(part, file), readFileSync(file));
  }
  const npm = join(dirname(process.execPath), "../lib/node_modules/npm");
  cpSync(npm, join(part, "usr/lib/node_modules/npm"), { recursive: true });
  cpSync(process.execPath, join(part, "usr/bin/node"));
  for (const name of ["npm", "npx"])
    must("ln", "-s", `../lib/node_modules/npm/bin/${name}-cli.js`, join(part, "usr/bin", name));
  must("chroot", part, "useradd", "-m", "-s", "/bin/bash", "-u", "1000", "user");
  // An installed system, too, has old lists of packages or none.
  rmSync(join(part, "var/lib/apt/lists"), { recursive: true, force: true });
  renameSync(part, base);
}

/** @param {string} layer */
function stopMachine(layer) {
  for (const mounted of ["root/var/cache/apt/archives", "root/dev", "root/proc", "root"]) {
    spawnSync("umount", ["--lazy", "--recursive", join(layer, mounted)], { stdio: "ignore" });
  }
  if (readFileSync("/proc/mounts", "utf8").includes(` ${layer}/`))
    throw new Error(`${layer}: still mounted; nothing is removed`);
  rmSync(layer, { recursive: true, force: true });
}

/**
 * Runs a command line in the machine, as from a fresh log-in with no terminal.
 * @param {Machine} machine
 * @param {string} line
 * @param {{ user?: "root" | "user", at?: string, offline?: boolean, env?: Record<string, string> }} [how]
 * @returns {Promise<{ code: number | null, seconds: number, output: string }>}
 */
export function runIn(machine, line, { user = "root", at, offline = false, env = {} } = {}) {
  const home = user === "root" ? "/root" : "/home/user";
  const certificates = process.env.NODE_EXTRA_CA_CERTS
    ? { NODE_EXTRA_CA_CERTS: "/etc/ssl/certs/ca-certificates.crt" }
    : {};
  const settings = {
    HOME: home,
    USER: user,
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ...certificates,
    ...env,
  };
  const words = [
    ...["nice", "-n", "5"],
    ...(offline ? ["unshare", "--net"] : []),
    ...[
      "chroot",
      `--userspec=${user}`,
      machine.root,
      "env",
      "-i",
      ...Object.entries(settings).map(([name, value]) => `${name}=${value}`),
    ],
    ...["bash", "-c", `cd ${at ?? home} && ${line}`],
  ];
  return new Promise((done) => {
    const started = performance.now();
    const child = spawn(words[0], words.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output += text));
    child.on("close", (code) => done({ code, seconds: (performance.now() - started) / 1000, output }));
  });
}

/** @param {string[]} words */
export function must(...words) {
  const ended = spawnSync(words[0], words.slice(1), { encoding: "utf8" });
  if (ended.error) throw new Error(`${words[0]}: ${ended.error.message}`);
  if (ended.status !== 0)
    throw new Error(`${words.join(" ")} ended with ${ended.status}:\n${ended.stdout}${ended.stderr}`);
}
