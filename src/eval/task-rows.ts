// The task of a file's rows: text to predict, a question with choices, or a question whose answer is a number. Reads
// the usual layouts (question, choices and answer; ARC's choices with labels and answerKey; HellaSwag's ctx, endings
// and label; GSM8K's question and answer). All complaints name the row.
import { emptyIn, isSample, renameColumns } from "../data/conversation.js";
import { describe, keyList, type Row } from "../data/rows.js";
import { UserError } from "../errors.js";

export type Task = "loss" | "choice" | "exact-match";

export interface ChoiceRow {
  /** The text before every choice; if `isQuestion`, only the question. */
  context: string;
  isQuestion: boolean;
  choices: string[];
  /** From 0. */
  answer: number;
  place: string;
}

export interface AnswerRow {
  question: string;
  answer: string;
  place: string;
}

const ROWS_LOOKED_AT = 100;
const has = (value: Record<string, unknown>, ...keys: string[]): boolean =>
  keys.every((key) => value[key] !== undefined && value[key] !== null);

const KEYS = ["text", "messages", "prompt", "completion", "choices", "endings", "question", "answer"];

const FITS: Record<Task, (value: Record<string, unknown>) => boolean> = {
  loss: isSample,
  choice: (value) => has(value, "choices") || has(value, "endings"),
  "exact-match": (value) => has(value, "question", "answer") && !has(value, "choices"),
};

/**
 * The only task that fits all of the first rows. If they have the columns that the run of the model named (`columns`),
 * these count under RevMoE's names. Errors: UserError if no task or several fit.
 */
export function detectTask(rows: Row[], columns: Record<string, string> = {}): Task {
  const first = rows.slice(0, ROWS_LOOKED_AT);
  const named = hasColumns(first, columns) ? renameColumns(first, columns) : first;
  const fitting = (Object.keys(FITS) as Task[]).filter((task) => named.every(({ value }) => FITS[task](value)));
  if (fitting.length === 1) return fitting[0];
  const keys = keyList([...new Set(first.flatMap(({ value }) => Object.keys(value)))]);
  throw new UserError(
    `${rows[0].place}: the first rows have the keys ${keys}, which ${fitting.length === 0 ? "no task has" : `fit ${fitting.join(" and ")}`} ` +
      '(expected "text", "messages" or "prompt" and "completion" for loss, "choices" or "endings" for choice, "question" and "answer" for ' +
      `exact-match). ${emptyIn(first, KEYS)}Set task, or rename the keys.`,
  );
}

/** Whether each name is a column of some of the first rows, which is what training asks for; false without names. */
export function hasColumns(rows: Row[], columns: Record<string, string>): boolean {
  const wanted = Object.values(columns);
  const first = rows.slice(0, ROWS_LOOKED_AT);
  return wanted.length > 0 && wanted.every((name) => first.some(({ value }) => has(value, name)));
}

/** Errors: UserError that names the row and its fault. */
export function readChoiceRow({ value, place }: Row): ChoiceRow {
  const listed = value.choices ?? value.endings;
  const labelled =
    typeof listed === "object" && listed !== null && !Array.isArray(listed)
      ? (listed as Record<string, unknown>)
      : undefined;
  const name = value.choices === undefined && value.endings !== undefined ? "endings" : "choices";
  const choices = labelled ? labelled.text : listed;
  if (
    !Array.isArray(choices) ||
    choices.length < 2 ||
    choices.some((choice) => typeof choice !== "string" || choice === "")
  ) {
    throw new UserError(
      `${place}: ${name} is ${describe(listed)} (expected at least two texts, or {"text": [...], "label": [...]}).`,
    );
  }
  const labels = labelled ? labelled.label : undefined;
  if (labels !== undefined && !(Array.isArray(labels) && labels.length === choices.length && labels.every(isPlain))) {
    throw new UserError(
      `${place}: choices.label is ${describe(labels)} (expected one label for each of the ${choices.length} choices).`,
    );
  }
  const given = value.answerKey ?? value.answer ?? value.label ?? value.gold;
  const answer = isPlain(given)
    ? answerIndex(given, choices, (labels as unknown[] | undefined)?.map(String))
    : undefined;
  if (answer === undefined) {
    const expected = labels
      ? `one of the labels ${keyList((labels as unknown[]).map(String)).replaceAll('"', "")}`
      : `0 to ${choices.length - 1}, a letter, or one of the choices`;
    throw new UserError(
      `${place}: the answer is ${describe(given)} (expected ${expected}, as answer, answerKey or label).`,
    );
  }
  const isQuestion = has(value, "question");
  return {
    context: isQuestion ? questionOf(value, place) : contextOf(value, place),
    isQuestion,
    choices: choices as string[],
    answer,
    place,
  };
}

const isPlain = (value: unknown): boolean => typeof value === "string" || typeof value === "number";

function answerIndex(given: unknown, choices: unknown[], labels: string[] | undefined): number | undefined {
  const within = (index: number): number | undefined =>
    Number.isInteger(index) && index >= 0 && index < choices.length ? index : undefined;
  if (typeof given === "number" && labels === undefined) return within(given);
  const text = String(given).trim();
  if (labels !== undefined) return within(labels.indexOf(text));
  if (typeof given !== "string") return undefined;
  if (choices.includes(given)) return choices.indexOf(given);
  if (/^[A-Za-z]$/.test(text)) return within(text.toUpperCase().charCodeAt(0) - "A".charCodeAt(0));
  return /^\d+$/.test(text) ? within(Number(text)) : undefined;
}

function questionOf(value: Record<string, unknown>, place: string): string {
  const passage = has(value, "context") ? `${textOf(value, "context", place)}\n` : "";
  return passage + textOf(value, "question", place);
}

/**
 * HellaSwag marks titles and steps in brackets, and names the activity beside the text; both are treated as in its
 * evaluation.
 */
function contextOf(value: Record<string, unknown>, place: string): string {
  const context = textOf(value, has(value, "ctx") ? "ctx" : "context", place);
  return tidied(typeof value.activity_label === "string" ? `${value.activity_label}: ${context}` : context);
}

export const tidied = (text: string): string =>
  text
    .trim()
    .replaceAll(" [title]", ". ")
    .replaceAll(/\[.*?\]/g, "")
    .replaceAll("  ", " ");

export function readAnswerRow({ value, place }: Row): AnswerRow {
  const { answer } = value;
  if (typeof answer !== "string" && typeof answer !== "number") {
    throw new UserError(`${place}: answer is ${describe(answer)} (expected a text or a number).`);
  }
  return { question: questionOf(value, place), answer: String(answer), place };
}

function textOf(value: Record<string, unknown>, key: string, place: string): string {
  const text = value[key];
  if (typeof text === "string" && text.trim() !== "") return text;
  throw new UserError(`${place}: ${key} is ${describe(text)} (expected a text).`);
}
