// `revmoe verify`: checks whether a model, a checkpoint, a whole run or a cached model is what it was when it was
// saved, and is consistent. Prints one line per finding; exit code 0 if there is no problem, else 2.
import type { Finding, Level } from "../../verify/findings.js";
import type { CommandInput } from "../command.js";
import { existsSync } from "node:fs";
import { cachedFolder } from "../../hub/resolve.js";
import { verify } from "../../verify/verify.js";
import { setThreads } from "../../torch/device.js";
import type { ROWS } from "../verify.js";

const WORDS: Record<Level, string> = { ok: "ok     ", note: "note   ", problem: "PROBLEM" };

export async function run({ settings, json, out }: CommandInput<typeof ROWS>): Promise<number> {
  setThreads(settings.threads);
  const path = existsSync(settings.path) ? settings.path : (cachedFolder(settings.path) ?? settings.path);
  const findings: Finding[] = [];
  verify(path, (level, where, message) => {
    findings.push({ level, where, message });
    if (!json) out.write(`${WORDS[level]} ${where}: ${message.replace(/\.$/, "")}\n`);
  });
  const count = (level: Level): number => findings.filter((finding) => finding.level === level).length;
  const problems = count("problem");
  if (json) out.write(`${JSON.stringify({ path, ok: problems === 0, problems, findings }, null, 2)}\n`);
  else
    out.write(
      `${path}: ${problems === 0 ? "no problems" : `${problems} problem${problems > 1 ? "s" : ""}`}, ${count("ok")} checks passed, ${count("note")} notes\n`,
    );
  return problems === 0 ? 0 : 2;
}
