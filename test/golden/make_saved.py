"""Makes saved/: tiny random models of the families as transformers itself saves them, and the logits it computes.

    pip install 'transformers<5' torch && python3 test/golden/make_saved.py      # saved/FAMILY-4-*: one matrix per expert, where 4 has them apart
    pip install 'transformers>=5' torch && python3 test/golden/make_saved.py     # saved/FAMILY-5-*: stacked experts
    python3 test/golden/make_saved.py glm4_moe minimax_m2                        # only some

Folders of transformers 4 say `torch_dtype`, `rope_theta` and `rope_scaling`, those of 5 `dtype` and `rope_parameters`.
Logits are of the saved weights, in float32.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
VERSION = int(transformers.__version__.split(".")[0])
transformers.utils.logging.set_verbosity_error()
EVERY = dict(vocab_size=40, hidden_size=16, num_attention_heads=4, num_key_value_heads=2, num_experts_per_tok=2, num_hidden_layers=2,
             intermediate_size=8, max_position_embeddings=32, initializer_range=0.4, bos_token_id=None, eos_token_id=None,
             pad_token_id=None)
PARTIAL = dict(rope_type="default", partial_rotary_factor=0.5)
LATENT = dict(n_routed_experts=4, moe_intermediate_size=8, num_key_value_heads=4, kv_lora_rank=6, q_lora_rank=5, qk_nope_head_dim=4, qk_rope_head_dim=2,
              v_head_dim=3, first_k_dense_replace=1, n_group=2, topk_group=1)
DELTA = dict(moe_intermediate_size=8, shared_expert_intermediate_size=12, head_dim=8, layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
             linear_key_head_dim=6, linear_num_value_heads=4, linear_value_head_dim=5, rms_norm_eps=1e-3)
# The stem of a family's classes, its settings, and its rotary ones.
FAMILIES = {
    "qwen2_moe": ("Qwen2Moe", dict(num_experts=3, moe_intermediate_size=8, shared_expert_intermediate_size=12), None),
    "qwen3_moe": ("Qwen3Moe", dict(num_experts=3, moe_intermediate_size=8, head_dim=8, norm_topk_prob=True),
                  dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=16)),
    "mixtral": ("Mixtral", dict(num_local_experts=3), dict(rope_type="linear", factor=2.0)),
    "olmoe": ("Olmoe", dict(num_experts=3), dict(rope_type="dynamic", factor=2.0)),
    "deepseek_v3": ("DeepseekV3", LATENT, dict(rope_type="yarn", factor=4.0, mscale=1.0, mscale_all_dim=0.5)),
    "deepseek_v2": ("DeepseekV2", dict(LATENT, q_lora_rank=None, topk_method="group_limited_greedy"), None),
    "gpt_oss": ("GptOss", dict(num_local_experts=3, head_dim=8, sliding_window=4),
                dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=16, truncate=False)),
    "glm4_moe_lite": ("Glm4MoeLite", LATENT, dict(rope_type="linear", factor=2.0)),
    "glm4_moe": ("Glm4Moe", dict(n_routed_experts=4, moe_intermediate_size=8, head_dim=8, n_group=2, topk_group=1, attention_bias=True), PARTIAL),
    "dots1": ("Dots1", dict(n_routed_experts=4, n_shared_experts=1, moe_intermediate_size=8, first_k_dense_replace=1, sliding_window=4, max_window_layers=1), None),
    "solar_open": ("SolarOpen", dict(n_routed_experts=4, moe_intermediate_size=8, head_dim=8), dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=16)),
    "minimax_m2": ("MiniMaxM2", dict(num_local_experts=3, head_dim=8), PARTIAL),
    "ernie4_5_moe": ("Ernie4_5_Moe", dict(moe_num_experts=3, moe_k=2, moe_intermediate_size=8, moe_layer_start_index=0), None),
    "granitemoe": ("GraniteMoe", dict(num_local_experts=3, embedding_multiplier=3.0, residual_multiplier=0.22, attention_multiplier=0.3, logits_scaling=1.7),
                   dict(rope_type="linear", factor=2.0)),
    "qwen3_next": ("Qwen3Next", dict(num_experts=3, **DELTA), PARTIAL),
    "qwen3_5_moe_text": ("Qwen3_5Moe", dict(num_experts=3, **DELTA), PARTIAL),
}
THETA = 700.0
# dtype and largest file; every family is saved in each.
FORMS = {4: {"bfloat16": "6KB", "float16": "1MB"}, 5: {"float32": "12KB", "bfloat16": "1MB"}}[VERSION]


def write(family, dtype, shard_size):
    stem, settings, rope = FAMILIES[family]
    make_model, make_config = getattr(transformers, f"{stem}ForCausalLM"), getattr(transformers, f"{stem}TextConfig" if family.endswith("_text") else f"{stem}Config")
    if VERSION == 4:
        share = (rope or {}).get("partial_rotary_factor")
        plain = rope is None or rope["rope_type"] == "default"
        stretched = dict(rope_theta=THETA, rope_scaling=None if plain else rope, **({"partial_rotary_factor": share} if share else {}))
    else:
        stretched = dict(rope_parameters=dict(rope or dict(rope_type="default"), rope_theta=THETA))
    torch.manual_seed(11)
    model = make_model(make_config(**{**EVERY, **settings}, **stretched))
    with torch.no_grad():  # biases and norms start at 0 and 1: give them values that matter
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1 or key.endswith("proj_bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        for key, tensor in model.state_dict().items():
            if key.endswith("e_score_correction_bias"):
                tensor.copy_(torch.randn_like(tensor) * 0.1)
    folder = HERE / "saved" / f"{family}-{VERSION}-{dtype}"
    shutil.rmtree(folder, ignore_errors=True)
    model = model.to(getattr(torch, dtype))
    # transformers 5 would otherwise save the names of 4.
    model.save_pretrained(folder, max_shard_size=shard_size, **({} if VERSION == 4 else {"save_original_format": False}))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if VERSION == 4:  # the key's name before 4.56, as in the files of released models
        path = folder / "config.json"
        config = json.loads(path.read_text())
        if "dtype" in config:
            config["torch_dtype"] = config.pop("dtype")
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    ids = torch.randint(0, EVERY["vocab_size"], (1, 21), generator=torch.Generator().manual_seed(5))
    reloaded = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
    with torch.no_grad():
        logits = reloaded(input_ids=ids).logits[0]
    save_file({"input_ids": ids[0], "logits": logits.contiguous()}, folder / "golden.safetensors",
              metadata={"transformers": transformers.__version__, "torch": torch.__version__})


for family in sys.argv[1:] or FAMILIES:
    if family not in transformers.CONFIG_MAPPING:
        print(f"{family}: transformers {transformers.__version__} has no such models")
        continue
    for dtype, shard_size in FORMS.items():
        write(family, dtype, shard_size)
