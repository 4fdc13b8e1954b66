// Questions as a person meets them: on a terminal, from a pipe, with wrong answers, and left.
import assert from "node:assert/strict";
import { homedir } from "node:os";
import { PassThrough } from "node:stream";
import { test } from "node:test";

import { UserError } from "../../../errors.js";
import { type AskerOptions, type Input, Left, openAsker, type Question } from "./prompt.js";

function asking(terminal: boolean, options: Partial<AskerOptions> = {}) {
  const stream = new PassThrough();
  const raw: boolean[] = [];
  const input: Input = terminal
    ? Object.assign(stream, { isTTY: true, setRawMode: (on: boolean) => raw.push(on) })
    : stream;
  let shown = "";
  const out = { write: (text: string) => (shown += text) };
  return { stream, raw, asker: openAsker(input, out, { intro: "Hello.", ...options }), shown: () => shown };
}

const even: Question<number> = {
  ...{ flag: "--a-number", about: "An even number, to halve it." },
  read: (text) => {
    if (Number(text) % 2 !== 0) throw new UserError(`a_number: ${text} is odd (expected an even number).`);
    return Number(text) / 2;
  },
};
const named: Question<string> = { flag: "--name", about: "A name.", standard: "Ann", read: (text) => text };

test("answers of a pipe are taken in their order; a wrong one is said and asked again; an empty one is the default", async () => {
  const { stream, asker, shown } = asking(false);
  stream.end("3\n\n 8 \n\n~/x\n~x\n");
  assert.equal(await asker.ask(even), 4);
  assert.equal(await asker.ask(named), "Ann");
  assert.equal(await asker.ask(named), `${homedir()}/x`);
  assert.equal(await asker.ask(named), "~x");
  asker.close();
  assert.equal(
    shown().slice(0, shown().indexOf("A name.")),
    "Hello.\n\nAn even number, to halve it.\na-number> 3\n  a_number: 3 is odd (expected an even number).\n" +
      "a-number> \n  a-number: nothing was typed (expected an answer).\na-number> 8\n\n",
  );
});

test("a pipe with too few answers, and one in which nothing comes, is one sentence", async () => {
  const short = asking(false);
  short.stream.end("8\n");
  await short.asker.ask(even);
  await assert.rejects(short.asker.ask(named), /--name is missing .*Give --name, or run this in a terminal/);
  for (const open of [asking(false, { silenceMs: 1 }), asking(false)]) {
    if (open.stream.readable && open !== undefined) setTimeout(() => open.stream.end(), 50);
    await assert.rejects(
      open.asker.ask(even),
      (failure: unknown) => failure instanceof UserError && /--a-number/.test(failure.message),
    );
    assert.equal(open.shown(), "");
    open.asker.close();
  }
});

test("on a terminal a line can be mended, keys are read raw while something is asked, and errors that are no person's go on", async () => {
  const { stream, raw, asker, shown } = asking(true);
  stream.write("19\x7f6\r");
  assert.equal(await asker.ask(even), 8);
  assert.deepEqual(raw.slice(-2), [true, false]);
  assert.match(shown(), /Hello\.\n\nAn even number, to halve it\.\n.*a-number> /s);
  stream.write("x\r");
  const broken = asker.ask({ ...named, read: () => assert.fail("a defect") });
  await assert.rejects(broken, /a defect/);
  asker.close();
});

for (const [name, key] of [
  ["Ctrl-C", "\x03"],
  ["Ctrl-D", "\x04"],
] as const) {
  test(`${name} leaves, also behind half an answer`, async () => {
    const { stream, asker, raw } = asking(true);
    stream.write("4\r");
    await asker.ask(even);
    stream.write(name === "Ctrl-C" ? `Bo${key}` : key);
    await assert.rejects(asker.ask(named), Left);
    assert.equal(raw.at(-1), false);
    asker.close();
  });
}
