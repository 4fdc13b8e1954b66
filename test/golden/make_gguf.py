"""Makes the GGUF files that the tests read, with gguf-py, which llama.cpp's own converter writes with.

    pip install torch transformers safetensors tokenizers gguf
    python3 test/golden/make_gguf.py

gguf/types.gguf      a tensor of every type that we read, from random blocks; types.safetensors has what gguf-py makes of them
gguf/NAME.gguf       the model of test/golden/NAME in bfloat16, converted as convert_hf_to_gguf.py does
gguf/dense-*.gguf    tiny dense models by transformers; dense-*.safetensors has their weights
gguf/bpe.gguf, spm.gguf
                     tokenizers alone; tokens.json has what `tokenizers` and transformers make of texts with them
"""
import json
import math
import pathlib

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

HERE = pathlib.Path(__file__).parent
OUT = HERE / "gguf"
ARCHITECTURES = {"qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "mixtral": "llama", "olmoe": "olmoe", "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_types():
    rng = np.random.default_rng(7)
    half = lambda *shape: (rng.standard_normal(shape) * 2.0 ** rng.integers(-26, 4, shape)).astype(np.float16)
    writer, expected = gguf.GGUFWriter(OUT / "types.gguf", "llama"), {}
    for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]:
        kind = Type[name]
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        rows, row_blocks = 2, 256 // elements
        if kind in (Type.F32, Type.F16):
            data = half(rows, 256).astype(np.float32 if kind == Type.F32 else np.float16)
        else:
            blocks = rng.integers(0, 256, (rows * row_blocks, size), dtype=np.uint8)
            if kind == Type.BF16:
                blocks = (half(rows * 256, 1).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
            else:
                at = 208 if kind == Type.Q6_K else 0
                for field in range(2 if kind in (Type.Q4_1, Type.Q5_1, Type.Q4_K, Type.Q5_K) else 1):
                    blocks[:, at + 2 * field:at + 2 * field + 2] = half(len(blocks), 1).view(np.uint8)
            data = blocks.reshape(rows, row_blocks * size)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=kind)
        expected[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(gguf.dequantize(data, kind), dtype=np.float32).reshape(rows, 256))
    finish(writer)
    save_file(expected, OUT / "types.safetensors", metadata={"gguf": "0.19.0"})


def interleave(weight, heads):
    """llama.cpp's order of the rows of queries and keys: neighbouring features are turned together."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def convert(name, config, weights, kind, tokenizer=None):
    architecture = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", architecture)
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    rope = {"rope_type": "default", **(config.get("rope_parameters") or config.get("rope_scaling") or {})}
    rope["rope_type"] = rope.get("type", rope["rope_type"])
    experts = config.get("num_experts") or config.get("num_local_experts")
    writer.add_name(name)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(rope.get("rope_theta") or config["rope_theta"])
    if config.get("head_dim"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture == "llama":
        writer.add_rope_dimension_count(head_dim)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_dim))
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        if "norm_topk_prob" in config:
            writer.add_expert_weights_norm(config["norm_topk_prob"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if tokenizer:
        tokenizer(writer)
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config["num_hidden_layers"])
    usual = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for key, weight in stacked(weights, experts).items():
        stem, suffix = key.rsplit(".", 1)
        weight = weight.float().numpy()
        if architecture == "llama" and ("q_proj" in key or "k_proj" in key):
            weight = interleave(weight, heads if "q_proj" in key else kv_heads)
        # The converter squeezes the gate of the shared expert to a vector.
        weight = np.ascontiguousarray(weight.squeeze())
        stored = Type.F32 if weight.ndim == 1 or "mlp.gate." in key or "block_sparse_moe.gate." in key else kind
        # llama.cpp knows no dense layers among those of qwen2moe; they are called as everywhere.
        writer.add_tensor(f"{names.get_name(stem) or usual.get_name(stem)}.{suffix}", gguf.quantize(weight, stored), raw_dtype=stored)
    finish(writer)


def stacked(weights, experts):
    """One tensor for the same matrix of all experts of a layer."""
    merged = {}
    for key, weight in weights.items():
        if ".experts." not in key:
            merged[key] = weight
            continue
        prefix, rest = key.split(".experts.")
        expert, part = rest.split(".", 1)
        merged.setdefault(f"{prefix}.experts.{part}", [None] * experts)[int(expert)] = weight
    return {key: torch.stack(weight) if isinstance(weight, list) else weight for key, weight in merged.items()}


def llama3_factors(rope, head_dim):
    factors = []
    for i in range(0, head_dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        low, high, positions = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
        smooth = (positions / wavelength - low) / (high - low)
        factors.append(1 if smooth >= 1 else rope["factor"] if smooth <= 0 else 1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def make_models():
    for name in ["hf-tiny", "qwen3-plain", "mixtral-window", "olmoe-plain"]:
        config = json.loads((HERE / name / "config.json").read_text())
        convert(name, config, load_file(HERE / name / "model.safetensors"), Type.BF16, letters if name == "mixtral-window" else None)
    every = dict(vocab_size=16, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
                 max_position_embeddings=64, initializer_range=0.3)
    llama3 = dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=16)
    for name, config in {
        "dense-llama": LlamaConfig(**every, head_dim=8, rope_parameters=llama3, tie_word_embeddings=True, attention_bias=True),
        "dense-qwen2": Qwen2Config(**every, rope_parameters=yarn, tie_word_embeddings=False),
        "dense-qwen3": Qwen3Config(**every, head_dim=8, tie_word_embeddings=True),
    }.items():
        torch.manual_seed(5)
        model = {"llama": LlamaForCausalLM, "qwen2": Qwen2ForCausalLM, "qwen3": Qwen3ForCausalLM}[config.model_type](config)
        for each in model.parameters():
            torch.nn.init.normal_(each, 0, 0.3)
        weights = {key: value for key, value in model.state_dict().items() if key != "lm_head.weight" or not config.tie_word_embeddings}
        convert(name, config.to_dict(), weights, Type.F16)
        save_file({key: value.half().float() if value.ndim > 1 else value for key, value in weights.items()}, OUT / f"{name}.safetensors")


def sentencepiece(writer, pieces, byte_pieces=True):
    tokens = ["<unk>", "<s>", "</s>"] + ([f"<0x{byte:02X}>" for byte in range(256)] if byte_pieces else []) + pieces
    kinds = [2, 3, 3] + ([6] * 256 if byte_pieces else []) + [1] * len(pieces)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * (len(tokens) - len(pieces)) + [-float(i) for i in range(len(pieces))])
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return tokens


def letters(writer):
    """80 tokens, as many as the tiny models have."""
    words = ["\u2581t", "he", "\u2581the", "in", "er"]
    sentencepiece(writer, words + ["\u2581", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXY.,!?:;'-0123456789\n"][:77 - len(words)], byte_pieces=False)


TEXTS = ["Hello world! 123 4567890", "  leading", "trailing  ", "a\tb\n\nc\r\nd", "   \n  \n x", "don't I'LL we've", "na\u00efve caf\u00e9 \u00dcn\u00efc\u00f6d\u00e9",
         "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439, \u0451\u0436", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0661\u0662\u0663",
         "\U0001f642\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308", "e\u0301 vs \u00e9", "\u00a0nbsp\u2003em", "def f(x):\n    return x**2 + 3.14e-5  # ok\n",
         "for (let i=0;i<10;i++){a[i]=`${i}`;}", "<|im_start|>user\nhi<|im_end|>\n", "x <|im_end|>  y", "", "\n", " ", "\u2211\u222b \u00bd \u2167 \u00b2 \uff11\uff12",
         "zero\u200bwidth", "...!!!???//\n", "McDonald's iPhone15Pro", "tab\t\t\tend", "\u0928\u092e\u0938\u094d\u0924\u0947", "<s> a</s>b", "\u2581under"]
CORPUS = [text for text in TEXTS for _ in range(3)] + (HERE.parent.parent / "LICENSE").read_text().split("\n")

GPT2 = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
CUT = lambda pattern: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# As in the tokenizer.json of GPT-2, OLMo, SmolLM2, Llama 3, Qwen2 and Mistral-Nemo; the last as llama.cpp's default.
CUTS = {
    "gpt-2": (None, GPT2),
    "olmo": (normalizers.NFC(), GPT2),
    "smollm": (None, lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2()])),
    "llama-bpe": (None, lambda: CUT(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + REST)),
    "qwen2": (normalizers.NFC(), lambda: CUT(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + REST)),
    "tekken": (None, lambda: CUT(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")),
    "default": (None, lambda: pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\p{P}$+<=>^~|]+"), "isolated"), GPT2(),
        pre_tokenizers.Split(Regex(r"\p{N}+"), "isolated"), pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")])),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_byte_level(ids):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = CUTS["llama-bpe"][1]()
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=620, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    for name, (normalizer, cut) in CUTS.items():
        again = Tokenizer(models.BPE(model["vocab"], [tuple(merge) for merge in model["merges"]], ignore_merges=name in ("llama-bpe", "tekken")))
        again.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
        if normalizer:
            again.normalizer = normalizer
        again.pre_tokenizer = cut()
        again.decoder = decoders.ByteLevel()
        ids[name] = [again.encode(text, add_special_tokens=False).ids for text in TEXTS]
        write_byte_level(tokens, model["merges"], name, OUT / "bpe.gguf")
        if name in ("gpt-2", "llama-bpe", "tekken"):
            compare(name, ids[name])
    write_byte_level(tokens, model["merges"], "gpt-2", OUT / "bpe.gguf")


def write_byte_level(tokens, merges, pre, path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")
    finish(writer)


def make_sentencepiece(ids):
    spaces = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trained = Tokenizer(models.BPE())
    trained.normalizer = spaces
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    # Other letters than these fall back to bytes.
    latin = [text for text in CORPUS if text.isascii() and "<s>" not in text]
    trained.train_from_iterator(latin, trainers.BpeTrainer(vocab_size=420, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    # SentencePiece has joined pieces first, in the order they were joined, and single characters behind.
    pieces = sorted(model["vocab"], key=lambda token: (len(token) == 1, model["vocab"][token]))
    writer = gguf.GGUFWriter(OUT / "spm.gguf", "llama")
    sentencepiece(writer, pieces)
    finish(writer)
    # The legacy form of LlamaTokenizer, with transformers' own derivation of the merges.
    ours = AutoTokenizer.from_pretrained(OUT, gguf_file="spm.gguf").backend_tokenizer
    ours.normalizer, ours.pre_tokenizer = spaces, pre_tokenizers.Sequence([])
    ids["llama"] = [ours.encode(text, add_special_tokens=False).ids for text in TEXTS]


def compare(name, expected):
    """transformers' reading of the file just written, where it knows the pattern."""
    theirs = AutoTokenizer.from_pretrained(OUT, gguf_file="bpe.gguf")
    found = [theirs.encode(text, add_special_tokens=False) for text in TEXTS]
    different = [text for text, a, b in zip(TEXTS, found, expected) if a != b]
    print(f"{name}: transformers reads {len(TEXTS) - len(different)} of {len(TEXTS)} texts as expected; otherwise: {different}")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    make_types()
    make_models()
    ids = {}
    make_byte_level(ids)
    make_sentencepiece(ids)
    (OUT / "tokens.json").write_text(json.dumps({"texts": TEXTS, "ids": ids}, separators=(",", ":")) + "\n")
