// Templates that would not end, fill memory, or break the stack: each kind in three ways, and what must still work.
import assert from "node:assert/strict";
import { test } from "node:test";

import { TEMPLATE_LIMITS as LIMITS, ROW_LIMITS, TIME_LIMITS } from "../limits.js";
import { renderChat, renderWithMask } from "./template.js";
import { CHATML, CHATML_TAGGED, testTokenizer } from "../tokenizer/testing-tokenizer.js";

const MESSAGES = [
  { role: "user", content: "q" },
  { role: "assistant", content: "a" },
];
/** A text of 8 * 2^n letters, by the name ns.s. */
const grown = (n: number, first = "aaaaaaaa"): string =>
  `{% set ns = namespace(s='${first}', l=[]) %}{% for i in range(${n}) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`;
const nested = (open: string, inner: string, close: string, count = 3000): string =>
  open.repeat(count) + inner + close.repeat(count);

/** `steps` and `seconds` are fewer than a template may take, which it would take. */
const KINDS: Record<string, { message: RegExp; templates: string[]; steps?: number; seconds?: number }> = {
  "lists of numbers": {
    message: /range\(\) makes more than 1048576 numbers/,
    templates: [
      "{% for i in range(1000000000) %}x{% endfor %}",
      "{{ range(0, 1, 0.0000001) | length }}",
      "{{ range(5, -9000000, -1) | list }}",
    ],
  },
  "texts that grow": {
    message: /makes a text of \d+ \(expected at most \d+\)/,
    templates: [
      grown(60),
      "{{ range(1000000) | join(',') | replace(',', '------') }}",
      `${grown(18, "x\\n")}{{ ns.s | indent(90, true) }}`,
    ],
  },
  "texts beyond what a machine can hold": {
    message: /makes a text or a list without end/,
    templates: [
      `${grown(18)}{{ range(1000000) | join(ns.s) }}`,
      `${grown(18)}{{ ns.s | replace('a', ns.s) }}`,
      `${grown(18)}{{ ns.s.replace('a', ns.s) }}`,
    ],
  },
  "blanks before lines": {
    message: /it indents by 10+ \(expected at most 1000\)/,
    templates: [
      "{{ 'a' | indent(*[1000000000]) }}",
      "{{ 'a' | indent(100000000, true) }}",
      "{{ messages | tojson(indent=100000000) }}",
      "{% filter indent(width=10 ** 8) %}a{% endfilter %}",
    ],
  },
  "lists that grow": {
    message: /makes a list of \d+ \(expected at most \d+\)/,
    templates: [
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      `${grown(18)}{{ ns.s.split('a') | length }}`,
      "{% set a = range(1000000) %}{{ (a + a) | length }}",
    ],
  },
  "what nests": {
    message: /nests or calls itself more than 500 deep/,
    templates: [
      nested("{{ [", "1", "] }}", 1).replace("1", nested("[", "1", "]")),
      "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
      nested("{% if 1 %}", "x", "{% endif %}"),
      "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
      `{{ ${"1 + ".repeat(5000)}1 }}`,
    ],
  },
  "searches that nothing can stop": {
    message: /searches \d+ letters for \d+/,
    templates: [
      `${grown(16)}{{ (ns.s + 'b' + ns.s) in (ns.s + ns.s + ns.s + ns.s) }}`,
      `${grown(16)}{{ (ns.s + ns.s + ns.s).split(ns.s + 'b') | length }}`,
      `${grown(17)}{{ 'x' if (ns.s ~ 'b') not in (ns.s ~ ns.s) }}`,
    ],
  },
  "memory that is kept": {
    // Or the time is over first, on a slow machine.
    message: /takes more than (536870912 bytes of memory|\d+ s)/,
    templates: [`${grown(18)}{% for i in range(9000) %}{% set ns.l = ns.l + [(ns.s ~ i) | upper] %}{% endfor %}`],
  },
  "templates without end": {
    message: /takes more than \d+ s /,
    templates: ["{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}"],
    seconds: 0.2,
  },
  "more steps than a text takes": {
    message: /takes more than 100000 steps for one text/,
    templates: ["{% for i in range(100000) %}{{ i }}{% endfor %}"],
    steps: 100_000,
  },
  "blanks without end": {
    message: /it has \d+ blanks in a row at \d+ \(expected at most 1000\)/,
    templates: [
      `a${" ".repeat(300_000)}b`,
      `{{ 1 }}${"\n\t".repeat(501)}{% generation %}`,
      `{% if true ${" ".repeat(1001)}%}x{% endif %}`,
    ],
  },
  "files of megabytes": {
    message: /it has \d+ characters \(expected at most 1048576\)/,
    templates: ["x".repeat(LIMITS.source + 1)],
  },
};

for (const [kind, { message, templates, steps = LIMITS.steps, seconds = TIME_LIMITS.row }] of Object.entries(KINDS)) {
  for (const [i, chat_template] of templates.entries()) {
    test(`${kind}, ${i + 1}: a sentence`, (t) => {
      const tokenizer = testTokenizer(t, { chat_template });
      const before = [LIMITS.steps, TIME_LIMITS.row];
      const allow = ([most, row]: number[]): void => {
        Object.assign(LIMITS, { steps: most });
        Object.assign(TIME_LIMITS, { row });
      };
      allow([steps, seconds]);
      t.after(() => allow(before));
      assert.throws(() => renderWithMask(tokenizer, MESSAGES), { name: "UserError", message });
    });
  }
}

test("loops that are left and begun anew, long lists, and searches of a usual size are as ever", (t) => {
  const render = (chat_template: string): string =>
    renderChat(testTokenizer(t, { chat_template }), MESSAGES, { addGenerationPrompt: false });
  assert.equal(
    render("{% for i in range(2000) %}{% if true %}{% if true %}{% continue %}{% endif %}{% endif %}{% endfor %}ok"),
    "ok",
  );
  assert.equal(render("{% for i in range(50000) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"), "012");
  assert.equal(
    render("{{ range(10, 0, -3) | join(',') }} {{ range(3) | list }} {{ range(undefined_name) | length }}"),
    "10,7,4,1 [0, 1, 2] 0",
  );
  assert.equal(
    render(`${grown(10)}{{ ns.s in ns.s }} {{ 'b' not in ns.s }} {{ 2 in [1, 2] }} {{ 'k' in {'k': 1} }}`),
    "True True True True",
  );
  assert.equal(
    render("{{ 'a-b-c'.split('-', 1) }} {{ ' a  b '.split() }} {{ 'a-b'.split(*['-']) }}"),
    `['a', 'b-c'] ['a', 'b'] ['a', 'b']`,
  );
  assert.equal(
    render("{{ {'a': [1]} | tojson(indent=2) }} {{ 'a\\nb' | indent(first=true, width=2) }}"),
    '{\n  "a": [\n    1\n  ]\n}   a\n  b',
  );
  assert.match(render("{{ strftime_now('%Y-%m-%d') }}"), /^\d{4}-\d\d-\d\d$/);
  assert.equal(render("{% set range = 3 %}{{ range }} {{ True and not False }} {{ none }}"), "3 True None");
});

test("a long conversation may make a long text", (t) => {
  const content = "word ".repeat(2_000_000);
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const { text, trained } = renderWithMask(tokenizer, [MESSAGES[0], { role: "assistant", content }]);
  assert.equal(text.slice(...trained[0]), `${content}<|im_end|>`);
});

test("too many turns to look for one by one are refused, unless the template tells them itself", (t) => {
  const messages = Array.from({ length: ROW_LIMITS.messages + 2 }, (_, i) => ({
    role: i % 2 === 0 ? "user" : "assistant",
    content: `${i}`,
  }));
  const render = (chat_template: string): number =>
    renderWithMask(testTokenizer(t, { chat_template }), messages, { place: "d.jsonl:3" }).trained.length;
  // Counts by itself, so that no loop of it is over the messages.
  const numbered = CHATML.replace("for message in messages", "for i in range(messages | length)").replaceAll(
    "message[",
    "messages[i][",
  );
  assert.throws(() => render(numbered), {
    name: "UserError",
    message: /^d\.jsonl:3: there are 2002 messages \(expected at most 2000, .*Set assistant_only_loss: false/,
  });
  for (const chat_template of [CHATML, CHATML_TAGGED]) assert.equal(render(chat_template), 1001);
});

test("rows that nest without end are refused by their place", (t) => {
  const tokenizer = testTokenizer(t, { chat_template: CHATML });
  const deep = JSON.parse("[".repeat(50_000) + "]".repeat(50_000)) as unknown;
  const nesting: [object, object][] = [
    [{ note: deep }, {}],
    [{ tool_calls: [{ arguments: { deep } }] }, {}],
    [{}, { tools: [deep] }],
  ];
  for (const [more, options] of nesting) {
    assert.throws(
      () => renderWithMask(tokenizer, [{ ...MESSAGES[0], ...more }, MESSAGES[1]], { place: "d.jsonl:8", ...options }),
      {
        name: "UserError",
        message: /^d\.jsonl:8: the chat template goes too far: it, or what it is given, nests/,
      },
    );
  }
});

test("what a template says is shown without what a terminal obeys, and not at any length", (t) => {
  const tokenizer = testTokenizer(t, {
    chat_template: `{{ raise_exception('\u001b[31mno\u202e ' + '${"x".repeat(5000)}') }}`,
  });
  assert.throws(
    () => renderChat(tokenizer, MESSAGES, { addGenerationPrompt: true }),
    /refuses these messages: \[31mno x{100,200}\.\.\.\. Roles/,
  );
});
