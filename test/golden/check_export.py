"""Loads exported folders in Hugging Face transformers and compares the logits with ours, in float32.

    npm run setup
    python3 test/golden/check_export.py                 # exports of the golden models: families, layouts, dtypes, shards
    python3 test/golden/check_export.py dots-plain ...  # only these of the golden models
    python3 test/golden/check_export.py FOLDER...       # folders that `revmoe export` wrote

transformers 5 reads both layouts, transformers 4 the per-expert one; run it once in an environment of each. What a transformers does
not know, or computes otherwise, is named and left out. Of the golden
models, the weights in transformers are also compared bit for bit between the layouts. Exits with 1 on a difference.
"""
import json
import pathlib
import shutil
import subprocess
import sys

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
OLD = int(transformers.__version__.split(".")[0]) < 5
# Of every family the plain model, and one whose rotary type, biases or tying show what config.json lost.
MODELS = ["hf-tiny", "hf-tied", "hf-odd", "qwen3-plain", "qwen3-wide", "qwen3-window", "mixtral-plain", "mixtral-yarn", "mixtral-window",
          "olmoe-plain", "olmoe-short", "olmoe-clip", "granite-plain", "granite-tied", "granite-odd", "glm4-plain", "glm4-groups", "glm4-tied",
          "dots-plain", "dots-windows", "dots-tied", "solar-plain", "solar-groups", "solar-tied",
          "minimax-plain", "minimax-partial", "minimax-tied", "ernie-plain", "ernie-tied", "ernie-alone",
          "deepseek3-groups", "deepseek3-moonlight", "deepseek3-halves", "deepseek3-fp8", "deepseek2-lite", "deepseek2-groups", "deepseek2-biased",
          "glmlite-plain", "glmlite-types", "glmlite-bare", "gptoss-plain", "gptoss-heads", "gptoss-bare", "gptoss-mxfp4",
          "next-plain", "next-dense", "next-shared", "qwen35-plain", "qwen35-tied", "qwen35-seeing"]
# What transformers 4 computes another network of, whoever wrote the file.
OTHER_IN_4 = {
    "olmoe-short": "the original length of a longrope block that states its factor comes from elsewhere",
    "deepseek2-lite": "mscale_all_dim is not read, so attention is not scaled by it",
    "gptoss-plain": "swiglu_limit is 7, whatever the file says",
    "gptoss-heads": "swiglu_limit and swiglu_alpha are 7 and 1.702, whatever the file says",
}
TOLERANCE = 1e-5
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def export(name, layout, dtype):
    folder = ROOT / "build" / "exported" / transformers.__version__ / f"{name}-{layout}-{dtype}"
    shutil.rmtree(folder, ignore_errors=True)
    command = ["node", "dist/cli.js", "export", "--model", str(HERE / name), "--output-dir", str(folder), "--layout", layout,
               "--dtype", dtype, "--max-shard-bytes", "30KB"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return folder


def ours(folder, tokens):
    words = ["node", "test/golden/logits.mjs", str(folder), ",".join(map(str, tokens))]
    return torch.tensor(json.loads(subprocess.run(words, check=True, cwd=ROOT, capture_output=True).stdout))


def check(folder):
    """Relative difference of the logits, and the weights that transformers holds."""
    packed = "quantization_config" in json.loads((folder / "config.json").read_text())
    decoding = dict(quantization_config=transformers.Mxfp4Config(dequantize=True)) if packed else {}
    model, found = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, output_loading_info=True, **decoding)
    # transformers passes over layers that predict further tokens by the number that they have in the released model.
    behind = f"model.layers.{model.config.num_hidden_layers}."
    found["unexpected_keys"] = [key for key in found["unexpected_keys"] if not key.startswith(behind)]
    model = model.float()  # transformers 4 decodes MXFP4 to bfloat16 alone
    problems = {key: value for key, value in found.items() if value}
    assert not problems, f"{folder}: {problems}"
    tokens = torch.randint(0, model.config.vocab_size, (33,), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        theirs = model(input_ids=tokens[None]).logits[0]
    difference = (ours(folder, tokens.tolist()) - theirs).norm() / theirs.norm()
    return difference.item(), model.state_dict()


def check_golden(names):
    worst = 0.0
    for name in names:
        if OLD and name in OTHER_IN_4:
            print(f"{name:16} left out, another network in transformers 4: {OTHER_IN_4[name]}")
            continue
        if (family := json.loads((HERE / name / "config.json").read_text())["model_type"]) not in CONFIG_MAPPING:
            print(f"{name:16} left out: this transformers does not know {family}")
            continue
        for dtype in ("float32", "bfloat16", "float16", "mxfp4") if name == "gptoss-mxfp4" else ("float32", "bfloat16", "float16"):
            weights = None
            for layout in ("per-expert",) if OLD else ("per-expert", "fused"):
                difference, state = check(export(name, layout, dtype))
                worst = max(worst, difference)
                print(f"{name:16} {layout:10} {dtype:8} {difference:.1e}", flush=True)
                if weights is not None:
                    assert weights.keys() == state.keys() and all(torch.equal(weights[key], state[key]) for key in state), f"{name}: layouts differ"
                weights = state
    return worst


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
wanted = sys.argv[1:]
worst = check_golden([name for name in wanted if name in MODELS] if wanted else MODELS)
for folder in wanted:
    if folder not in MODELS:
        difference, _ = check(pathlib.Path(folder))
        worst = max(worst, difference)
        print(f"{folder} {difference:.1e}")
print(f"largest relative difference {worst:.1e} (allowed {TOLERANCE:.0e})")
sys.exit(0 if worst < TOLERANCE else 1)
