"""Makes matrices in FP8 blocks as DeepSeek releases them, and what torch decodes them to.

    pip install torch safetensors
    python3 test/golden/make_fp8.py

fp8/packed.safetensors   NAME.weight in float8_e4m3fn with NAME.weight_scale_inv: all bytes but those of NaN, blocks of 16 x 8,
                         grids that do not divide the matrix, scales in float32, bfloat16 and float8_e8m0fnu, one that is
                         stacked, and a norm that is not quantised
fp8/decoded.safetensors  the same in float32
"""
import pathlib

import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).parent / "fp8"
ROWS, COLUMNS = 16, 8
SHAPES = {"even": (32, 16), "tall": (36, 16), "odd": (41, 21), "small": (3, 5), "stacked": (3, 20, 12)}


def main():
    OUT.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(11)
    packed = {"norm.weight": torch.randn(5, generator=draw)}
    decoded = dict(packed)
    values = torch.tensor([byte for byte in range(256) if byte & 127 != 127], dtype=torch.uint8)
    for name, shape in SHAPES.items():
        grid = (*shape[:-2], -(-shape[-2] // ROWS), -(-shape[-1] // COLUMNS))
        scales = torch.exp(torch.randn(grid, generator=draw) * 3 - 4)
        for kind, dtype in {"f32": torch.float32, "bf16": torch.bfloat16, "e8m0": torch.float8_e8m0fnu}.items():
            weight = values[torch.randint(0, len(values), shape, generator=draw)].view(torch.float8_e4m3fn)
            scale = scales.to(dtype)
            wide = scale.to(torch.float32).repeat_interleave(ROWS, -2).repeat_interleave(COLUMNS, -1)
            packed[f"{name}.{kind}.weight"], packed[f"{name}.{kind}.weight_scale_inv"] = weight, scale
            decoded[f"{name}.{kind}.weight"] = weight.to(torch.float32) * wide[..., :shape[-2], :shape[-1]]
    for file, tensors in {"packed": packed, "decoded": decoded}.items():
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(tensors, OUT / f"{file}.safetensors", metadata={"torch": torch.__version__})


main()
