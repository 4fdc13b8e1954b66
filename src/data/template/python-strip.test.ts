// Stripping with and without characters, alone and inside templates, as Python does it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Template } from "@huggingface/jinja";

import { STRIP_VARIABLES, strip, withPythonStrip } from "./python-strip.js";

const render = (source: string, variables: object): string =>
  withPythonStrip(new Template(source)).render({ ...STRIP_VARIABLES, ...variables });

test("characters are a set, taken off one end or both", () => {
  assert.equal(strip("\n\n  a \n", "strip", "\n"), "  a ");
  assert.equal(strip("\n\n  a \n", "lstrip", "\n"), "  a \n");
  assert.equal(strip("\n\n  a \n", "rstrip", "\n"), "\n\n  a ");
  assert.equal(strip("xyaxby", "strip", "xy"), "axb");
  assert.equal(strip("xxx", "strip", "x"), "");
  assert.equal(strip("😀a😀", "strip", "😀"), "a");
  assert.equal(strip(" \t\u3000a\n", "strip", null), "a");
  assert.equal(strip(" a ", "strip", ""), " a ");
});

test("in templates: in chains, conditions, loops and macros; without an argument as the library has it", () => {
  const text = "<think>\n  so\n</think>\n\n  code\n";
  assert.equal(render("{{ c.split('</think>')[-1].lstrip('\\n') }}", { c: text }), "  code\n");
  assert.equal(
    render("{{ c.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}", { c: text }),
    "  so",
  );
  assert.equal(
    render(
      "{% macro m(x) %}{{ x.strip('-') }}{% endmacro %}{% for x in l %}{{ m(x) if x.lstrip('-') else '?' }}{% endfor %}",
      {
        l: ["-a-", "--"],
      },
    ),
    "a?",
  );
  assert.equal(render("{{ x.strip() }}|{{ x | trim }}|{{ x.lstrip(y) }}", { x: " a ", y: " " }), "a|a|a ");
  assert.throws(() => render("{{ x.strip('a') }}", { x: 5 }), /strip is called on something that is no text/);
});
