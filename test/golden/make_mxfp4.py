"""Makes experts' matrices in MXFP4 as gpt-oss is released, and what transformers decodes them to.

    pip install torch transformers safetensors
    python3 test/golden/make_mxfp4.py

mxfp4/packed.safetensors   NAME_blocks and NAME_scales: every byte, every scale from 0 to 254, and a bias that is not packed
mxfp4/decoded.safetensors  the same in bfloat16, [experts, in, out]
"""
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

OUT = pathlib.Path(__file__).parent / "mxfp4"
SHAPES = {"every": (1, 51, 5), "gate_up_proj": (3, 8, 2), "row": (2, 1, 1)}


def main():
    OUT.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(5)
    packed = {"gate_up_proj_bias": torch.randn(3, 8, generator=draw).to(torch.bfloat16)}
    decoded = dict(packed)
    for name, shape in SHAPES.items():
        blocks = torch.randint(0, 256, (*shape, 16), generator=draw, dtype=torch.uint8)
        scales = torch.randint(110, 140, shape, generator=draw, dtype=torch.uint8)
        if name == "every":
            blocks.view(-1)[:256] = torch.arange(256)
            scales = torch.arange(255, dtype=torch.uint8).view(shape)
        packed[f"{name}_blocks"], packed[f"{name}_scales"] = blocks, scales
        decoded[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
    for file, tensors in {"packed": packed, "decoded": decoded}.items():
        save_file(tensors, OUT / f"{file}.safetensors", metadata={"torch": torch.__version__, "transformers": transformers.__version__})


main()
