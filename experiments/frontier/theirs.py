# The same geometry in transformers: python3 experiments/frontier/theirs.py adamw|adafactor FOLDER TOKENS ROWS STEPS,
# FOLDER with a config.json
# bfloat16 weights and state, gradient checkpointing, grouped experts, torch's fused AdamW or transformers' Adafactor:
# the same as its Trainer with one card and bf16 weights. Prints one row, or that memory ran out.
import sys
import time

import torch
from transformers import Adafactor, AutoConfig, AutoModelForCausalLM

name, folder, tokens, rows, steps = *sys.argv[1:3], *map(int, sys.argv[3:])
config = AutoConfig.from_pretrained(folder)
words = f"transformers, checkpointing, {name}, {rows * tokens} tokens a step"
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
try:
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", experts_implementation="grouped_mm")
    model.train()
    model.config.use_cache = False
    model.gradient_checkpointing_enable()
    if name == "adamw":
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    else:
        optimizer = Adafactor(model.parameters(), lr=1e-5, scale_parameter=False, relative_step=False, warmup_init=False)
    ids = torch.randint(0, config.vocab_size, (rows, tokens), device="cuda")
    seconds = []
    for _ in range(steps):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        began = time.time()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(time.time() - began)
    middle = sorted(seconds[1:])[len(seconds[1:]) // 2]
    peak = torch.cuda.max_memory_allocated() / 2**30
    count = sum(p.numel() for p in model.parameters()) / 1e9
    print(f"{words}: {count:.2f} B parameters, {middle:.2f} s a step, {rows * tokens / middle:.0f} tokens/s, peak of tensors {peak:.2f} GiB")
except torch.OutOfMemoryError as failure:
    print(f"{words}: out of memory ({str(failure).split('. ')[1] if '. ' in str(failure) else failure})")
