"""A GRU as ONNX's own operator, which every runtime has a fast kernel for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.onnx_io import OPSET


class OnnxGru(nn.Module):
    """Stands in for an `nn.GRU` while it is exported, and gives its last states only.

    PyTorch's exporter unrolls or decomposes recurrent layers; this puts one operator a layer into
    the graph. ONNX keeps the gates in the order update, reset, new (PyTorch: reset, update, new)
    and applies the reset gate after the matrix product, as PyTorch does, if `linear_before_reset`
    is set.
    """

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.layers = gru.num_layers
        self.width = gru.hidden_size
        for layer in range(gru.num_layers):
            w, r = (_reordered(getattr(gru, f"weight_{k}_l{layer}")) for k in ("ih", "hh"))
            b = [_reordered(getattr(gru, f"bias_{k}_l{layer}")) for k in ("ih", "hh")]
            self.register_buffer(f"w{layer}", w[None])
            self.register_buffer(f"r{layer}", r[None])
            self.register_buffer(f"b{layer}", torch.cat(b)[None])

    def forward(self, sequence: Tensor) -> tuple[None, Tensor]:
        """Take (1, steps, width_in); give (1, 1, width) where `nn.GRU` gives its last states."""
        x = sequence.transpose(0, 1)
        steps = x.shape[0]
        state = x
        for layer in range(self.layers):
            weights = [getattr(self, f"{kind}{layer}") for kind in "wrb"]
            outputs, state = torch.onnx.ops.symbolic_multi_out(
                "GRU",
                (x, *weights),
                {"hidden_size": self.width, "linear_before_reset": 1},
                dtypes=(x.dtype, x.dtype),
                shapes=((steps, 1, 1, self.width), (1, 1, self.width)),
                version=OPSET,
            )
            x = outputs.squeeze(1)
        return None, state


def _reordered(gates: Tensor) -> Tensor:
    reset, update, new = gates.detach().chunk(3)
    return torch.cat([update, reset, new])
