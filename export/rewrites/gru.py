"""GRU layers exported as ONNX's GRU operator, for which runtimes have fast kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from export.onnx_io import OPSET


class OnnxGru(nn.Module):
    """Replacement of an `nn.GRU` for export; it returns the last state only.

    PyTorch's exporter unrolls or decomposes recurrent layers; this emits one operator per layer.
    ONNX has the gates in the order update, reset, new (PyTorch: reset, update, new), and applies
    the reset gate after the matrix product, as PyTorch does, if `linear_before_reset` is set.
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
        """Run on (1, steps, width_in).

        Returns:
            None in place of the outputs, and the last layer's last state: (1, 1, width).
        """
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
    """Reorder gates from PyTorch's order to ONNX's."""
    reset, update, new = gates.detach().chunk(3)
    return torch.cat([update, reset, new])
