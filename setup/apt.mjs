// Debian's and Ubuntu's packages: the line a person types to get them; and installing them if that needs no question.
// Says beforehand how much is downloaded, and meanwhile how far it is.
import { spawnSync } from "node:child_process";

import { SetupError, onPath } from "./program.mjs";
import { runWatched } from "./watched.mjs";

/** @typedef {(line: string) => void} Say */

const isRoot = () => process.getuid?.() === 0;

/** What a person types to install these. @param {string[]} packages */
export function installLine(packages, { root = isRoot(), sudo = onPath("sudo") } = {}) {
  const steps = ["apt-get update", `apt-get install --no-install-recommends ${packages.join(" ")}`];
  if (root) return steps.join(" && ");
  return sudo ? steps.map((step) => `sudo ${step}`).join(" && ") : `su -c "${steps.join(" && ")}"`;
}

/** Whether packages can be installed without asking the person anything. */
export function canInstall() {
  if (!onPath("apt-get")) return false;
  return isRoot() || (onPath("sudo") && spawnSync("sudo", ["-n", "true"], { stdio: "ignore" }).status === 0);
}

/** @param {string[]} packages @param {Say} say @param {string} why */
export async function install(packages, say, why) {
  say(why);
  let asked = await ask(packages);
  let update = asked.known ? undefined : await refresh(say);
  if (update) asked = await ask(packages);
  say(`apt-get install ${packages.join(" ")}${sizes(asked.said)}`);
  const words = ["-y", "-q", ...installing(packages)];
  let result = await aptGet(words, say);
  // Package lists older than the archive name files that no longer exist.
  if (result.failed && !update) {
    update = await refresh(say);
    if (!update.failed) result = await aptGet(words, say);
  }
  if (!result.failed) return;
  const first = update?.failed ? `apt-get update failed:\n${lastLines(update.lines)}\nand so ` : "";
  const remedy = update?.failed
    ? "Check the network and the sources in /etc/apt, and try again."
    : `To see all of it: ${installLine(packages)}`;
  throw new SetupError(`${first}apt-get install ${packages.join(" ")} failed:\n${lastLines(result.lines)}\n${remedy}`);
}

/** @param {string[]} packages */
const installing = (packages) => ["install", "--no-install-recommends", ...packages];

/**
 * What apt-get would do. `known` is false if it has no candidate for a package, or cannot look one up.
 * @param {string[]} packages
 */
async function ask(packages) {
  const { lines } = await aptGet(["--assume-no", ...installing(packages)]);
  return { known: !lines.some((line) => line.startsWith("E:")), said: lines.join("\n") };
}

/** @param {Say} say */
function refresh(say) {
  say("apt-get update: refreshing the lists of packages");
  // Without this option, an update in which every part fails ends with 0.
  return aptGet(["-o", "APT::Update::Error-Mode=any", "update"], say);
}

/** How much apt-get says it will fetch and unpack, in brackets. @param {string} said */
export function sizes(said) {
  const fetched = /Need to get (?:[^\n]*?\/)?([\d.,]+ .?B)/.exec(said)?.[1];
  const onDisk = /([\d.,]+ .?B) of additional disk space/.exec(said)?.[1];
  if (!onDisk) return "";
  return fetched && !fetched.startsWith("0 ") ? ` (${fetched} to download, ${onDisk} on disk)` : ` (${onDisk} on disk)`;
}

/** @param {string[]} args @param {Say} [say] */
async function aptGet(args, say) {
  const settings = ["-o", "DPkg::Lock::Timeout=120", "-o", "APT::Status-Fd=1"];
  const command = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", ...settings, ...args];
  if (!isRoot()) command.unshift("sudo", "-n");
  const ended = await runWatched(command, { label: "apt-get", say, doing: aptProgress });
  return { ...ended, lines: ended.lines.filter((line) => aptProgress(line) === undefined) };
}

/** What a status line of apt-get says: `dlstatus:3:12.5:Retrieving file 3 of 90`. @param {string} line */
export function aptProgress(line) {
  const [, part, percent, text] =
    /^(dlstatus|pmstatus|pmerror|pmconffile|media-change):[^:]*:([\d.]+):(.*)$/.exec(line) ?? [];
  if (part === undefined) return undefined;
  return `${Math.floor(Number(percent))} % of ${part === "dlstatus" ? "the download" : "the installation"}: ${text.trim()}`;
}

/** @param {string[]} lines */
const lastLines = (lines) => lines.slice(-10).join("\n");
