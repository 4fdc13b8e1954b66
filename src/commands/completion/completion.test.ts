// The scripts in the shells themselves, where they are: what is offered is what the command line takes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { runCli } from "../../cli/program.js";
import { flagOf } from "../../settings/table.js";
import { COMMANDS } from "../registry.js";

const folder = mkdtempSync(join(tmpdir(), "revmoe-completion-"));
after(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, "run one.yaml"), "");
writeFileSync(join(folder, "rows.jsonl"), "");

const has = (shell: string): boolean => spawnSync(shell, ["-c", "true"]).status === 0;
const skipWithout = (shell: string) => ({ skip: !has(shell) && `no ${shell}` });

async function scriptFor(shell: string): Promise<string> {
  let text = "";
  const out = { write: (some: string) => (text += some) };
  assert.equal(await runCli({ version: () => "0", commands: COMMANDS }, ["completion", shell], out, out), 0, text);
  const file = join(folder, `script.${shell}`);
  writeFileSync(file, text);
  return file;
}

/** What bash offers behind each line; "|" stands where bash parts words, as it does at "=". */
async function offered(lines: readonly string[]): Promise<string[][]> {
  const asked = lines.map((line) => {
    const words = line.split(/ |(?<==)|(?==)/);
    return `COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _revmoe; (IFS='|'; echo "\${COMPREPLY[*]}")`;
  });
  const script = `source ${await scriptFor("bash")}\n${asked.join("\n")}\n`;
  const { status, stdout, stderr } = spawnSync("bash", ["--norc", "--noprofile"], {
    input: script,
    encoding: "utf8",
    cwd: folder,
  });
  assert.equal(status, 0, stderr);
  assert.equal(stderr, "");
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split("|").filter((word) => word !== ""));
}

test("bash offers commands, flags, choices and files", skipWithout("bash"), async () => {
  const names = Object.keys(COMMANDS);
  const cases: [string, readonly string[]][] = [
    ["revmoe ", [...names, "--help", "--version"]],
    ["revmoe pl", ["plan"]],
    ["revmoe nothing", []],
    ["revmoe train --metr", ["--metric-for-best-model"]],
    ["revmoe train --no-shu", ["--no-shuffle"]],
    ["revmoe train --method che", ["checkpoint", "checkpoint-offload"]],
    ["revmoe train --method=rev", ["reversible"]],
    ["revmoe train --method=", ["reversible", "checkpoint", "checkpoint-offload", "store"]],
    ["revmoe train --seed ", []],
    ["revmoe train run", ["run one.yaml"]],
    ["revmoe train --train-file r", ["run one.yaml", "rows.jsonl"].filter((name) => name.startsWith("r"))],
    ["revmoe train --train-file=ro", ["rows.jsonl"]],
    ["revmoe doctor ", []],
    ["revmoe completion ", ["bash", "zsh", "fish"]],
    ["revmoe launch --nproc 2 tr", ["train"]],
    ["revmoe launch --np", ["--nproc"]],
    ["revmoe launch --nproc 2 train --coupling b", ["bdia"]],
    ["revmoe generate --model train --as ", ["auto", "trained", "ordinary"]],
  ];
  const found = await offered(cases.map(([line]) => line));
  for (const [i, [line, expected]] of cases.entries()) assert.deepEqual(found[i].sort(), [...expected].sort(), line);
});

test("every flag and every choice of every command is offered, and nothing else", skipWithout("bash"), async () => {
  const expected = new Map<string, string[]>();
  for (const [name, { load }] of Object.entries(COMMANDS)) {
    const { settings, json } = await load();
    const flags = Object.entries(settings.rows).map(([each, row]) => {
      if (row.kind === "choice") expected.set(`revmoe ${name} ${flagOf(each)} `, [...row.choices]);
      return flagOf(row.kind === "boolean" && row.default === true ? `no_${each}` : each);
    });
    expected.set(`revmoe ${name} --`, [...flags, ...(json ? ["--json"] : []), "--help"]);
  }
  assert.ok(expected.size > 40);
  const found = await offered([...expected.keys()]);
  for (const [i, [line, words]] of [...expected].entries()) assert.deepEqual(found[i].sort(), words.sort(), line);
});

test("zsh reads its script", skipWithout("zsh"), async () => {
  const { status, stderr } = spawnSync("zsh", ["-n", await scriptFor("zsh")], { encoding: "utf8" });
  assert.deepEqual([status, stderr], [0, ""]);
});

test("fish offers what follows", skipWithout("fish"), async () => {
  const script = await scriptFor("fish");
  const cases: [string, string[]][] = [
    ["revmoe pl", ["plan"]],
    ["revmoe train --method che", ["checkpoint", "checkpoint-offload"]],
    ["revmoe launch --nproc 2 train --coupling b", ["bdia"]],
  ];
  for (const [line, words] of cases) {
    const { stdout, stderr } = spawnSync("fish", ["--no-config", "-c", `source ${script}; complete -C '${line}'`], {
      encoding: "utf8",
    });
    assert.equal(stderr, "");
    const offers = stdout.split("\n").map((each) => each.split("\t")[0]);
    assert.deepEqual(
      offers.filter((each) => each !== ""),
      words,
      line,
    );
  }
});

test("scripts of all shells name every command and flag, in quotes that close", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    let text = "";
    const out = { write: (some: string) => (text += some) };
    await runCli({ version: () => "0", commands: COMMANDS }, ["completion", shell], out, out);
    for (const [name, { load }] of Object.entries(COMMANDS)) {
      assert.ok(text.includes(name), `${shell}: ${name}`);
      for (const [each, row] of Object.entries((await load()).settings.rows)) {
        const flag = flagOf(row.kind === "boolean" && row.default === true ? `no_${each}` : each).slice(2);
        assert.ok(new RegExp(`(--|-l )${flag}\\b`).test(text), `${shell}: ${name} ${flag}`);
      }
    }
    if (shell === "bash") continue; // ran above
    // Quotes in quotes are written as '\\'' or \\'; comments are no code.
    const code = text
      .replaceAll(/^#.*$|\n *#.*$/gm, "")
      .replaceAll("'\\''", "")
      .replaceAll("\\'", "");
    assert.equal((code.match(/'/g) ?? []).length % 2, 0, shell);
  }
});
