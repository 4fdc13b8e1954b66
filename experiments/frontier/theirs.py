# The same geometry in transformers: python3 experiments/frontier/theirs.py adamw|adafactor LAYERS EXPERTS TOKENS ROWS STEPS
# bfloat16 weights and state, gradient checkpointing, grouped experts, torch's fused AdamW or transformers' Adafactor: what its Trainer does with
# one card and bf16 weights. Prints one row, or that memory ran out.
import sys
import time

import torch
from transformers import Adafactor, AutoModelForCausalLM, Qwen2MoeConfig

name, layers, experts, tokens, rows, steps = sys.argv[1], *map(int, sys.argv[2:])
config = Qwen2MoeConfig(
    vocab_size=151_936, hidden_size=2048, num_hidden_layers=layers, num_attention_heads=16, num_key_value_heads=16, intermediate_size=5632,
    moe_intermediate_size=1408, shared_expert_intermediate_size=5632, num_experts=experts, num_experts_per_tok=4, norm_topk_prob=False,
    rope_theta=1e6, max_position_embeddings=8192,
)
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
