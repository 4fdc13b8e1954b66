"""Prepares conversations as TRL does before training: `datasets` reads the file, TRL's training template and its own
tokenising function make ids and the mask of the assistant's tokens. Prints one line of JSON.
    python experiments/peers/data.py MODEL_FOLDER FILE [processes]
"""
import json
import resource
import sys
import tempfile
import time

from datasets import load_dataset
from transformers import AutoTokenizer
from trl.chat_template_utils import get_training_chat_template
from trl.data_utils import _tokenize

folder, path, processes = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 2
tokenizer = AutoTokenizer.from_pretrained(folder)
has_tags = "generation" in tokenizer.chat_template.replace("add_generation_prompt", "")
template = tokenizer.chat_template if has_tags else get_training_chat_template(tokenizer)


def seconds(who):
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def prepare(row):
    made = _tokenize(tokenizer, row["messages"], chat_template=template, return_assistant_tokens_mask=True)
    ids, mask = made["input_ids"], made["assistant_masks"]
    return {"input_ids": ids, "labels": [token if flag else -100 for token, flag in zip(ids, mask)]}


with tempfile.TemporaryDirectory() as cache:
    started = time.perf_counter()
    rows = load_dataset("json", data_files=path, split="train", cache_dir=cache)
    read = time.perf_counter()
    made = rows.map(prepare, num_proc=processes if processes > 1 else None, remove_columns=rows.column_names)
    ended = time.perf_counter()
    cpu = seconds(resource.RUSAGE_SELF) + seconds(resource.RUSAGE_CHILDREN)
    tokens = trained = 0
    for row in made:
        tokens += len(row["input_ids"])
        trained += sum(label != -100 for label in row["labels"])

print(
    json.dumps(
        {
            "tool": "trl",
            "rows": len(made),
            "processes": processes,
            "readSeconds": round(read - started, 2),
            "prepareSeconds": round(ended - read, 2),
            "rowsPerSecond": round(len(made) / (ended - started)),
            "tokens": tokens,
            "trainedTokens": trained,
            "cpuSeconds": round(cpu, 2),
        }
    )
)
