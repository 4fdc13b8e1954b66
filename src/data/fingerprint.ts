// What a run was trained on, in a few kilobytes. A checkpoint keeps it, and a resumed run compares it with its data.
// Digests are taken of tokens and of which are trained, document by document in order, so it does not matter where
// files lie or how they are written.
import { createHash } from "node:crypto";

import { type Document, type Documents, eachDocument, type RowsFingerprint } from "./documents.js";

export interface DataFingerprint {
  trained: RowsFingerprint;
  /** null without held-out rows. */
  heldOut: RowsFingerprint | null;
  /** Digest of the content of tokenizer.json. */
  tokenizer: string;
  /** Digest of the chat template; empty without one. */
  template: string;
}

const MOST_PARTS = 512;
const PART_DIGITS = 8;

export interface Fingerprinted {
  documents: Documents;
  evalDocuments: Documents;
  /** The bytes of tokenizer.json. */
  tokenizer: Uint8Array | undefined;
  chatTemplate: string | undefined;
}

export const fingerprintData = ({
  documents,
  evalDocuments,
  tokenizer,
  chatTemplate,
}: Fingerprinted): DataFingerprint => ({
  trained: fingerprintRows(documents),
  heldOut: evalDocuments.length > 0 ? fingerprintRows(evalDocuments) : null,
  tokenizer: tokenizer ? sha256(withoutLayout(tokenizer)) : "",
  template: chatTemplate === undefined ? "" : sha256(chatTemplate),
});

export function fingerprintRows(documents: Documents): RowsFingerprint {
  if (documents.facts) return documents.facts.fingerprint;
  const parts = Math.min(documents.length, MOST_PARTS);
  let tokens = 0;
  const digests = Array.from({ length: parts }, (_, part) => {
    const [from, to] = rangeOf(part, parts, documents.length);
    for (let i = from; i < to; i++) tokens += documents.lengthOf(i);
    return digestOf(documents, from, to);
  });
  return {
    documents: documents.length,
    tokens,
    digest: sha256(digests.join()),
    parts: digests.map((digest) => digest.slice(0, PART_DIGITS)).join(""),
  };
}

/**
 * The first and the last document at which `now` may begin to differ from `before`; null if nowhere, or if their
 * numbers of documents differ.
 */
export function firstDifference(before: RowsFingerprint, now: RowsFingerprint): { first: number; last: number } | null {
  const parts = now.parts.length / PART_DIGITS;
  if (before.documents !== now.documents || before.parts.length !== now.parts.length) return null;
  const part = partsOf(now).findIndex((digest, i) => digest !== partsOf(before)[i]);
  if (part < 0) return null;
  const [from, to] = rangeOf(part, parts, now.documents);
  return { first: from, last: to - 1 };
}

/** Whether both have the same documents in different order; false if there are too many to tell. */
export function isReordered(before: RowsFingerprint, now: RowsFingerprint): boolean {
  if (before.documents !== now.documents || now.documents > MOST_PARTS) return false;
  return partsOf(before).sort().join() === partsOf(now).sort().join();
}

/** The documents of `some` that are among `others`, token for token. */
export function sharedDocuments(some: Documents, others: Documents): Document[] {
  const known = new Set(Array.from({ length: others.length }, (_, i) => digestOf(others, i, i + 1)));
  return [...eachDocument(some)].filter((_, i) => known.has(digestOf(some, i, i + 1)));
}

/** A fingerprint that was read from a checkpoint; null if the value is not one. */
export function readFingerprint(value: unknown): DataFingerprint | null {
  const { trained, heldOut, tokenizer, template } = (value ?? {}) as Partial<Record<keyof DataFingerprint, unknown>>;
  if (
    !isRows(trained) ||
    !(heldOut === null || isRows(heldOut)) ||
    typeof tokenizer !== "string" ||
    typeof template !== "string"
  )
    return null;
  return { trained, heldOut, tokenizer, template };
}

function isRows(value: unknown): value is RowsFingerprint {
  const { documents, tokens, digest, parts } = (value ?? {}) as Partial<Record<keyof RowsFingerprint, unknown>>;
  return (
    Number.isSafeInteger(documents) &&
    Number.isSafeInteger(tokens) &&
    typeof digest === "string" &&
    typeof parts === "string"
  );
}

const partsOf = ({ parts }: RowsFingerprint): string[] => parts.match(/.{8}/g) ?? [];

const rangeOf = (part: number, parts: number, documents: number): [from: number, to: number] => [
  Math.floor((part * documents) / parts),
  Math.floor(((part + 1) * documents) / parts),
];

function digestOf(documents: Documents, from: number, to: number): string {
  const hash = createHash("sha256");
  for (let i = from; i < to; i++) {
    const { tokens, trained } = documents.document(i);
    hash.update(Int32Array.of(tokens.length)).update(tokens).update(trained);
  }
  return hash.digest("hex");
}

const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

/** JSON without white space, since another program may lay out the same tokenizer differently. */
function withoutLayout(json: Uint8Array): string {
  const text = Buffer.from(json).toString("utf8");
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}
