// Only for this folder's tests: templates in shapes that are hard for masks and fields.

/** Like templates whose prompt opens thoughts: turns after the last question have them, earlier turns do not. */
export const OPENS =
  "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" +
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}" +
  "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

/** Like Qwen3 with enable_thinking=false: the prompt has the empty block that the last turn has. */
export const CLOSES = OPENS.replace(
  "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n",
  "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n",
);

/** Shows only roles and words. */
export const PLAIN =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/** Shows calls with their arguments as `tojson` writes them. */
export const CALLS = PLAIN.replace(
  "{{ m.content }}",
  "{{ m.content }}{% for c in m.tool_calls or [] %}CALL {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}",
);

/** Iterates over the names of arguments. */
export const ITEMS = CALLS.replace(
  "{{ c.function.arguments | tojson }}",
  "{% for k, v in c.function.arguments | items %}{{ k }}={{ v | string }};{% endfor %}",
);

/** Writes arguments that are a text as they are, and others as JSON. */
export const EITHER = CALLS.replace(
  "{{ c.function.arguments | tojson }}",
  "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}",
);
