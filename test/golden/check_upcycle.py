"""Upcycles the dense golden models, loads the results in Hugging Face transformers and compares their logits, in float32,
with those that transformers computed for the dense ones. Runs with transformers 4 and 5.

    npm run setup
    python3 test/golden/check_upcycle.py                 # every golden model, with whole copies and with slices
    python3 test/golden/check_upcycle.py DENSE MOE       # a dense folder, and what `revmoe upcycle` made of it

Exits with 1 on a difference, or when a tensor or key is missing or left over.
"""
import pathlib
import shutil
import subprocess
import sys

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
TOLERANCE = 1e-5
CASES = [
    ("llama", []),
    ("smollm", []),
    ("mistral", []),
    ("qwen2", []),
    ("qwen3", []),
    ("qwen3-window", []),
    ("smollm", ["--to", "qwen2_moe"]),
    ("smollm", ["--decoder-sparse-step", "2"]),
    ("qwen3", ["--decoder-sparse-step", "2", "--num-experts", "5", "--experts-per-token", "3"]),
    ("qwen2", ["--expert-width", "12", "--num-experts", "12", "--experts-per-token", "3"]),
    ("mistral", ["--expert-width", "12", "--num-experts", "9", "--experts-per-token", "6"]),
]


def logits(folder, tokens):
    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    problems = {key: value for key, value in found.items() if value}
    assert not problems, f"{folder}: {problems}"
    with torch.no_grad():
        return model(input_ids=tokens[None]).logits[0]


def compare(label, expected, found):
    error = ((found - expected).norm() / expected.norm()).item()
    print(f"{label}: relative difference of logits {error:.1e}")
    return error < TOLERANCE


def check(name, words):
    folder = ROOT / "build" / "upcycled" / "-".join([name, *words]).replace("--", "")
    shutil.rmtree(folder, ignore_errors=True)
    command = ["node", "dist/cli.js", "upcycle", "--model", str(HERE / "dense" / name), "--output-dir", str(folder), "--router-std", "1", *words]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    golden = load_file(HERE / "dense" / name / "golden.safetensors")
    return compare(" ".join([name, *words]), golden["logits"], logits(folder, golden["input_ids"]))


def check_folders(dense, mixture):
    size = transformers.AutoConfig.from_pretrained(dense).vocab_size
    tokens = torch.randint(0, size, (256,), generator=torch.Generator().manual_seed(3))
    return compare(f"{dense} and {mixture}", logits(dense, tokens), logits(mixture, tokens))


transformers.logging.disable_progress_bar()
print(f"transformers {transformers.__version__}, torch {torch.__version__}")
good = [check_folders(*sys.argv[1:])] if len(sys.argv) == 3 else [check(*case) for case in CASES]
sys.exit(0 if all(good) else 1)
