// `revmoe verify`: whether a model, a checkpoint, a whole run or a cached model is what it was when it was saved, and fits
// itself. One line for each thing; exit code 0 when no problem was found, 2 when one was.
import type { SettingRows } from "../settings/table.js";
import type { Finding, Level } from "../verify/findings.js";
import type { Command } from "./command.js";
import { existsSync } from "node:fs";
import { cachedFolder } from "../hub/resolve.js";
import { verify } from "../verify/verify.js";
import { setThreads } from "../torch/device.js";

const ROWS = {
  path: {
    kind: "string",
    required: true,
    metavar: "PATH",
    about: "a model's folder, a checkpoint-N, a run, a .gguf or .safetensors file, or org/name[@revision] in the cache",
  },
  threads: { kind: "integer", default: 0, min: 0, max: 1024, about: "CPU threads; 0: as many as there are cores" },
} as const satisfies SettingRows;

const WORDS: Record<Level, string> = { ok: "ok     ", note: "note   ", problem: "PROBLEM" };

export const command: Command<typeof ROWS> = {
  name: "verify",
  summary: "Check a model, a checkpoint, a run or a cached model for damage, and whether it fits itself",
  usage: "revmoe verify PATH [--json]",
  example: "revmoe verify runs/first",
  settings: { rows: ROWS },
  positional: { label: "PATH", about: "what is to be checked", setting: "path" },
  json: true,
  run: async ({ settings, json, out }) => {
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
  },
};
