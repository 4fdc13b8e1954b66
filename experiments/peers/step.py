"""A training step of transformers on a CPU, which step.mjs compares with ours. Its argument is JSON, see step.mjs.
    python experiments/peers/step.py '{"make": FOLDER}'       writes random float32 weights beside the folder's config.json
    python experiments/peers/step.py '{"model": FOLDER, ...}' trains on one repeated batch; prints a line of JSON for each step
"""
import contextlib
import json
import os
import re
import resource
import sys
import time

import torch
import transformers
from transformers import Adafactor, AutoConfig, AutoModelForCausalLM

options = json.loads(sys.argv[1])
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)

if "make" in options:
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options["make"]), dtype=torch.float32)
    # As large as in a trained network, so that tokens differ, and spread over the experts.
    model.get_input_embeddings().weight.data.normal_()
    model.save_pretrained(options["make"])
    sys.exit()


def say(**event):
    print(json.dumps(event), flush=True)


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_bytes():
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])


torch.set_num_threads(options["threads"])
model = AutoModelForCausalLM.from_pretrained(
    options["model"],
    dtype=torch.bfloat16 if options["dtype"] == "bfloat16" else torch.float32,
    attn_implementation="sdpa",
    experts_implementation=options["experts"],
)
model.train()
model.config.use_cache = False
if options["checkpointing"]:
    model.gradient_checkpointing_enable()
if options["optimizer"] == "adamw":
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options["rate"], betas=(0.9, 0.95), eps=1e-8, weight_decay=0, fused=True
    )
else:
    optimizer = Adafactor(
        model.parameters(), lr=options["rate"], scale_parameter=False, relative_step=False, warmup_init=False
    )
batches = [torch.tensor([row]) for row in options["batches"]]
products = (
    (lambda: torch.autocast("cpu", torch.bfloat16)) if options["dtype"] == "mixed" else contextlib.nullcontext
)
say(kind="made", parameters=sum(p.numel() for p in model.parameters()), version=torch.__version__)

for step in range(options["steps"]):
    if step == 1:  # The peak is that of steps, without loading and a first step.
        with open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")
    began, processor = time.perf_counter(), processor_seconds()
    loss = 0.0
    for ids in batches:
        with products():
            part = model(input_ids=ids, labels=ids).loss / len(batches)
        part.backward()
        loss += part.item()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    say(kind="step", loss=loss, seconds=time.perf_counter() - began, cpuSeconds=processor_seconds() - processor)

state = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t) and t.dim() > 0]
say(kind="end", peakBytes=peak_bytes(), stateBytes=sum(t.numel() * t.element_size() for t in state))
sys.stdout.flush()
os._exit(0)
