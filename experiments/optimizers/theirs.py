"""Loss curves of published optimizers on the rows of ours.mjs, in PyTorch: python experiments/optimizers/theirs.py FOLDER
Reads FOLDER/tokens.json, writes FOLDER/theirs.json; existing curves are kept. Needs torch >= 2.9 and transformers;
pip install --no-deps bitsandbytes galore-torch lomo-optim. transformers stacks experts; optimizers get them one matrix
at a time, as checkpoints name them.
"""
import ctypes
import datetime
import importlib.metadata
import inspect
import json
import pathlib
import sys

import torch
from lomo_optim import AdaLomo, Lomo
from torch.nn.functional import cross_entropy
from torch.optim import _muon
from transformers import AutoModelForCausalLM
from transformers.optimization import Adafactor


def without_library(*_):
    raise OSError("left out")


# As in test/golden/make_optim.py, which says why: bitsandbytes' kernels in PyTorch, Muon's products in float32,
# and GaLore's directions with the signs of the previous ones.
ctypes.cdll.LoadLibrary, load = without_library, ctypes.cdll.LoadLibrary
from bitsandbytes.optim import AdamW8bit
from galore_torch import GaLoreAdamW
from galore_torch.galore_projector import GaLoreProjector
ctypes.cdll.LoadLibrary = load
exec(inspect.getsource(_muon._zeropower_via_newtonschulz).replace("torch.bfloat16", "torch.float32"), vars(_muon))


def with_signs(find):
    def found(self, *args, **kwargs):
        before, now = self.ortho_matrix, find(self, *args, **kwargs)
        if before is None:
            return now
        along = 1 if now.shape[0] < now.shape[1] else 0
        return now * torch.where((before * now).sum(along, keepdim=True) < 0, -1, 1)

    return found


GaLoreProjector.get_orthogonal_matrix = with_signs(GaLoreProjector.get_orthogonal_matrix)
torch.set_num_threads(1)
folder = pathlib.Path(sys.argv[1])
given = json.loads((folder / "tokens.json").read_text())
TINY = pathlib.Path(__file__).parents[2] / "examples" / "tiny-moe"


def matrices(model):
    """(name, parameter, how to take its gradient): expert stacks one matrix at a time, gate and up apart."""
    for name, parameter in model.named_parameters():
        if parameter.dim() != 3:
            yield name, parameter, None
            continue
        halves = 2 if "gate_up" in name else 1
        for expert in range(parameter.shape[0]):
            for half, part in enumerate(parameter.data[expert].chunk(halves)):
                yield f"{name}.{expert}.{half}", torch.nn.Parameter(part), lambda p=parameter, e=expert, h=half, n=halves: p.grad[e].chunk(n)[h]


class Given(torch.nn.Module):
    def __init__(self, parameters):
        super().__init__()
        for i, parameter in enumerate(parameters):
            self.register_parameter(f"p{i}", parameter)


class OneByOne:
    """LOMO's optimizers, whose update is a hook of the backward pass, called here when all gradients are complete."""

    def __init__(self, kind, parameters, **options):
        on_gpu, torch.Tensor.cuda = torch.Tensor.cuda, lambda tensor: tensor
        self.optimizer = kind(Given(parameters), **options)
        torch.Tensor.cuda = on_gpu
        for parameter in parameters:
            # Its hooks would update during the first row's backward pass.
            (parameter._backward_hooks or {}).clear()
        self.optimizer.loss_scale = None
        self.update = self.optimizer.fuse_update()
        self.param_groups = [{}]

    def step(self):
        self.optimizer.lr = self.param_groups[0]["lr"]
        self.optimizer.step_num = getattr(self.optimizer, "step_num", 0) + 1
        self.update(None)

    def zero_grad(self):
        pass


class Both:
    """Several optimizers as one."""

    def __init__(self, *parts):
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]

    def step(self):
        for part in self.parts:
            part.step()


def optimizer_of(name, settings, named):
    rate = settings["learning_rate"]
    decay = settings.get("weight_decay", 0)
    adam = dict(lr=rate, betas=(0.9, 0.95), eps=1e-8)
    everything = [p for _, p in named]
    groups = [
        {"params": [p for p in everything if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in everything if p.dim() == 1], "weight_decay": 0.0},
    ]
    inner = [p for n, p in named if p.dim() == 2 and "embed" not in n and "lm_head" not in n]
    apart = lambda some: [p for p in everything if all(p is not q for q in some)]
    if name == "adamw":
        return torch.optim.AdamW(groups, **adam)
    if name == "adamw8bit":  # transformers' Trainer leaves the embedding 32 bits
        embedding = [p for n, p in named if "embed" in n]
        groups[0]["params"] = [p for p in groups[0]["params"] if p is not embedding[0]]
        return Both(AdamW8bit(groups, **adam), torch.optim.AdamW(embedding, weight_decay=decay, **adam))
    if name == "adafactor":
        return Adafactor(everything, lr=rate, relative_step=False, scale_parameter=False)
    if name == "adalomo":
        return OneByOne(AdaLomo, everything, lr=rate)
    if name == "lomo":
        return OneByOne(Lomo, everything, lr=rate)
    if name == "sgd":
        return torch.optim.SGD(everything, lr=rate, momentum=settings["sgd_momentum"])
    if name == "galore_adamw":
        low = [p for p in inner if min(p.shape) > settings["galore_rank"]]
        projected = dict(rank=settings["galore_rank"], update_proj_gap=settings["galore_update_gap"], scale=0.25, proj_type="std")
        return GaLoreAdamW([{"params": apart(low)}, {"params": low, **projected}], no_deprecation_warning=True, **adam)
    assert name == "muon"
    hidden = [p for p in inner if min(p.shape) > 1]
    muon = _muon.Muon(hidden, lr=rate, weight_decay=0.0, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw")
    return Both(muon, torch.optim.AdamW(apart(hidden), weight_decay=0.0, **adam))


def clip(parameters, limit):
    """torch.nn.utils.clip_grad_norm_ with norms in float64: in float32 the embedding's norm is wrong by 1e-4."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum(g.double().square().sum().item() for g in gradients) ** 0.5
    for g in gradients:
        g.mul_(min(1.0, limit / (norm + 1e-6)))


def course(name, settings):
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    found = list(matrices(model))
    optimizer = optimizer_of(name, settings, [(name, p) for name, p, _ in found])
    losses = []
    for rows, rate in zip(given["steps"], given["rates"]):
        trained = sum(label >= 0 for row in rows for label in row["labels"])
        total = 0.0
        for row in rows:
            logits = model(input_ids=torch.tensor([row["tokens"]]), use_cache=False).logits[0]
            loss = cross_entropy(logits, torch.tensor(row["labels"]), ignore_index=-100, reduction="sum") / trained
            loss.backward()
            total += loss.item()
        losses.append(total)
        clip(model.parameters(), given["course"]["maxGradNorm"])
        for _, parameter, take in found:
            if take:
                parameter.grad = take()
        for group in optimizer.param_groups:
            group["lr"] = rate * settings["learning_rate"]
        optimizer.step()
        model.zero_grad()
        for _, parameter, _ in found:
            parameter.grad = None
    return losses


versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "bitsandbytes", "galore-torch", "lomo-optim")}
result = {"versions": versions, "date": datetime.date.today().isoformat(), "losses": {}}
kept = folder / "theirs.json"
if kept.exists():
    result["losses"] = json.loads(kept.read_text())["losses"]
missing = [name for name in given["cases"] if len(result["losses"].get(name, [])) != len(given["steps"])]
for name in sys.argv[2:] or missing:
    losses = course(name, given["cases"][name]["settings"])
    result["losses"][name] = losses
    print(name, round(losses[0], 4), round(losses[-1], 4), flush=True)
    kept.write_text(json.dumps(result))
