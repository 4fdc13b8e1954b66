"""Writes optim.json: weights after each step of the optimisers' published implementations, on small matrices, and what
bitsandbytes' dynamic maps and block-wise quantiser give. Needs torch >= 2.9, transformers, bitsandbytes, galore-torch and
lomo-optim (pip install --no-deps the last three): python test/golden/make_optim.py
"""
import ctypes
import importlib.metadata
import inspect
import json
import math
from pathlib import Path

import torch
from lomo_optim import AdaLomo, Lomo
from torch.optim import _muon
from transformers.optimization import Adafactor


def without_library(*_):
    raise OSError("left out")


# The CPU kernel of bitsandbytes 0.50.2 does not find the nearest value of the map (54 of the 600 numbers below; a zero becomes
# 2e-5 of the largest). Without its library the same code runs on bitsandbytes' own kernels in PyTorch, which do.
ctypes.cdll.LoadLibrary, load = without_library, ctypes.cdll.LoadLibrary
import bitsandbytes.functional as bnb
from bitsandbytes.optim import AdamW8bit
from galore_torch import GaLoreAdamW
from galore_torch.galore_projector import GaLoreProjector
ctypes.cdll.LoadLibrary = load

STEPS = 6
DECAY = 0.1
ADAM = dict(betas=(0.9, 0.95), eps=1e-8)


def numbers(count, seed):
    """The same numbers as `numbers` in references.test.ts: sines, so that no generator has to agree."""
    return torch.tensor([math.sin((i + 1) * 12.9898 + seed * 78.233) for i in range(count)], dtype=torch.float64).float()


def weight(shape):
    return (numbers(math.prod(shape), 0) * 0.05).reshape(shape)


def gradient(shape, step):
    # Rows of unlike size, so that factored statistics are not flat; a tail of small ones.
    g = numbers(math.prod(shape), step).reshape(shape)
    return g.pow(3) * torch.linspace(0.1, 2, shape[0]).reshape([-1] + [1] * (len(shape) - 1))


def run(shape, make):
    """The weight after each step; `make` returns a function that applies one gradient."""
    p = torch.nn.Parameter(weight(shape))
    step = make(p)
    seen = []
    for i in range(1, STEPS + 1):
        p.grad = gradient(shape, i)
        step(p)
        seen.append(p.detach().clone().reshape(-1))
    return seen


def by(make):
    def start(p):
        optimizer = make(p)
        return lambda _: optimizer.step()
    return start


class One(torch.nn.Module):
    def __init__(self, p):
        super().__init__()
        self.p = p


def lomo(kind, **options):
    def start(p):
        model = One(p)
        # Its state is made on a GPU and by hooks of the backward pass; the update itself is called here.
        on_gpu, torch.Tensor.cuda = torch.Tensor.cuda, lambda tensor: tensor
        optimizer = kind(model, **options)
        torch.Tensor.cuda = on_gpu
        optimizer.loss_scale = None
        update = optimizer.fuse_update()

        def step(_):
            optimizer.step_num = getattr(optimizer, "step_num", 0) + 1
            update(None)

        return step
    return start


def use_float32_muon():
    """Lets torch.optim.Muon multiply in float32: its own source, one dtype changed."""
    source = inspect.getsource(_muon._zeropower_via_newtonschulz)
    assert "torch.bfloat16" in source
    exec(source.replace("torch.bfloat16", "torch.float32"), vars(_muon))


use_float32_muon()
MATRICES = {"tall": [12, 8], "wide": [6, 10]}
cases = {}


def add(name, make, shapes=MATRICES, **settings):
    runs = {label: run(shape, make) for label, shape in shapes.items()}
    # The first and the last step: enough to see state, half the size.
    cases[name] = {
        "settings": settings,
        "runs": {
            label: {"shape": shapes[label], "first": seen[0].tolist(), "last": seen[-1].tolist()} for label, seen in runs.items()
        },
    }


WITH_VECTOR = {**MATRICES, "vector": [10]}
add("sgd", by(lambda p: torch.optim.SGD([p], lr=0.01, momentum=0.9)), WITH_VECTOR)
add("lomo", lomo(Lomo, lr=0.01, weight_decay=DECAY))
add("adafactor", by(lambda p: Adafactor([p], lr=0.01, weight_decay=DECAY, relative_step=False, scale_parameter=False)))
add("adafactor_scaled", by(lambda p: Adafactor([p], lr=0.01, weight_decay=DECAY, relative_step=False, scale_parameter=True)))
add("adafactor_vector", by(lambda p: Adafactor([p], lr=0.01, relative_step=False, scale_parameter=True)), {"vector": [10]})
add("adalomo", lomo(AdaLomo, lr=0.01, weight_decay=DECAY))
add(
    "muon",
    by(lambda p: _muon.Muon([p], lr=0.01, weight_decay=DECAY, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw")),
)


def with_signs(find):
    """LAPACK chooses the signs of singular vectors, and moments outlive a projection: lets each new direction point to the
    side of the one before it in its place, as ours do."""

    def found(self, *args, **kwargs):
        before, now = self.ortho_matrix, find(self, *args, **kwargs)
        if before is None:
            return now
        along = 1 if now.shape[0] < now.shape[1] else 0
        return now * torch.where((before * now).sum(along, keepdim=True) < 0, -1, 1)

    return found


GaLoreProjector.get_orthogonal_matrix = with_signs(GaLoreProjector.get_orthogonal_matrix)
galore = dict(rank=3, update_proj_gap=3, scale=0.25, proj_type="std")
add(
    "galore_adamw",
    by(lambda p: GaLoreAdamW([{"params": [p], **galore}], lr=0.01, no_deprecation_warning=True, **ADAM)),
)

# 4200 elements: above the 4096 from which state has 8 bits, and no multiple of the block of 256.
EIGHT = [84, 50]
eight = run(EIGHT, by(lambda p: AdamW8bit([p], lr=0.01, weight_decay=DECAY, **ADAM)))
small = run([40, 50], by(lambda p: AdamW8bit([p], lr=0.01, weight_decay=DECAY, **ADAM)))
SAMPLE = 17
cases["adamw8bit"] = {
    "sample": SAMPLE,
    "runs": {
        "large": {"shape": EIGHT, "first": eight[0][::SAMPLE].tolist(), "last": eight[-1][::SAMPLE].tolist()},
        "small": {"shape": [40, 50], "first": small[0][::SAMPLE].tolist(), "last": small[-1][::SAMPLE].tolist()},
    },
}

maps = {}
values = numbers(600, 99).pow(5) * torch.linspace(1e-3, 3, 600)
for signed in (True, False):
    code = bnb.create_dynamic_map(signed=signed)
    x = values if signed else values.abs()
    q, state = bnb.quantize_blockwise(x, code=code, blocksize=256)
    maps["signed" if signed else "unsigned"] = {"code": code.tolist(), "q": q.tolist(), "scale": state.absmax.tolist()}

versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "bitsandbytes", "galore-torch", "lomo-optim")}
rounded = json.loads(json.dumps({"cases": cases, "maps": maps}), parse_float=lambda text: float(f"{float(text):.8g}"))
out = Path(__file__).parent / "optim.json"
out.write_text(json.dumps({"versions": versions, "steps": STEPS, **rounded}, separators=(",", ":")) + "\n")
print(out, out.stat().st_size, "bytes")
