"""Makes templates/many.json.gz: what transformers renders for 1,000 made-up conversations under each template of templates/.

    pip install transformers && python3 test/golden/make_template_cases.py

The file holds the conversations (conversations.py) as JSON texts, and for each template 8 letters a conversation: 5 of a hash
of the text and of the prompt that its first message makes, "-----" where the template refuses it; and 3 of a hash of what the
assistant wrote, "---" where that is not known in a way that is independent of the one tested: the text up to a turn is the
beginning of the whole, and so is all before it with the generation prompt. Dates are written DATE before that.

Arguments of calls that are texts are given as objects to templates that write a text of arguments otherwise than as it is.
"""
import base64
import gzip
import hashlib
import json
import pathlib
import re

import jinja2
import transformers
from conversations import conversations
from transformers import PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
PROBE = '{"revmoe": "probe"}'


def hashed(text, length):
    dateless = re.sub(r"\d{4}-\d\d-\d\d", "DATE", text)
    return base64.b64encode(hashlib.sha256(dateless.encode()).digest()).decode()[:length]


class Renderer:
    def __init__(self, template):
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(HERE / "tokenizers/olmoe/tokenizer.json"), **SPECIAL)
        self.tokenizer.chat_template = template
        self.known = {}

    def render(self, messages, tools, prompt=False):
        if not messages:
            return None
        try:
            return self.tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, add_generation_prompt=prompt)
        except (jinja2.TemplateError, TypeError, AttributeError, ValueError):
            return None

    def takes_text(self, call):
        """Whether the template writes a text of arguments as it is, or no arguments at all."""
        def shown(value):
            given = {**call, "function": {**call["function"], "arguments": value}}
            return self.render([{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": [given]}], None) or ""

        shape = ",".join(call)
        if shape not in self.known:
            self.known[shape] = PROBE in shown(PROBE) or "revmoe" not in shown(json.loads(PROBE))
        return self.known[shape]

    def answers(self, text, messages, tools):
        """What the assistant wrote, turn by turn. Templates with {% generation %} tags say it themselves: see make_templates.py."""
        if "generation %}" in self.tokenizer.chat_template:
            return None
        spans = []
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self.render(messages[:i], tools, prompt=True)
            after = text if i == len(messages) - 1 else self.render(messages[:i + 1], tools)
            if before is None or after is None or not after.startswith(before) or not text.startswith(after):
                return None
            turn = after[len(before):]
            content = (message.get("content") or "").strip()
            end = turn[turn.rindex(content) + len(content):] if content and content in turn else turn
            # White space alone is itself the end marker.
            spans.append(turn if end.strip() == "" else turn.rstrip())
        return [span for span in spans if span]

    def case(self, conversation):
        row = json.loads(conversation)
        messages, tools = row["messages"], row.get("tools")
        for call in (call for message in messages for call in message.get("tool_calls") or []):
            arguments = call["function"]["arguments"]
            if isinstance(arguments, str) and not self.takes_text(call):
                call["function"]["arguments"] = json.loads(arguments)
        text = self.render(messages, tools)
        if text is None:
            return "-" * 8
        answers = self.answers(text, messages, tools)
        prompt = self.render(messages[:1], tools, prompt=True) or ""
        return hashed(f"{text}\0{prompt}", 5) + ("---" if answers is None else hashed("\0".join(answers), 3))


if __name__ == "__main__":
    made = conversations(1000)
    cases = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        renderer = Renderer(path.read_text())
        cases[path.stem] = "".join(renderer.case(conversation) for conversation in made)
        eights = [cases[path.stem][i:i + 8] for i in range(0, len(cases[path.stem]), 8)]
        print(path.stem, "refused", sum(each == "-" * 8 for each in eights), "masks", sum(not each.endswith("---") for each in eights), flush=True)
    packed = gzip.compress(json.dumps({"conversations": made, "cases": cases}, ensure_ascii=False).encode(), 9, mtime=0)
    (HERE / "templates" / "many.json.gz").write_bytes(packed)
    print(len(packed), "bytes, transformers", transformers.__version__)
