"""Writes grids.rs: the grids of ggml's IQ formats, read from the `gguf` package, each entry packed into 16 bits.
    pip install gguf
    python grids.py
"""
import pathlib

import numpy as np
from gguf.quants import IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS

HEADER = """//! The grids of ggml's IQ formats: each entry is a group of weights that occur together. Written by `grids.py`.
//!
//! An entry has 2 bits for each of 8 weights, or 3 bits for each of 4, the lowest bits first: indices of the values
//! that its format's grid has.

"""
GRIDS = [(IQ1_S, "IQ1"), (IQ2_XXS, "IQ2_XXS"), (IQ2_XS, "IQ2_XS"), (IQ2_S, "IQ2_S"), (IQ3_XXS, "IQ3_XXS"), (IQ3_S, "IQ3_S")]


def entries(quant):
    quant.init_grid()
    grid = quant.grid.reshape(quant.grid_shape)
    bits = (len(quant.grid_map) - 1).bit_length()
    codes = np.searchsorted(np.array(quant.grid_map), grid)
    return (codes << (bits * np.arange(grid.shape[1]))).sum(-1)


out = HEADER
for quant, name in GRIDS:
    packed = entries(quant)
    values = ", ".join(str(v) for v in quant.grid_map)
    out += f"/// Of the values {values}.\n#[rustfmt::skip]\npub(super) static {name}: [u16; {len(packed)}] = [\n"
    for i in range(0, len(packed), 16):
        out += "    " + " ".join(f"0x{v:04x}," for v in packed[i:i + 16]) + "\n"
    out += "];\n\n"
pathlib.Path(__file__).with_name("grids.rs").write_text(out.rstrip() + "\n")
