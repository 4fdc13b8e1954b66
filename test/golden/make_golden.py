"""Makes the golden files that the tests read: what Hugging Face transformers computes for models of ours.

    npm run setup
    pip install torch transformers safetensors
    python3 test/golden/make_golden.py

hf-*/       tiny random models made by transformers: weights, tokens, logits, loss and every gradient (float32)
store-run/  a run of `revmoe train --method store` from hf-tiny; transformers loads its final/ and gives the logits
"""
import json
import pathlib
import shutil
import subprocess

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Qwen2MoeConfig, Qwen2MoeForCausalLM

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
SMALL = dict(
    vocab_size=80, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40,
    moe_intermediate_size=12, shared_expert_intermediate_size=20, num_experts=6, num_experts_per_tok=2, initializer_range=0.3,
    max_position_embeddings=64, rope_theta=10000.0,
)
CASES = {
    "hf-tiny": dict(mlp_only_layers=[1], norm_topk_prob=False, tie_word_embeddings=False),
    "hf-tied": dict(decoder_sparse_step=2, norm_topk_prob=True, tie_word_embeddings=True),
}


def tokens(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, SMALL["vocab_size"], (1, count), generator=generator)


def write_case(name, overrides):
    torch.manual_seed(7)
    model = Qwen2MoeForCausalLM(Qwen2MoeConfig(**SMALL, **overrides)).float()
    with torch.no_grad():  # biases and norms start at 0 and 1: give them values that matter
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    ids = tokens(33, 1)
    out = model(input_ids=ids, labels=ids)
    out.loss.backward()
    golden = {"input_ids": ids[0], "logits": out.logits[0].detach(), "loss": out.loss.detach()}
    for key, parameter in model.named_parameters():
        golden[f"grad.{key}"] = parameter.grad.contiguous()
    save_file(golden, folder / "golden.safetensors", metadata={"transformers": transformers.__version__, "torch": torch.__version__})


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


for case, settings in CASES.items():
    write_case(case, settings)
write_store_run()
