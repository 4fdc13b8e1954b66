"""Conversations made up from a seed, for make_template_cases.py: tools, calls, thoughts, numbers, nulls, several turns.

Each is a JSON text, since numbers and the order of keys are what they are in a text alone.
"""
import json
import random

WORDS = ["Köln", "is", "2 + 2", "東京", "<b>bold</b>", "it's", "\"so\"", "🙂👩‍👩‍👧", "a\tb", "line\nline", "x = {'a': [1]}", "{{ x }}", "\\n", "naïve", "1.0", "10", "{\"k\": 1}",
         "```py\nprint(1)\n```", "\u00a0", "—", "ok", "why", "%s", "&amp;", "e\u0301", "\u2028"]
KEYS = ["city", "days", "2", "1", "10", "name", "items", "values", "get", "keys", "Größe", "a b", "type", "x", "0", "id"]
NUMBERS = ["0", "-7", "10.0", "1e3", "0.1", "-0.0", "1e-7", "9007199254740993", "-123456789012345678901234567890", "3.14", "1E+2", "0.00001", "1e16", "1e22", "2.50", "42", "5e-324"]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def maybe(self, share):
        return self.random.random() < share

    def one(self, of):
        return self.random.choice(of)

    def words(self, most=6):
        text = " ".join(self.one(WORDS) for _ in range(self.random.randint(1, most)))
        return self.one(["", "", "", " ", "\n", "\n\n  "]) + text + self.one(["", "", "", " ", "\n"]) if self.maybe(0.3) else text

    def value(self, depth=0):
        """A JSON text."""
        kind = self.random.randint(0, 5 if depth < 2 else 3)
        if kind == 0:
            return self.one(NUMBERS)
        if kind in (1, 2):
            return json.dumps(self.words(3), ensure_ascii=self.maybe(0.2))
        if kind == 3:
            return self.one(["true", "false", "null", "[]", "{}"])
        if kind == 4:
            return "[" + ", ".join(self.value(depth + 1) for _ in range(self.random.randint(1, 3))) + "]"
        return self.object(depth + 1)

    def object(self, depth=0):
        keys = self.random.sample(KEYS, self.random.randint(0, 3))
        return "{" + self.one([", ", ","]).join(f"{json.dumps(key)}: {self.value(depth)}" for key in keys) + "}"

    def tool(self, name):
        properties = ", ".join(f'{json.dumps(key)}: {{"type": {json.dumps(self.one(["string", "integer", "array", "object", "boolean"]))}'
                               + (f', "description": {json.dumps(self.words(3))}' if self.maybe(0.7) else "")
                               + (f', "default": {self.value(1)}' if self.maybe(0.3) else "")
                               + (f', "enum": [{self.one(NUMBERS)}, "b"]' if self.maybe(0.2) else "") + "}"
                               for key in self.random.sample(KEYS, self.random.randint(0, 3)))
        description = f', "description": {json.dumps(self.words(4))}'
        return f'{{"type": "function", "function": {{"name": "{name}"{description}, "parameters": {{"type": "object", "properties": {{{properties}}}, "required": []}}}}}}'

    def call(self, name):
        arguments = self.object()
        if self.maybe(0.12):
            arguments = json.dumps(arguments)
        number = f'"id": "{self.random.randrange(36 ** 8):09d}", ' if self.maybe(0.5) else ""
        return f'{{{number}"type": "function", "function": {{"name": "{name}", "arguments": {arguments}}}}}'

    def answer(self, names):
        message = {"role": '"assistant"', "content": json.dumps(self.words())}
        if self.maybe(0.04):
            message["content"] = '""'
        if self.maybe(0.2):
            message[self.one(["reasoning_content", "reasoning_content", "thinking"])] = json.dumps(self.words())
        elif self.maybe(0.1):
            message["content"] = json.dumps(f"<think>\n{self.words()}\n</think>\n\n{self.words()}")
        if self.maybe(0.1):
            message[self.one(["reasoning_content", "name", "tool_calls", "refusal"])] = "null"
        turns = []
        if names and self.maybe(0.5):
            called = [self.one(names) for _ in range(self.random.randint(1, 2))]
            message["tool_calls"] = "[" + ", ".join(self.call(name) for name in called) + "]"
            message["content"] = self.one(['""', "null", message["content"]])
            turns = [self.message({"role": '"tool"', "content": json.dumps(self.one([self.words(), self.object()])), **({"name": f'"{name}"'} if self.maybe(0.5) else {})})
                     for name in called]
            turns.append(self.message({"role": '"assistant"', "content": json.dumps(self.words())}))
        return [self.message(message), *turns]

    @staticmethod
    def message(fields):
        return "{" + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + "}"

    def conversation(self):
        names = self.random.sample(["weather", "sum", "look_up"], self.random.randint(1, 2)) if self.maybe(0.4) else []
        messages = [self.message({"role": '"system"', "content": json.dumps(self.words())})] if self.maybe(0.35) else []
        for _ in range(self.random.choice([1, 1, 2, 2, 3, 4])):
            messages.append(self.message({"role": '"user"', "content": json.dumps(self.words(), ensure_ascii=False)}))
            messages += self.answer(names)
        tools = f', "tools": [{", ".join(self.tool(name) for name in names)}]' if names and self.maybe(0.9) else ""
        return f'{{"messages": [{", ".join(messages)}]{tools}}}'


def conversations(count, seed=19):
    maker = Maker(seed)
    return [maker.conversation() for _ in range(count)]
