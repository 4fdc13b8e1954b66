"""Makes the golden files that the tests read: what Hugging Face transformers computes for models of ours.

    npm run setup
    pip install torch transformers safetensors
    python3 test/golden/make_golden.py            # or only some: make_golden.py mixtral olmoe-clip

hf-*/ qwen3-*/ mixtral-*/ olmoe-*/ granite-*/ glm4-*/ dots-*/ solar-*/ minimax-*/ ernie-*/ deepseek3-*/ deepseek2-*/ glmlite-*/ gptoss-*/ next-*/ qwen35-*/
            tiny random models made by transformers: weights, tokens, logits, loss and every gradient (float32); for some,
            the losses of ten AdamW steps
            router.safetensors, one model of each family that transformers has such losses for: losses on router logits and every
            gradient with them, for rows of several lengths under an attention mask
store-run/  a run of `revmoe train --method store` from hf-tiny; transformers loads its final/ and gives the logits
"""
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, DeepseekV2Config, DeepseekV2ForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM, Dots1Config,
                          Dots1ForCausalLM, Ernie4_5_MoeConfig, Ernie4_5_MoeForCausalLM, Glm4MoeConfig, Glm4MoeForCausalLM, Glm4MoeLiteConfig, Glm4MoeLiteForCausalLM, GptOssConfig,
                          GptOssForCausalLM, GraniteMoeConfig, GraniteMoeForCausalLM, MiniMaxM2Config, MiniMaxM2ForCausalLM, MixtralConfig,
                          MixtralForCausalLM, Mxfp4Config, OlmoeConfig, OlmoeForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM, Qwen3MoeConfig,
                          Qwen3MoeForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM, SolarOpenConfig, SolarOpenForCausalLM)
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.models.qwen3_5_moe import (Qwen3_5MoeConfig, Qwen3_5MoeForCausalLM, Qwen3_5MoeForConditionalGeneration,
                                             Qwen3_5MoeTextConfig)

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
EVERY = dict(vocab_size=80, hidden_size=24, num_attention_heads=4, num_key_value_heads=2, num_experts_per_tok=2, initializer_range=0.3)
QWEN2 = dict(
    **EVERY, num_hidden_layers=3, intermediate_size=40, moe_intermediate_size=12, shared_expert_intermediate_size=20, num_experts=6,
    max_position_embeddings=64, rope_theta=10000.0,
)
QWEN3 = dict(**EVERY, num_hidden_layers=2, intermediate_size=20, moe_intermediate_size=8, num_experts=5, max_position_embeddings=64)
MIXTRAL = dict(**EVERY, num_hidden_layers=2, intermediate_size=8, num_local_experts=5, max_position_embeddings=64)
GRANITE = dict(**EVERY, num_hidden_layers=2, intermediate_size=8, num_local_experts=5, max_position_embeddings=64,
               embedding_multiplier=3.0, residual_multiplier=0.22, attention_multiplier=0.3, logits_scaling=1.7)
GPT_OSS = dict(**EVERY, num_hidden_layers=2, intermediate_size=8, num_local_experts=5, head_dim=6, max_position_embeddings=64)
LATENT = dict(EVERY, num_key_value_heads=4, num_hidden_layers=2, intermediate_size=20, moe_intermediate_size=8, n_routed_experts=6, max_position_embeddings=64,
              kv_lora_rank=14, q_lora_rank=10, qk_nope_head_dim=6, qk_rope_head_dim=4, v_head_dim=7, n_group=1, topk_group=1)
OLMOE = dict(**EVERY, num_hidden_layers=2, intermediate_size=8, num_experts=5, max_position_embeddings=64)
GLM4 = dict(**EVERY, num_hidden_layers=3, intermediate_size=20, moe_intermediate_size=8, n_routed_experts=6, head_dim=12, max_position_embeddings=64)
DOTS = dict(**EVERY, num_hidden_layers=3, intermediate_size=20, moe_intermediate_size=8, n_routed_experts=6, n_shared_experts=1, first_k_dense_replace=1, max_position_embeddings=64)
SOLAR = dict(**EVERY, num_hidden_layers=2, moe_intermediate_size=8, n_routed_experts=5, head_dim=6, max_position_embeddings=64)
MINIMAX = dict(**EVERY, num_hidden_layers=2, intermediate_size=8, num_local_experts=5, head_dim=6, max_position_embeddings=64)
ERNIE = dict(**{key: value for key, value in EVERY.items() if key != "num_experts_per_tok"}, num_hidden_layers=3, intermediate_size=20,
             moe_intermediate_size=8, moe_num_experts=5, moe_k=2, max_position_embeddings=64, pad_token_id=None)
DELTA = dict(EVERY, num_hidden_layers=2, full_attention_interval=2, intermediate_size=20, moe_intermediate_size=8, shared_expert_intermediate_size=10, num_experts=5, head_dim=8,
             max_position_embeddings=64, linear_num_key_heads=2, linear_key_head_dim=6, linear_num_value_heads=4, linear_value_head_dim=5)
TOKENS = 33
MAX_NORM = 3.0  # between the norms of the ten steps
ROUTED = {"hf-tiny", "qwen3-plain", "mixtral-plain", "olmoe-plain", "granite-plain", "minimax-plain", "ernie-plain", "gptoss-plain",
          "next-plain", "qwen35-plain", "qwen35-seeing"}
ROW_LENGTHS = [20, 13, 7]
AUX_COEF, LAYER_COEF, Z_COEF = 0.3, 0.2, 0.1  # large, so that a wrong gradient shows
TRAINED = {"hf-tiny", "qwen3-plain", "mixtral-window", "olmoe-plain", "granite-plain", "glm4-groups", "dots-windows", "solar-groups", "minimax-partial", "ernie-tied", "deepseek3-groups",
           "deepseek2-lite", "glmlite-plain", "gptoss-plain", "next-plain", "qwen35-plain"}

# `rope` is written as rope_parameters; with `old`, config.json is changed afterwards to rope_theta and rope_scaling, whose
# type has that key. With `even`, the correction of the choice is 0: transformers' auxiliary loss counts choices as if it were.
# With `fp8`, the folder has its matrices in FP8 blocks of so many rows and columns, and transformers computes with what they decode to.
CASES = {
    "hf-tiny": (Qwen2MoeForCausalLM, Qwen2MoeConfig, dict(QWEN2, mlp_only_layers=[1], norm_topk_prob=False, tie_word_embeddings=False)),
    "hf-tied": (Qwen2MoeForCausalLM, Qwen2MoeConfig, dict(QWEN2, decoder_sparse_step=2, norm_topk_prob=True, tie_word_embeddings=True)),
    "hf-odd": (Qwen2MoeForCausalLM, Qwen2MoeConfig, dict(
        QWEN2, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, num_experts=8, num_experts_per_tok=3, norm_topk_prob=True, rms_norm_eps=1e-3,
        tie_word_embeddings=False, old="type", rope=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "qwen3-plain": (Qwen3MoeForCausalLM, Qwen3MoeConfig, QWEN3),
    "qwen3-wide": (Qwen3MoeForCausalLM, Qwen3MoeConfig, dict(
        QWEN3, head_dim=10, mlp_only_layers=[0], norm_topk_prob=True, attention_bias=True, tie_word_embeddings=True, old="type",
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=16))),
    "qwen3-window": (Qwen3MoeForCausalLM, Qwen3MoeConfig, dict(
        QWEN3, head_dim=16, decoder_sparse_step=2, use_sliding_window=True, sliding_window=5, norm_topk_prob=True,
        rope=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                  original_max_position_embeddings=24))),
    "mixtral-plain": (MixtralForCausalLM, MixtralConfig, dict(MIXTRAL, num_key_value_heads=4)),
    "mixtral-window": (MixtralForCausalLM, MixtralConfig, dict(
        MIXTRAL, sliding_window=7, head_dim=8, old="type", rope=dict(rope_type="linear", rope_theta=1e6, factor=3.0))),
    "mixtral-dynamic": (MixtralForCausalLM, MixtralConfig, dict(
        MIXTRAL, head_dim=6, max_position_embeddings=16, old="rope_type", rope=dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0))),
    "mixtral-yarn": (MixtralForCausalLM, MixtralConfig, dict(
        MIXTRAL, head_dim=12, rope=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32,
                                        beta_fast=16.0, beta_slow=2.0, mscale=0.7, mscale_all_dim=1.3, truncate=False))),
    "olmoe-plain": (OlmoeForCausalLM, OlmoeConfig, OLMOE),
    "olmoe-clip": (OlmoeForCausalLM, OlmoeConfig, dict(
        OLMOE, clip_qkv=0.6, attention_bias=True, norm_topk_prob=True,
        rope=dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.3], long_factor=[1.5, 2.5, 4.0],
                  original_max_position_embeddings=16))),
    "granite-plain": (GraniteMoeForCausalLM, GraniteMoeConfig, GRANITE),
    "granite-tied": (GraniteMoeForCausalLM, GraniteMoeConfig, dict(
        GRANITE, tie_word_embeddings=True, attention_bias=True, num_key_value_heads=4, old="type",
        rope=dict(rope_type="linear", rope_theta=1000.0, factor=2.0))),
    "granite-odd": (GraniteMoeForCausalLM, GraniteMoeConfig, dict(
        GRANITE, hidden_size=40, num_attention_heads=5, num_key_value_heads=1, num_local_experts=7, num_experts_per_tok=3, num_hidden_layers=3, intermediate_size=12,
        embedding_multiplier=6.0, residual_multiplier=1.3, attention_multiplier=0.09, logits_scaling=0.8, rms_norm_eps=1e-3, tie_word_embeddings=True,
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=16))),
    "glm4-plain": (Glm4MoeForCausalLM, Glm4MoeConfig, GLM4),
    "glm4-groups": (Glm4MoeForCausalLM, Glm4MoeConfig, dict(
        GLM4, n_routed_experts=8, n_group=4, topk_group=2, num_experts_per_tok=3, routed_scaling_factor=2.5, n_shared_experts=2, first_k_dense_replace=0,
        use_qk_norm=True, attention_bias=True, num_hidden_layers=2,
        rope=dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.34))),
    "glm4-tied": (Glm4MoeForCausalLM, Glm4MoeConfig, dict(
        GLM4, n_group=3, topk_group=2, norm_topk_prob=False, routed_scaling_factor=1.7, first_k_dense_replace=2, tie_word_embeddings=True,
        num_attention_heads=3, num_key_value_heads=1, head_dim=8, old="type",
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=16, partial_rotary_factor=0.75))),
    "dots-plain": (Dots1ForCausalLM, Dots1Config, DOTS),
    "dots-windows": (Dots1ForCausalLM, Dots1Config, dict(
        DOTS, sliding_window=5, max_window_layers=1, n_group=3, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5, n_shared_experts=2,
        num_attention_heads=6, num_key_value_heads=3, hidden_size=48, attention_bias=True,
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=16))),
    "dots-tied": (Dots1ForCausalLM, Dots1Config, dict(
        DOTS, layer_types=["sliding_attention", "full_attention", "sliding_attention"], sliding_window=9, first_k_dense_replace=2, num_experts_per_tok=3, routed_scaling_factor=1.7, n_routed_experts=7,
        num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-3, old="type",
        rope=dict(rope_type="linear", rope_theta=1000.0, factor=2.0))),
    "solar-plain": (SolarOpenForCausalLM, SolarOpenConfig, SOLAR),
    "solar-groups": (SolarOpenForCausalLM, SolarOpenConfig, dict(
        SOLAR, n_routed_experts=6, n_group=3, topk_group=2, num_experts_per_tok=3, n_shared_experts=2, routed_scaling_factor=1.8, norm_topk_prob=False, attention_bias=True,
        num_attention_heads=6, num_key_value_heads=3, head_dim=10, rope=dict(rope_type="yarn", rope_theta=1000.0, factor=2.0, original_max_position_embeddings=16))),
    "solar-tied": (SolarOpenForCausalLM, SolarOpenConfig, dict(
        SOLAR, num_hidden_layers=3, n_routed_experts=8, n_group=2, topk_group=1, num_attention_heads=3, num_key_value_heads=1, head_dim=12, tie_word_embeddings=True, rms_norm_eps=1e-3,
        old="rope_type", rope=dict(rope_type="linear", rope_theta=1000.0, factor=2.0))),
    "minimax-plain": (MiniMaxM2ForCausalLM, MiniMaxM2Config, dict(MINIMAX, even=True)),
    "minimax-partial": (MiniMaxM2ForCausalLM, MiniMaxM2Config, dict(
        MINIMAX, num_attention_heads=6, num_key_value_heads=3, head_dim=10, rotary_dim=4, num_local_experts=7, num_experts_per_tok=3)),
    "minimax-tied": (MiniMaxM2ForCausalLM, MiniMaxM2Config, dict(
        MINIMAX, num_attention_heads=3, num_key_value_heads=1, head_dim=12, tie_word_embeddings=True, old="rope_type",
        rope=dict(rope_type="linear", rope_theta=1000.0, factor=2.0, partial_rotary_factor=0.5))),
    "ernie-plain": (Ernie4_5_MoeForCausalLM, Ernie4_5_MoeConfig, dict(ERNIE, tie_word_embeddings=False, even=True)),
    "ernie-tied": (Ernie4_5_MoeForCausalLM, Ernie4_5_MoeConfig, dict(
        ERNIE, num_hidden_layers=4, moe_layer_start_index=1, moe_layer_end_index=2, moe_layer_interval=2, num_key_value_heads=1, moe_num_experts=7,
        moe_k=3, moe_num_shared_experts=1)),
    "ernie-alone": (Ernie4_5_MoeForCausalLM, Ernie4_5_MoeConfig, dict(
        ERNIE, num_hidden_layers=2, moe_layer_start_index=0, moe_num_shared_experts=0, head_dim=10, moe_norm_min=0.6, num_key_value_heads=4, old="type",
        rope=dict(rope_type="linear", rope_theta=1000.0, factor=2.0))),
    "deepseek3-groups": (DeepseekV3ForCausalLM, DeepseekV3Config, dict(
        LATENT, n_group=3, topk_group=2, first_k_dense_replace=1, n_shared_experts=2, routed_scaling_factor=2.5, attention_bias=True, old="type",
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=16, beta_fast=32, beta_slow=1, mscale=1.0,
                  mscale_all_dim=0.7))),
    "deepseek3-moonlight": (DeepseekV3ForCausalLM, DeepseekV3Config, dict(
        LATENT, q_lora_rank=None, num_hidden_layers=3, first_k_dense_replace=1, n_shared_experts=1, routed_scaling_factor=2.446, rms_norm_eps=1e-5,
        rope=dict(rope_type="default", rope_theta=50000.0))),
    "deepseek3-halves": (DeepseekV3ForCausalLM, DeepseekV3Config, dict(
        LATENT, v_head_dim=13, n_group=2, topk_group=1, first_k_dense_replace=0, norm_topk_prob=False, rope_interleave=False, tie_word_embeddings=True)),
    "deepseek3-fp8": (DeepseekV3ForCausalLM, DeepseekV3Config, dict(
        LATENT, n_group=2, topk_group=1, first_k_dense_replace=1, fp8=(8, 16), rope=dict(rope_type="default", rope_theta=10000.0))),
    "deepseek2-lite": (DeepseekV2ForCausalLM, DeepseekV2Config, dict(
        LATENT, q_lora_rank=None, first_k_dense_replace=1, topk_method="greedy", n_group=None, topk_group=None, old="type",
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=40.0, original_max_position_embeddings=16, beta_fast=32, beta_slow=1, mscale=0.707,
                  mscale_all_dim=0.707))),
    "deepseek2-groups": (DeepseekV2ForCausalLM, DeepseekV2Config, dict(
        LATENT, topk_method="group_limited_greedy", n_group=3, topk_group=2, num_experts_per_tok=3, n_shared_experts=1, routed_scaling_factor=3.0,
        v_head_dim=10)),
    "deepseek2-biased": (DeepseekV2ForCausalLM, DeepseekV2Config, dict(
        LATENT, attention_bias=True, num_attention_heads=3, num_key_value_heads=3, first_k_dense_replace=2, num_hidden_layers=3, tie_word_embeddings=True)),
    "glmlite-plain": (Glm4MoeLiteForCausalLM, Glm4MoeLiteConfig, dict(LATENT, v_head_dim=10, rms_norm_eps=1e-3)),
    "glmlite-types": (Glm4MoeLiteForCausalLM, Glm4MoeLiteConfig, dict(
        LATENT, num_hidden_layers=3, mlp_layer_types=["sparse", "dense", "sparse"], n_group=2, topk_group=1, attention_bias=True, num_attention_heads=5,
        num_key_value_heads=5, rope=dict(rope_type="linear", rope_theta=1e6, factor=2.0))),
    "glmlite-bare": (Glm4MoeLiteForCausalLM, Glm4MoeLiteConfig, dict(
        LATENT, q_lora_rank=None, mlp_layer_types=["sparse", "sparse"], n_shared_experts=3, num_experts_per_tok=1, norm_topk_prob=False, tie_word_embeddings=True, old="rope_type",
        rope=dict(rope_type="default", rope_theta=1e6))),
    # Limits that are reached; windows shorter than the text.
    "gptoss-plain": (GptOssForCausalLM, GptOssConfig, dict(GPT_OSS, sliding_window=5, swiglu_limit=0.5)),
    "gptoss-heads": (GptOssForCausalLM, GptOssConfig, dict(
        GPT_OSS, num_hidden_layers=3, layer_types=["full_attention", "sliding_attention", "sliding_attention"], sliding_window=8, num_attention_heads=6,
        num_key_value_heads=2, num_experts_per_tok=3, swiglu_limit=0.3, swiglu_alpha=1.1, old="rope_type",
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=8.0, original_max_position_embeddings=16, beta_fast=32.0, beta_slow=1.0, truncate=False))),
    "gptoss-bare": (GptOssForCausalLM, GptOssConfig, dict(
        GPT_OSS, intermediate_size=12, num_attention_heads=3, num_key_value_heads=3, num_experts_per_tok=4, attention_bias=False, sliding_window=2,
        tie_word_embeddings=True, rope=dict(rope_type="default", rope_theta=10000.0))),
    # As it is released: experts in MXFP4, the rest in bfloat16.
    "gptoss-mxfp4": (GptOssForCausalLM, GptOssConfig, dict(
        GPT_OSS, hidden_size=32, intermediate_size=32, num_local_experts=3, sliding_window=6, mxfp4=True, old="rope_type",
        rope=dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096, beta_fast=32.0, beta_slow=1.0, truncate=False))),
    "next-plain": (Qwen3NextForCausalLM, Qwen3NextConfig, DELTA),
    "next-dense": (Qwen3NextForCausalLM, Qwen3NextConfig, dict(
        DELTA, num_hidden_layers=3, layer_types=["full_attention", "linear_attention", "linear_attention"], mlp_only_layers=[1], linear_num_key_heads=3,
        linear_num_value_heads=3, linear_value_head_dim=8, linear_conv_kernel_dim=3, norm_topk_prob=False, attention_bias=True, tie_word_embeddings=True,
        rms_norm_eps=1e-2, initializer_range=0.2, head_dim=12, old="type", rope=dict(rope_type="linear", rope_theta=1000.0, factor=2.0, partial_rotary_factor=0.5))),
    "next-shared": (Qwen3NextForCausalLM, Qwen3NextConfig, dict(
        DELTA, linear_num_key_heads=1, linear_num_value_heads=5, linear_conv_kernel_dim=2, rms_norm_eps=1e-3,
        num_attention_heads=3, num_key_value_heads=1, num_experts_per_tok=3,
        rope=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, original_max_position_embeddings=16, partial_rotary_factor=1.0))),
    "qwen35-plain": (Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig, dict(
        {key: value for key, value in DELTA.items() if key != "intermediate_size"}, initializer_range=0.2)),  # above float32's noise, as A_log is
    "qwen35-tied": (Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig, dict(
        DELTA, layer_types=["full_attention", "linear_attention"], linear_num_value_heads=6, linear_key_head_dim=3,
        tie_word_embeddings=True, rms_norm_eps=1e-3, head_dim=12, num_key_value_heads=4, initializer_range=0.2,  # likewise
        rope=dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.5, mrope_section=[2, 2, 2], mrope_interleaved=True))),
    "qwen35-seeing": (Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig, dict(
        text_config=dict(DELTA, linear_num_value_heads=2, linear_conv_kernel_dim=5,
                         attention_bias=True, num_experts_per_tok=3, rms_norm_eps=1e-3, initializer_range=0.2),
        vision_config=dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, out_hidden_size=24, num_position_embeddings=16, patch_size=2))),
    "qwen35-fp8": (Qwen3_5MoeForConditionalGeneration, Qwen3_5MoeConfig, dict(
        text_config=dict(DELTA, num_experts=4, layer_types=["linear_attention", "full_attention"], rms_norm_eps=1e-3, initializer_range=0.2), fp8=(8, 16),
        vision_config=dict(depth=1, hidden_size=8, intermediate_size=8, num_heads=2, out_hidden_size=24, num_position_embeddings=16, patch_size=2))),
    "olmoe-short": (OlmoeForCausalLM, OlmoeConfig, dict(
        OLMOE, old="rope_type", rope=dict(rope_type="longrope", rope_theta=10000.0, factor=4.0, short_factor=[1.0, 1.2, 1.6],
                                          long_factor=[1.5, 2.5, 4.0], original_max_position_embeddings=TOKENS))),
}


def our_name(key):
    """Ours are those of Qwen, in every family."""
    return key.replace("block_sparse_moe.router", "mlp.gate").replace("mlp.router", "mlp.gate").replace("block_sparse_moe", "mlp")


def our_form(model, key, gradient):
    """Experts of gpt-oss lie as [in, out], gate and up by columns in turn: ours as [out, in], gate before up."""
    if model.config.model_type == "gpt_oss" and ".experts." in key:
        if gradient.dim() == 3:
            gradient = gradient.transpose(1, 2)
        if "gate_up" in key:
            gradient = torch.cat([gradient[:, ::2], gradient[:, 1::2]], 1)
    return gradient.contiguous()


def trained(model):
    """Without corrections of the choice, which ERNIE has among its parameters, and towers, which have no gradient."""
    return [(key, parameter) for key, parameter in model.named_parameters() if not key.endswith("e_score_correction_bias") and ".visual." not in key]


def tokens(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, EVERY["vocab_size"], (1, count), generator=generator)


def logits_and_loss(model):
    ids = tokens(TOKENS, 1)
    return model(input_ids=ids, labels=ids)


def write_case(name):
    make_model, make_config, settings = CASES[name]
    settings = dict(settings)
    old, rope, even = settings.pop("old", None), settings.pop("rope", None), settings.pop("even", False)
    fp8, mxfp4 = settings.pop("fp8", None), settings.pop("mxfp4", False)
    torch.manual_seed(7)
    model = make_model(make_config(**settings, **({"rope_parameters": rope} if rope else {}))).float()
    with torch.no_grad():  # biases and norms start at 0 and 1: give them values that matter
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1 or key.endswith("proj_bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
        for key, tensor in model.state_dict().items():
            if key.endswith("A_log"):  # decays of many tokens: outputs next to 0, normalised, are noise in float32
                tensor.copy_(torch.randn_like(tensor) * 0.5 - 1.5)
            if key.endswith("e_score_correction_bias"):
                tensor.copy_(torch.randn_like(tensor) * (0.0 if even else 0.1))
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if mxfp4:
        write_mxfp4(model, folder)
    if old:
        write_old_dialect(folder / "config.json", old)
    packed = decode_fp8(folder, fp8) if fp8 else None
    if fp8:
        model = make_model.from_pretrained(folder, dtype=torch.float32)
    out = logits_and_loss(model)
    out.loss.backward()
    golden = {"input_ids": tokens(TOKENS, 1)[0], "logits": out.logits[0].detach(), "loss": out.loss.detach()}
    for key, parameter in trained(model):
        golden[f"grad.{our_name(key)}"] = our_form(model, key, parameter.grad)
    decoding = dict(quantization_config=Mxfp4Config(dequantize=True)) if mxfp4 else {}
    reloaded = make_model.from_pretrained(folder, dtype=torch.float32, **decoding)
    assert torch.equal(logits_and_loss(reloaded).logits[0], golden["logits"]), f"{name}: transformers reads its folder as another model"
    if name in ROUTED:
        write_router_losses(folder, make_model)
    if name in TRAINED:
        golden["adamw_losses"] = torch.tensor(train(reloaded)[0])
        reloaded = make_model.from_pretrained(folder, dtype=torch.float32)
        golden["clipped_losses"], golden["clipped_norms"] = map(torch.tensor, train(reloaded, MAX_NORM))
    save_file(golden, folder / "golden.safetensors", metadata={"transformers": transformers.__version__, "torch": torch.__version__})
    if fp8:
        write_fp8(folder, packed, fp8)


def decode_fp8(folder, block):
    """Rounds a folder's matrices, but for embedding, head and routers, to what FP8 blocks hold; returns these and what else there is."""
    path = folder / "model.safetensors"
    tensors, packed = load_file(path), {}
    for name, tensor in tensors.items():
        packed[name] = tensor
        if not re.search(r"_proj(_with_mqa|_qkv|_z)?\.weight$", name):
            continue
        rows, columns = block
        grid = -(-tensor.shape[0] // rows), -(-tensor.shape[1] // columns)
        padded = torch.zeros(grid[0] * rows, grid[1] * columns)
        padded[:tensor.shape[0], :tensor.shape[1]] = tensor
        scales = padded.reshape(grid[0], rows, grid[1], columns).abs().amax((1, 3)) / 448
        wide = scales.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:tensor.shape[0], :tensor.shape[1]]
        packed[name] = (tensor / wide).to(torch.float8_e4m3fn)
        packed[f"{name}_scale_inv"] = scales
        tensors[name] = packed[name].float() * wide
    save_file(tensors, path, metadata={"format": "pt"})
    return packed


def write_fp8(folder, packed, block):
    """As DeepSeek-V3 and Qwen3.5 are released, with a matrix of a layer that predicts further tokens."""
    config = json.loads((folder / "config.json").read_text())
    further = "mtp" if "text_config" in config else f"model.layers.{config['num_hidden_layers']}"
    name = next(name for name in packed if name.endswith("o_proj.weight"))
    for part in ("", "_scale_inv"):
        packed[f"{further}.eh_proj.weight{part}"] = packed[name + part].clone()
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    config["quantization_config"] = {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": list(block)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_mxfp4(model, folder):
    """Gives the model weights that MXFP4 and bfloat16 hold, and writes them so."""
    draw, written = torch.Generator().manual_seed(9), {}
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() < 3:
                written[key] = parameter.to(torch.bfloat16)
                parameter.copy_(written[key])
                continue
            experts, inner, outer = parameter.shape
            blocks = torch.randint(0, 256, (experts, outer, inner // 32, 16), generator=draw, dtype=torch.uint8)
            scales = torch.randint(121, 125, (experts, outer, inner // 32), generator=draw, dtype=torch.uint8)
            written[f"{key}_blocks"], written[f"{key}_scales"] = blocks, scales
            parameter.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16))
    save_file(written, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "bfloat16"
    config["quantization_config"] = {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
                                     "quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_router_losses(folder, make_model):
    """pooled: transformers' own auxiliary loss, in float32. layer, z: the equations in float64, by autograd. Rows are padded
    on the right, so that the figures hold for the same rows without padding."""
    ids = torch.zeros(len(ROW_LENGTHS), max(ROW_LENGTHS), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(ROW_LENGTHS):
        ids[row, :length] = tokens(length, 10 + row)[0].clamp(min=2)  # 1 is OLMoE's padding, whose embedding has no gradient
        mask[row, :length] = 1
    batch = dict(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100), output_router_logits=True)
    golden = {"input_ids": ids[mask == 1], "row_lengths": torch.tensor(ROW_LENGTHS),
              "coefficients": torch.tensor([AUX_COEF, LAYER_COEF, Z_COEF], dtype=torch.float64)}

    def note(kind, loss):
        model.zero_grad()
        loss.backward()
        golden[f"{kind}.loss"] = loss.detach().clone()
        for key, parameter in trained(model):
            golden[f"{kind}.grad.{our_name(key)}"] = our_form(model, key, parameter.grad.to(torch.float32, copy=True))

    model = make_model.from_pretrained(folder, dtype=torch.float32, experts_implementation="eager")  # others have no float64
    set_aux_coefficient(model, AUX_COEF)
    out = model(**batch)
    golden["pooled.aux"] = out.aux_loss.detach()
    note("pooled", out.loss)

    model = model.double()
    set_aux_coefficient(model, 0.0)
    out = model(**batch)
    # The mask picks the tokens that are there; choices are those of the raw logits.
    logits = [z.reshape(-1, z.shape[-1])[mask.reshape(-1) == 1] for z in out.router_logits]
    experts, choices = logits[0].shape[-1], model.config.get_text_config().num_experts_per_tok
    probabilities = [z.softmax(-1) for z in logits]
    shares = [torch.nn.functional.one_hot(p.topk(choices, -1).indices, experts).sum(1).double().mean(0) for p in probabilities]
    pooled = experts * (torch.stack(shares).mean(0) * torch.cat(probabilities).mean(0)).sum()
    assert torch.allclose(pooled, golden["pooled.aux"].double(), rtol=1e-6), "transformers' auxiliary loss is not that of the raw logits"
    layer = torch.stack([experts / choices * (f * p.mean(0)).sum() for f, p in zip(shares, probabilities)]).mean()
    z = torch.stack([(z.logsumexp(-1) ** 2).mean() for z in logits]).mean()
    golden["layer.aux"], golden["layer.z"] = layer.detach(), z.detach()
    note("layer", out.loss + LAYER_COEF * layer + Z_COEF * z)
    model.float()
    save_file(golden, folder / "router.safetensors", metadata={"transformers": transformers.__version__, "torch": torch.__version__})


def set_aux_coefficient(model, value):
    """A model that sees asks its settings, the others themselves."""
    model.router_aux_loss_coef = model.config.get_text_config().router_aux_loss_coef = value


def write_old_dialect(path, type_key):
    """As files from before transformers 5 say it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = {type_key: rope.pop("rope_type"), **rope}
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2) + "\n")


def train(model, max_norm=None):
    """Losses and norms before each of ten steps of torch's AdamW on the same tokens."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses, norms = [], []
    for _ in range(10):
        loss = logits_and_loss(model).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm or math.inf).item())
        optimizer.step()
    return losses, norms


def write_store_run():
    folder = HERE / "store-run"
    shutil.rmtree(folder, ignore_errors=True)
    work = ROOT / "build" / "golden"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    source = work / "model"
    shutil.copytree(HERE / "hf-tiny", source)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(HERE / "letters" / file, source)
    rows = [{"text": "abcdefgh" * (i + 1)} for i in range(6)]
    (work / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    subprocess.run(
        ["node", "dist/cli.js", "train", "--model", str(source), "--train-file", str(work / "train.jsonl"), "--output-dir", str(work / "run"),
         "--method", "store", "--coupling", "ordinary", "--max-steps", "5", "--learning-rate", "1e-2", "--max-length", "32", "--threads", "1"],
        check=True, cwd=ROOT)
    shutil.copytree(work / "run" / "final", folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokens(29, 2)
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0]
    save_file({"input_ids": ids[0], "logits": logits.contiguous()}, folder / "golden.safetensors",
              metadata={"transformers": transformers.__version__, "torch": torch.__version__})


wanted = sys.argv[1:]
for case in CASES:
    if not wanted or any(case.startswith(prefix) for prefix in wanted):
        write_case(case)
if not wanted or "store-run" in wanted:
    write_store_run()
