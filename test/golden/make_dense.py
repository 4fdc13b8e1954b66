"""Makes the dense models that the tests of `revmoe upcycle` read: weights, tokens and the logits of transformers (float32).

    pip install torch transformers safetensors
    python3 test/golden/make_dense.py              # or only some: make_dense.py qwen3

Each folder of dense/ is a tiny random model whose attention has what its family's has: grouped heads, tying, a sliding
window, biases, norms of queries and keys, a head width of its own, stretched rotary positions in both dialects.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent / "dense"
EVERY = dict(vocab_size=80, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=64, initializer_range=0.3, bos_token_id=1, eos_token_id=[2, 3])
CASES = {
    "llama": ("llama", dict(num_key_value_heads=4, head_dim=8, rope_parameters=dict(
        rope_type="llama3", rope_theta=5000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=24))),
    "smollm": ("llama", dict(tie_word_embeddings=True, rms_norm_eps=1e-5, old=True, rope_parameters=dict(
        rope_type="linear", rope_theta=1e5, factor=2.0))),
    "mistral": ("mistral", dict(sliding_window=7, head_dim=10)),
    "qwen2": ("qwen2", dict(tie_word_embeddings=True, num_hidden_layers=3, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3": ("qwen3", dict(head_dim=16, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e6, factor=4.0, original_max_position_embeddings=16))),
    "qwen3-window": ("qwen3", dict(head_dim=10, tie_word_embeddings=True, attention_bias=True, use_sliding_window=True, sliding_window=5,
                                   max_window_layers=0)),
}
TOKENS = 33


def write_case(name):
    family, settings = CASES[name]
    settings = {**EVERY, **settings}
    old = settings.pop("old", False)
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **settings)).float()
    with torch.no_grad():  # biases and norms start at 0 and 1: give them values that matter
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if old:
        write_old_dialect(folder / "config.json")
    ids = torch.randint(0, EVERY["vocab_size"], (1, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].contiguous()
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(input_ids=ids).logits[0]
    assert torch.equal(logits, again), f"{name}: transformers reads its folder as another model"
    save_file({"input_ids": ids[0], "logits": logits}, folder / "golden.safetensors",
              metadata={"transformers": transformers.__version__, "torch": torch.__version__})


def write_old_dialect(path):
    """As files from before transformers 5 say it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


for case in CASES:
    if not sys.argv[1:] or case in sys.argv[1:]:
        write_case(case)
