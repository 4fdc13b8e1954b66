"""Makes templates/trl.json: the ids and labels that TRL's SFTTrainer makes of 210 rows, for the templates of six families.

    pip install trl && python3 test/golden/make_trl.py

Rows are conversations (several turns, tools, calls), prompts with completions as messages and as texts, and texts. Each row
is a dataset of its own, lest a table's nulls get into others. TRL knows the assistant's tokens from {% generation %} tags
alone: Qwen2.5 and Qwen3 have TRL's own tagged templates, the others get tags here around what the assistant writes, header
excluded, end marker included, which change no text. Labels are written as ranges [first, last + 1] of what is trained;
the first token, which nothing predicts, is left out of them. `merged` says that a token holds the end of a header or prompt
and the beginning of what is trained: there training has other ids on purpose (see src/data/encode.ts).
"""
import json
import logging
import os
import pathlib
import random
import tempfile

os.environ["CUDA_VISIBLE_DEVICES"] = ""
import datasets  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

HERE = pathlib.Path(__file__).parent
FAMILIES = {"qwen2": "qwen", "qwen2.5-tagged": "qwen", "qwen3-tagged": "qwen", "mixtral": "mixtral", "olmoe": "olmoe", "own-granite": "olmoe"}
OPEN, CLOSE = "{%- generation %}", "{%- endgeneration %}"


def around(header, body, end):
    """A turn of any role, with tags where it is the assistant's."""
    return f"{header}{{%- if message.role == 'assistant' %}}{OPEN}{body}{CLOSE}{{%- else %}}{body}{{%- endif %}}{end}"


GRANITE = r"""    {%- if message.tool_calls %}
        {{- '<|tool_call|>' ~ (message.tool_calls | map(attribute='function') | list | tojson) }}
    {%- else %}
        {{- message.content }}
    {%- endif %}
"""
TAGS = {
    "qwen2": [(r"{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}",
               around(r"{{'<|im_start|>' + message['role'] + '\n'}}", "{{- message['content'] + '<|im_end|>'}}", r"{{- '\n'}}"))],
    "mixtral": [("{{- ' ' + message['content'] + eos_token}}", OPEN + "{{- ' ' + message['content'] + eos_token}}" + CLOSE)],
    "olmoe": [(r"{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}", r"{{ '<|assistant|>\n' }}" + OPEN + "{{- message['content'] + eos_token }}" + CLOSE + r"{{- '\n' }}"),
              (r"{{ '<|assistant|>\n'  + message['content'] + eos_token }}", r"{{ '<|assistant|>\n' }}" + OPEN + "{{- message['content'] + eos_token }}" + CLOSE)],
    "own-granite": [(GRANITE + r"    {{- '<|end_of_text|>\n' }}", around("", GRANITE + "{{- '<|end_of_text|>' }}", r"{{- '\n' }}"))],
}
WORDS = "what is the weather in Köln today it's 21.5 °C and 東京 has rain 🙂 so take an umbrella, please! x = [1, 2] \"quoted\" yes no".split()
chance = random.Random(7)


def words(most=8):
    return " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, most)))


def turns(count):
    return [message for _ in range(count) for message in ({"role": "user", "content": words()}, {"role": "assistant", "content": words()})]


def calling():
    name = chance.choice(["weather", "sum"])
    arguments = {"city": words(2), "days": chance.choice([1, 2.5, 10.0, 9007199254740993]), "all": True, "2": ["b", "c"]}
    tools = [{"type": "function", "function": {"name": name, "description": words(), "parameters": {"type": "object", "properties": {"2": {"type": "array"}, "1": {"default": 1.0}}}}}]
    return [{"role": "user", "content": words()},
            {"role": "assistant", "content": chance.choice(["", words()]), "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]},
            {"role": "tool", "content": words(3)}, {"role": "assistant", "content": words()}], json.dumps(tools)


def rows_of(family):
    """35 rows; texts and prompts as texts know no template."""
    system = [{"role": "system", "content": words()}]
    for i in range(12):
        yield {"messages": (system if i % 3 == 0 else []) + turns(1 + i % 4)}
    for i in range(8):
        yield {"prompt": (system if i % 3 == 0 else []) + turns(i % 3) + [{"role": "user", "content": words()}], "completion": [{"role": "assistant", "content": words()}]}
    for _ in range(5):
        yield {"prompt": words(), "completion": " " + words()}
    for _ in range(5):
        yield {"text": words(20)}
    for i in range(5):
        if family in ("qwen2", "mixtral", "olmoe"):
            yield {"messages": turns(5 + i)}
            continue
        messages, tools = calling()
        yield {"messages": (turns(1) if i % 2 else []) + messages, "tools": tools}


def load(family):
    folder = HERE / "tokenizers" / FAMILIES[family]
    config = json.loads((folder / "tokenizer_config.json").read_text())
    names = {key: value for key, value in config.items() if key.endswith("_token") and isinstance(value, str)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), clean_up_tokenization_spaces=False, **names)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    template = (HERE / "templates" / f"{family}.jinja").read_text()
    tokenizer.chat_template = template
    for plain, tagged in TAGS.get(family, []):
        assert plain in tokenizer.chat_template, (family, plain)
        tokenizer.chat_template = tokenizer.chat_template.replace(plain, tagged)
    return tokenizer, template


def runs(labels):
    trained = [i for i, label in enumerate(labels) if label != -100 and i > 0]
    return [[i, i + next(n for n in range(1, len(labels) + 1) if i + n not in trained)] for i in trained if i - 1 not in trained]


def check_tags(row, tokenizer, template):
    """Tags must change no text."""
    if "messages" in row:
        given = {"tools": json.loads(row["tools"]) if "tools" in row else None, "tokenize": False}
        assert tokenizer.apply_chat_template(row["messages"], **given) == tokenizer.apply_chat_template(row["messages"], chat_template=template, **given)


def is_merged(row, tokenizer):
    """Whether encoding part by part, as a model meets it, gives other ids than encoding the whole."""
    if "messages" in row:
        tools = json.loads(row["tools"]) if "tools" in row else None
        text, spans = transformers.utils.chat_template_utils.render_jinja_template([row["messages"]], tools=tools, chat_template=tokenizer.chat_template,
                                                                                   return_assistant_tokens_mask=True, **tokenizer.special_tokens_map)
        bounds, text = {bound for span in spans[0] for bound in span}, text[0]
    elif isinstance(row.get("prompt"), list):
        text = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
        bounds = {len(tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True))}
    else:
        return False
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return any(first < bound < last for first, last in offsets for bound in bounds)


def prepared(row, tokenizer, folder):
    config = SFTConfig(output_dir=folder, use_cpu=True, bf16=False, max_length=None, packing=False, report_to=[], assistant_only_loss="messages" in row,
                       shuffle_dataset=False, dataset_num_proc=None)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1))
    trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    made = trainer.train_dataset[0]
    return {"ids": made["input_ids"], "trained": runs(made["labels"])}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            tokenizer, template = load(family)
            out[family] = []
            for row in rows_of(family):
                check_tags(row, tokenizer, template)
                out[family].append({"row": json.dumps(row, ensure_ascii=False), **prepared(row, tokenizer, folder), "merged": is_merged(row, tokenizer)})
            print(family, len(out[family]), "rows,", sum(made["merged"] for made in out[family]), "merged", flush=True)
    lines = ",\n".join(f'{json.dumps(family)}: [\n' + ",\n".join(json.dumps(made, ensure_ascii=False, separators=(",", ":")) for made in rows) + "\n]" for family, rows in out.items())
    (HERE / "templates" / "trl.json").write_text(f"{{\n{lines}\n}}\n")
    print("trl", trl.__version__, "transformers", transformers.__version__)
