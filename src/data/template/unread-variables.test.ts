// A variable that a template does not read is said by its name.
import assert from "node:assert/strict";
import { test } from "node:test";
import { testTokenizer } from "../tokenizer/testing-tokenizer.js";
import { unreadVariables } from "./unread-variables.js";

test("variables that no template of the model reads", (t) => {
  const thinks = "{% if enable_thinking is defined and enable_thinking %}T{% endif %}{{ messages }}";
  const tokenizer = testTokenizer(t, { chat_template: thinks });
  const named = (kwargs?: Record<string, unknown>): unknown[] =>
    unreadVariables(tokenizer, kwargs).map((line) => /no variable "([^"]*)"/.exec(line)?.[1]);
  assert.deepEqual(named({ enable_thinking: false }), []);
  assert.deepEqual(named({ enable_thinkin: false }), ["enable_thinkin"]);
  assert.deepEqual(named({ enable_thinking: false, thinking: true, date: "x" }), ["thinking", "date"]);
  assert.deepEqual(named(), []);
  const several = testTokenizer(t, {
    chat_template: [
      { name: "default", template: "{{ messages }}" },
      { name: "tool_use", template: thinks },
    ],
  });
  assert.deepEqual(unreadVariables(several, { enable_thinking: false }), []);
  assert.equal(unreadVariables(testTokenizer(t, {}), { enable_thinking: false }).length, 1);
});
