"""Reads the event files of a run with TensorBoard itself. Optional; needs `pip install tensorboard`.

    node dist/cli.js train ... --report-to tensorboard --output-dir runs/first
    python3 test/golden/check_tensorboard.py runs/first

Compares every scalar and every sample with metrics.jsonl, of which a run that was resumed has each step once; exit code 1 at a difference.
"""

import json
import math
import re
import struct
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

NAMES = {
    "step": {
        "train/loss": "loss",
        "train/mean_token_accuracy": "meanTokenAccuracy",
        "train/learning_rate": "learningRate",
        "train/grad_norm": "gradNorm",
        "train/epoch": "epoch",
        "train/tokens_per_second": "tokensPerSecond",
        "train/peak_bytes": "peakBytes",
    },
    "trained": {
        "eval/loss": "evalLoss",
        "eval/perplexity": "evalPerplexity",
        "eval/mean_token_accuracy": "evalMeanTokenAccuracy",
    },
    "ordinary": {
        "eval_ordinary/loss": "evalLoss",
        "eval_ordinary/perplexity": "evalPerplexity",
        "eval_ordinary/mean_token_accuracy": "evalMeanTokenAccuracy",
    },
}


def float32(value):
    return math.nan if value is None else struct.unpack("<f", struct.pack("<f", value))[0]


def expected(folder):
    scalars, prompts = {}, []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "sample":
            prompt = event["prompt"]
            if prompt not in prompts:
                prompts.append(prompt)
            text = re.sub("^", "    ", prompt + event["text"], flags=re.M)
            scalars.setdefault(f"samples/{prompts.index(prompt) + 1}", []).append((event["step"], text))
            continue
        for tag, field in NAMES.get(event.get("network", event["kind"]), {}).items():
            scalars.setdefault(tag, []).append((event["step"], float32(event[field])))
    return scalars


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    for tag in events.Tags()["tensors"]:
        assert events.SummaryMetadata(tag).plugin_data.plugin_name == "text", tag
        scalars[tag] = [(e.step, e.tensor_proto.string_val[0].decode()) for e in events.Tensors(tag)]
    return scalars


def main():
    folder = Path(sys.argv[1])
    wanted, found = expected(folder), read(folder)
    bad = [tag for tag in sorted(set(wanted) | set(found)) if wanted.get(tag) != found.get(tag)]
    for tag in sorted(found):
        print(f"{tag}: {len(found[tag])} points, steps {found[tag][0][0]} to {found[tag][-1][0]}")
    for tag in bad:
        print(f"DIFFERS {tag}: metrics.jsonl has {wanted.get(tag)}, TensorBoard {found.get(tag)}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
