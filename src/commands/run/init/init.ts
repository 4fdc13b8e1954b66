// `revmoe init`: asks for what flags do not say, or uses flags alone; looks at the model, the rows and the machine;
// writes a settings file with the way that fits, and its plan. It writes nothing before everything is known.
import { lstatSync, renameSync, rmSync } from "node:fs";
import { basename, dirname } from "node:path";

import { writeFileDurably } from "../../../checkpoint/files/disk.js";
import { nearestName, UserError } from "../../../errors.js";
import { parseBytes } from "../../../format.js";
import { GOALS, GOALS_ABOUT, type Goal } from "../../../plan/settings.js";
import { cardOf } from "../../../plan/ways/machine.js";
import { wayFor } from "../../../plan/ways/goal.js";
import { changesBetween } from "../../../plan/ways/words.js";
import { reading, statOf } from "../../../read-file.js";
import { flagOf, type SettingValue } from "../../../settings/table.js";
import { settingsFileText } from "../../../settings/write-file.js";
import { checkRunFolder } from "../../../train/folder/run-folder.js";
import { TRAIN_ROWS, type TrainSettings } from "../../../train/settings/rows.js";
import { resolveSettings } from "../../../train/settings/settings.js";
import type { CommandInput } from "../../command.js";
import type { ROWS } from "../../init.js";
import {
  type DataLook,
  heldOut,
  lengthFor,
  lookAtData,
  lookAtMachine,
  lookAtModel,
  lookForWays,
  type MachineLook,
  type ModelLook,
  wayWords,
} from "./looks.js";
import { type Asker, type Input, Left, openAsker, type Question } from "./prompt.js";

const LEFT = 130;
const THIS_MACHINE = "this one";

type Settings = CommandInput<typeof ROWS>["settings"];

/** Answers are read from `input`. */
export async function run(call: CommandInput<typeof ROWS>, input: Input = process.stdin): Promise<number> {
  const { settings, err } = call;
  checkOutput(settings);
  // If both settings without a default are given, nothing is asked.
  const asks = settings.model === "" || settings.train_file === "";
  const intro = `This writes ${settings.output}. An empty answer takes what stands in brackets; Ctrl-C leaves.`;
  const asker = asks ? openAsker(input, err, { intro }) : null;
  try {
    await make(call, asker);
    return 0;
  } catch (failure) {
    if (!(failure instanceof Left)) throw failure;
    err.write(`left; ${settings.output} is not written\n`);
    return LEFT;
  } finally {
    asker?.close();
  }
}

async function make(
  { settings, given, json, out, err }: CommandInput<typeof ROWS>,
  asker: Asker | null,
): Promise<void> {
  const say = (words: string): void => void err.write(`  ${words}\n`);
  const one = oneByOne(asker, given);
  const model = await one(
    {
      flag: "--model",
      about: `The model to fine-tune: ${TRAIN_ROWS.model.about}`,
      read: (text) => lookAtModel(text, err),
    },
    settings.model,
  );
  say(model.words);
  // Settings that tell how rows are read, and that are not asked for.
  const ofRows = Object.fromEntries(
    (["format", "columns"] as const).filter((name) => given.has(name)).map((name) => [name, settings[name]]),
  );
  const data = await one(
    {
      flag: "--train-file",
      about: `The rows to train on: ${TRAIN_ROWS.train_file.about.replace(/^rows to train on: /, "")}`,
      read: (text) => lookAtData(text, model, ofRows, err),
    },
    settings.train_file as string,
  );
  say(data.words);
  const machine = await askMachine(one, settings);
  say(machine.words);
  const wanted = settings.max_length || lengthFor(data, model.facts.maxPositions);
  const { ways, lean, max_length } = lookForWays(model, data, machine, wanted);
  if (max_length < wanted) say(`rows of ${wanted} tokens do not fit there: they are cut at ${max_length}`);
  if (asker) for (const goal of GOALS) say(`${goal}: ${wayWords(wayFor(goal, ways, lean), data)}`);
  const goal = await one(
    { flag: "--goal", about: `What matters most. ${GOALS_ABOUT}`, standard: settings.goal, read: goalOf },
    settings.goal,
  );
  const way = wayFor(goal, ways, lean);
  const runs = `runs/${basename(settings.output).replace(/\.\w+$/, "")}`;
  const output_dir = await one(
    {
      flag: "--output-dir",
      about: `Where the run goes: ${TRAIN_ROWS.output_dir.about}`,
      standard: settings.output_dir || runs,
      read: (text) => freeFolder(text, model),
    },
    settings.output_dir || runs,
  );
  const held = heldOut(data);
  const chosen = {
    ...{
      model: model.given,
      train_file: data.given,
      ...ofRows,
      ...(held > 0 ? { validation_rows: held } : {}),
      output_dir,
      max_length,
    },
    ...(machine.device === "cpu" ? {} : { device: machine.device }),
    ...changesOf(way.plan.settings),
  };
  // Checks the settings as `train` will.
  resolveSettings({ flags: chosen });
  const command = `revmoe train ${shellWord(settings.output)}`;
  const head = headOf({ model, data, machine, goal, plan: wayWords(way, data), command });
  const offered = OFFERED.filter((name) => !(name in chosen));
  write(settings, settingsFileText(TRAIN_ROWS, { head, settings: chosen, offered }));
  if (json)
    out.write(
      `${JSON.stringify({ file: settings.output, settings: chosen, plan: wayWords(way, data), command }, null, 2)}\n`,
    );
  else {
    err.write(`\nthe plan: ${wayWords(way, data)}\n${settings.output} is written; look at it, then run:\n`);
    out.write(`${command}\n`);
  }
}

const shellWord = (word: string): string => (/^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Settings that most people change next. */
const OFFERED = [
  ...(["num_train_epochs", "learning_rate", "per_device_train_batch_size", "validation_file"] as const),
  ...(["eval_steps", "save_steps", "report_to", "seed"] as const),
];

type One = <Answer>(question: Question<Answer>, value: string) => Promise<Answer>;

/** The answer of a flag; without a flag, the person's, if there is somebody to ask. */
const oneByOne =
  (asker: Asker | null, given: ReadonlySet<string>): One =>
  async (question, value) =>
    asker === null || given.has(question.flag.slice(2).replaceAll("-", "_"))
      ? question.read(value)
      : asker.ask(question);

async function askMachine(one: One, { gpu, memory, disk }: Settings): Promise<MachineLook> {
  const card = await one(
    {
      flag: "--gpu",
      about:
        'The machine to train on: Enter for this one, or the card of another, by name ("RTX 4090") or memory (24GiB)',
      standard: THIS_MACHINE,
      read: (text) => (text === THIS_MACHINE ? "" : nameOfCard(text)),
    },
    gpu || THIS_MACHINE,
  );
  if (card === "") return lookAtMachine({ gpu, memory, disk });
  const size = await one(
    {
      flag: "--memory",
      about: "The main memory of that machine, as 64GiB; Enter for as much as is free on this one",
      standard: THIS_MACHINE,
      read: (text) => (text === THIS_MACHINE ? "" : sizeOf(text)),
    },
    memory || THIS_MACHINE,
  );
  return lookAtMachine({ gpu: card, memory: size, disk });
}

function nameOfCard(text: string): string {
  cardOf(text);
  return text;
}

function sizeOf(text: string): string {
  if (!((parseBytes(text) ?? 0) > 0))
    throw new UserError(`memory: "${text}" is not possible (expected a size such as 64GiB).`);
  return text;
}

function goalOf(text: string): Goal {
  const goal = GOALS.find((each) => each === text);
  if (goal !== undefined) return goal;
  const near = nearestName(text, GOALS);
  throw new UserError(
    `goal: "${text}" is not possible (expected one of ${GOALS.join(", ")}).${near === undefined ? "" : ` Did you mean ${near}?`}`,
  );
}

/** Errors: as `checkRunFolder`. */
function freeFolder(output_dir: string, { folder }: ModelLook): string {
  const nothing = { resume: "", overwrite_output_dir: false, train_file: "", validation_file: "" };
  checkRunFolder({ ...nothing, output_dir, model: folder });
  return output_dir;
}

/** What the way changes beside the settings that are written anyway. */
function changesOf(settings: TrainSettings): Readonly<Record<string, SettingValue>> {
  const { model, train_file, output_dir } = settings;
  return changesBetween(resolveSettings({ flags: { model, train_file, output_dir } }).settings, settings);
}

interface Known {
  model: ModelLook;
  data: DataLook;
  machine: MachineLook;
  goal: Goal;
  plan: string;
  command: string;
}

const headOf = ({ model, data, machine, goal, plan, command }: Known): string[] => [
  `Fine-tunes ${model.given} on ${data.given}. Written by revmoe init; run it with:`,
  `  ${command}`,
  "",
  `Model: ${model.words}.`,
  `Rows: ${data.words}.`,
  `Machine: ${machine.words}.`,
  `Plan (${goal}): ${plan}. Times are estimates.`,
];

function checkOutput({ output, force }: Pick<Settings, "output" | "force">): void {
  const folder = dirname(output);
  if (!statOf(folder)?.isDirectory())
    throw new UserError(`output: the folder ${folder} does not exist. Make it, or choose another name.`);
  // Looks at a link itself, as its target may be missing.
  const at = reading(output, () => lstatSync(output, { throwIfNoEntry: false }));
  if (at && statOf(output)?.isDirectory())
    throw new UserError(`output: ${output} is a folder (expected a file). Name the file inside it.`);
  if (at && !force)
    throw new UserError(
      `output: ${output} is there already. Choose another name, or write over it with ${flagOf("force")}.`,
    );
  if (!/\.ya?ml$/.test(output))
    throw new UserError(
      `output: ${output} is no name for a settings file (expected one that ends in .yaml). Choose another.`,
    );
}

/**
 * Writes the file whole or not at all; a link is replaced, not its target. Errors: UserError, also if a file has
 * appeared there meanwhile.
 */
function write({ output, force }: Pick<Settings, "output" | "force">, text: string): void {
  const draft = `${output}.${process.pid}.new`;
  try {
    writeFileDurably(draft, text);
    checkOutput({ output, force });
    renameSync(draft, output);
  } finally {
    rmSync(draft, { force: true });
  }
}
