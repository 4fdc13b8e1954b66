"""Loads folders of `revmoe export --as trained` in Hugging Face transformers with trust_remote_code, and compares with ours.

    npm run setup
    python3 test/golden/check_export_trained.py                 # the golden models as every coupling
    python3 test/golden/check_export_trained.py FOLDER...       # folders that were exported

Compared in float32: the logits of 33 tokens, the loss, and 16 greedy tokens with a key/value cache and, unless rotation depends
on the length, without. That the network is another one than the ordinary is checked, too, that gradients
reach every weight, and that a model that sees takes pictures. Runs in transformers 4.57 and 5. Exits
with 1 on a difference. Rounding to the grid can turn a difference in the last bit of a float into a whole unit of it, so networks
on the grid agree less closely than those on float streams.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
MODELS = ["hf-tiny", "hf-tied", "qwen3-wide", "qwen3-window", "mixtral-plain", "mixtral-window", "olmoe-plain", "olmoe-clip",
          "granite-plain", "glm4-plain", "glm4-groups", "dots-windows", "solar-groups", "minimax-partial", "ernie-tied",
          "deepseek3-groups", "deepseek2-lite", "glmlite-types", "gptoss-plain", "gptoss-heads", "gptoss-bare",
          "next-dense", "next-shared", "qwen35-tied", "qwen35-seeing"]
# Transformers 4 computes another network of these, see check_export.py.
OTHER_IN_4 = {"deepseek2-lite", "gptoss-plain", "gptoss-heads"}
GRID = {"stream": "int32", "streamFractionBits": 16}
WIDE = {"stream": "int64", "streamFractionBits": 32}
FLOAT = {"stream": "float32"}
NETWORKS = [
    *({"coupling": "momentum", "gamma": gamma, **GRID} for gamma in (0.5, 0.25, -0.125, -1)),
    {"coupling": "momentum", "gamma": -0.5, **FLOAT},
    {"coupling": "momentum", "gamma": 0.25, **WIDE},
    {"coupling": "momentum", "gamma": -0.25, **GRID, "blocksPerStep": 2},
    {"coupling": "momentum", "gamma": -1, **GRID, "ordinaryFirst": 1},
    {"coupling": "additive", **GRID},
    {"coupling": "additive", **FLOAT, "ordinaryFirst": 1, "ordinaryLast": 1},
    {"coupling": "revffn", "adapters": "layer", **GRID},
    {"coupling": "revffn", "adapters": "stream", **FLOAT, "ordinaryLast": 1},
]
TOLERANCE = {"float32": 1e-5, "int64": 1e-5, "int32": 1e-4}
torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def node(*words):
    return subprocess.run(["node", *map(str, words)], check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout


def export(name, network):
    folder = ROOT / "build" / "exported" / transformers.__version__
    made, to = folder / "trained-source", folder / "trained"
    for each in (made, to):
        shutil.rmtree(each, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    node("test/golden/trained.mjs", "make", HERE / name, json.dumps(network), made)
    node("dist/cli.js", "export", "--model", made, "--output-dir", to, "--as", "trained", "--max-shard-bytes", "30KB")
    return to


def is_known(name):
    left_out = "another network in transformers 4" if transformers.__version__.startswith("4.") and name in OTHER_IN_4 else None
    if (family := json.loads((HERE / name / "config.json").read_text())["model_type"]) not in CONFIG_MAPPING:
        left_out = f"this transformers does not know {family}"
    if left_out:
        print(f"{name:15} left out: {left_out}")
    return left_out is None


def leaves_blocks(name, network):
    config = json.loads((HERE / name / "config.json").read_text())
    blocks = config.get("text_config", config)["num_hidden_layers"]
    return blocks > network.get("ordinaryFirst", 0) + network.get("ordinaryLast", 0)


def norm_difference(a, b):
    return ((a - b).norm() / b.norm()).item()


def check(folder):
    network = json.loads((folder / "revmoe.json").read_text())
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    assert config.revmoe == network, f"{config.revmoe} is not {network}"
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, output_loading_info=True, trust_remote_code=True)
    problems = {key: value for key, value in found.items() if value}
    assert not problems, f"{folder}: {problems}"
    text = config.get_text_config()
    tokens = torch.randint(0, text.vocab_size, (33,), generator=torch.Generator().manual_seed(3))
    count = 16
    ours = json.loads(node("test/golden/trained.mjs", "run", folder, ",".join(map(str, tokens.tolist())), count))
    logits = torch.tensor(ours["logits"])
    output = model(input_ids=tokens[None], labels=tokens[None])
    difference = norm_difference(output.logits[0].detach(), logits)
    loss = torch.nn.functional.cross_entropy(logits[:-1], tokens[1:])
    assert abs(output.loss.item() - loss.item()) < 1e-4, f"loss {output.loss.item()}, ours {loss.item()}"
    apart = norm_difference(torch.tensor(ours["ordinary"]), logits)
    blocks = text.num_hidden_layers - network.get("ordinaryFirst", 0) - network.get("ordinaryLast", 0)
    # Momentum that passes all blocks as one function is the ordinary network.
    assert apart > 10 * difference + 1e-4 or blocks <= network.get("blocksPerStep", 1), f"as the ordinary network: {apart}"
    output.loss.backward()
    # In transformers 4 an expert is a module of its own, and one that no token chose has none.
    single_experts = transformers.__version__.startswith("4.")
    reached = {name: p.grad is not None and torch.isfinite(p.grad).all().item() for name, p in model.named_parameters()
               if not (single_experts and ".experts." in name) and not name.endswith("e_score_correction_bias") and ".visual." not in name}
    assert all(reached.values()), f"no gradient: {[name for name, has in reached.items() if not has]}"
    rotary = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    # Where rotation depends on the length, cached keys keep that of their time: the two ways of generating differ, in transformers too.
    by_length = rotary.get("rope_type", rotary.get("type")) in ("dynamic", "longrope")
    for use_cache in (True,) if by_length else (True, False):
        made = model.generate(tokens[None, :8], attention_mask=torch.ones(1, 8, dtype=torch.long), max_new_tokens=count,
                              do_sample=False, use_cache=use_cache, eos_token_id=None, pad_token_id=0)[0, 8:].tolist()
        assert made == ours["generated"], f"cache {use_cache}: {made}, ours {ours['generated']}"
    return difference, apart, network["stream"]


def picture_logits(folder, **how):
    """Logits of 20 tokens, four of which are a picture's."""
    config = AutoConfig.from_pretrained(folder, **how)
    config.image_token_id = 79
    model = AutoModelForImageTextToText.from_pretrained(folder, config=config, torch_dtype=torch.float32, **how)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 79, (1, 20), generator=generator)
    ids[0, 5:9] = config.image_token_id
    patches = torch.randn(16, 24, generator=generator)
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=patches, image_grid_thw=torch.tensor([[1, 4, 4]]), mm_token_type_ids=(ids == 79).int()).logits


def check_pictures(name):
    """Momentum that passes all blocks as one function is the ordinary network, for pictures too."""
    config = json.loads((HERE / name / "config.json").read_text())
    network = {"coupling": "momentum", "gamma": -0.5, **FLOAT, "blocksPerStep": config["text_config"]["num_hidden_layers"]}
    return norm_difference(picture_logits(export(name, network), trust_remote_code=True), picture_logits(HERE / name))


print(f"transformers {transformers.__version__}, torch {torch.__version__}")
worst = dict.fromkeys(TOLERANCE, 0.0)
for folder, words in (
    ((pathlib.Path(folder), folder) for folder in sys.argv[1:])
    if len(sys.argv) > 1
    else ((export(name, network), f"{name:15} {json.dumps(network)}") for name in filter(is_known, MODELS) for network in NETWORKS if leaves_blocks(name, network))
):
    difference, apart, stream = check(folder)
    worst[stream] = max(worst[stream], difference)
    print(f"{words} {difference:.1e} (the ordinary network: {apart:.1e})", flush=True)
if len(sys.argv) == 1 and is_known("qwen35-seeing"):
    difference = check_pictures("qwen35-seeing")
    worst["float32"] = max(worst["float32"], difference)
    print(f"qwen35-seeing with a picture {difference:.1e}")
for stream, most in worst.items():
    print(f"{stream} streams: largest relative difference {most:.1e} (allowed {TOLERANCE[stream]:.0e})")
sys.exit(0 if all(most < TOLERANCE[stream] for stream, most in worst.items()) else 1)
