// Tries the set-up on bare machines: Debian 12 and 13, as root, as a user with and without sudo, without a network,
// from a package. Root only; needs debootstrap and 8 GB. Takes some 40 minutes on two cores; prints a table at the end.
//   node setup/trial/fresh.mjs [--suite bookworm|trixie] [--machine root|user|sudo] [--folder DIR] [--starts 300]
// --folder is /tmp/revmoe-fresh by default. --starts: how many times Debian's libtorch is loaded with and without UCX's
// hooks. Every step's output is in FOLDER/logs.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { packageRoot } from "../folders.mjs";
import { must, runIn, startMachine } from "./machine.mjs";

/** @typedef {import("./machine.mjs").Machine} Machine */
/** @typedef {Parameters<typeof runIn>[2]} How */

const { values } = parseArgs({
  options: {
    suite: { type: "string", multiple: true, default: ["bookworm", "trixie"] },
    machine: { type: "string", multiple: true, default: ["root", "user", "sudo"] },
    folder: { type: "string", default: "/tmp/revmoe-fresh" },
    starts: { type: "string", default: "0" },
  },
});

/** @type {{ suite: string, machine: string, step: string, expected: number, code: number | null, seconds: number }[]} */
const rows = [];
const short = "npm run quickstart -- --max-steps 2";

/** What happens on each machine, in order. `step` returns the output. */
const machines = {
  /** @param {Machine} machine @param {Step} step */
  async root(machine, step) {
    const clone = cloneInto(machine, "/root/revmoe");
    await step("doctor before the set-up", 1, "npm run doctor", clone);
    await step("a command before the set-up", 2, "npx revmoe train", clone);
    await step("quickstart, no network", 1, "npm run quickstart", { ...clone, offline: true });
    await step("quickstart", 0, "npm run quickstart", clone);
    await step("quickstart again, no network", 0, short, { ...clone, offline: true });
    await step("doctor", 0, "npm run doctor", clone);
    const chosen = "&& npm run setup && npm run doctor | grep '^libtorch.*the LIBTORCH of an earlier set-up'";
    await step("LIBTORCH is remembered", 0, `LIBTORCH=/usr npm run setup ${chosen}`, clone);
    await step(
      "LIBTORCH is forgotten",
      0,
      "LIBTORCH= npm run setup && npm run doctor | grep '^libtorch.*from the system'",
      clone,
    );
    await step("tests of the command line", 0, "npm test -- cli commands/run/doctor commands/setup", clone);
    await starts(step, clone);
    await step("npm packages from npm's cache, no network", 0, "rm -r node_modules && npm run setup", {
      ...clone,
      offline: true,
    });
    await step("no cache either", 1, "rm -r node_modules && npm_config_cache=/tmp/empty npm run setup", {
      ...clone,
      offline: true,
    });
    const fresh = cloneInto(machine, "/root/to-pack");
    await step("npm pack in a fresh clone", 0, "npm pack --pack-destination /root && tar tf /root/revmoe-*.tgz", fresh);
    const project = { at: "/root/project" };
    await step(
      "npm install of the package",
      0,
      "mkdir project && cd project && npm init -y && npm install /root/revmoe-*.tgz",
    );
    await step("package: doctor before", 1, "npx revmoe doctor", project);
    await step("package: setup", 0, "npx revmoe setup", project);
    await step("package: quickstart", 0, "npx revmoe quickstart --max-steps 2", { ...project, offline: true });
    await step("package: doctor", 0, "npx revmoe doctor", project);
  },
  /** @param {Machine} machine @param {Step} step */
  async user(machine, step) {
    const clone = cloneInto(machine, "/home/user/revmoe", "user");
    const refused = await step("quickstart, no leave to install", 1, "npm run quickstart", clone);
    const advice = /su -c "(.*)"/.exec(refused)?.[1] ?? "false";
    await step("what it advises, as root", 0, advice.replace("apt-get install", "apt-get install -y"));
    const home = { HOME: "/nowhere" };
    await step("quickstart, no HOME to write to", 0, short, { ...clone, env: home });
    await step("the same again", 0, short, { ...clone, env: home });
    await step("npm pack", 0, "npm pack --pack-destination /home/user", clone);
    await step("package for all, by root", 0, "npm install -g /home/user/revmoe-*.tgz");
    const user = /** @type {const} */ ({ user: "user" });
    await step("its doctor before", 1, "revmoe doctor", user);
    await step("its setup, no folder to write to", 2, "revmoe setup", { ...user, env: home });
    await step("its setup, into the cache", 0, "revmoe setup", user);
    await step("its quickstart", 0, "revmoe quickstart --max-steps 2", user);
  },
  /** @param {Machine} machine @param {Step} step */
  async sudo(machine, step) {
    const allow = "echo 'user ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/user";
    await step(
      "sudo without a password",
      0,
      `apt-get update && apt-get install -y --no-install-recommends sudo && ${allow}`,
    );
    await step("quickstart", 0, short, cloneInto(machine, "/home/user/revmoe", "user"));
  },
};

/** @typedef {(name: string, expected: number, line: string, how?: How) => Promise<string>} Step */

/** @param {Step} step @param {How} clone */
async function starts(step, clone) {
  if (values.starts === "0") return;
  for (const [hooks, setting] of [
    ["with UCX's hooks", "UCX_MEM_EVENTS=yes "],
    ["as we start", ""],
  ]) {
    const one = `${setting}node -e 'import("./dist/torch/tensor.js")'`;
    const line = `d=0; for i in $(seq ${values.starts}); do ${one} 2> /dev/null || d=$((d+1)); done; echo $d of ${values.starts} died`;
    console.log(await step(`${values.starts} starts ${hooks}`, 0, line, clone));
  }
}

/** @param {Machine} machine @param {string} at @param {"root" | "user"} [user] */
function cloneInto(machine, at, user = "root") {
  must("git", "clone", "--quiet", packageRoot, join(machine.root, at));
  must("chroot", machine.root, "chown", "-R", `${user}:`, at);
  return { at, user };
}

const logs = join(values.folder, "logs");
mkdirSync(logs, { recursive: true });
for (const suite of values.suite) {
  for (const name of /** @type {(keyof typeof machines)[]} */ (values.machine)) {
    const machine = startMachine(suite, values.folder);
    /** @type {Step} */
    const step = async (what, expected, line, how) => {
      const { code, seconds, output } = await runIn(machine, line, how);
      rows.push({ suite, machine: name, step: what, expected, code, seconds: Math.round(seconds) });
      writeFileSync(join(logs, `${suite}-${name}-${what.replaceAll(/\W+/g, "-")}.log`), `$ ${line}\n${output}`);
      console.log(
        `${suite} ${name}: ${what}: exit code ${code} after ${seconds.toFixed(0)} s${code === expected ? "" : ", NOT AS EXPECTED"}`,
      );
      return output;
    };
    try {
      await machines[name](machine, step);
    } finally {
      machine.stop();
    }
  }
}
console.table(rows);
process.exitCode = rows.every(({ code, expected }) => code === expected) ? 0 : 1;
