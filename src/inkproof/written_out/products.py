"""Products of float32 matrices by oneDNN, where that is sooner than what torch takes.

torch hands such products to MKL. On 2 cores of an AMD EPYC with AVX-512 (November 2026, medians of 60) oneDNN takes
0.68 to 0.70 of the time to score 8,400 images of 784 pixels with 10 or 30 units, and 0.92 to 0.94 of a step of 480
units. With AVX2 alone it takes 0.86 for 10 or 30 units, but 1.1 for 100, and 1.02 to 1.11 of a step of 160 or 480. On
2 cores of an Intel Xeon with AVX-512 it takes 1.1 to 1.2 of MKL's time to score, and 1.04 to 1.11 of a step of 480.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import is_intel

# What torch's own compiler calls; no public name has it. Looked up by its signature, lest a later torch has another.
_NAME, _ARGUMENTS = "_linear_pointwise", ["X", "W", "B", "attr", "scalars", "algorithm"]

_FEW = 64  # units


def _look_up() -> torch._ops.OpOverload | None:
    found = getattr(getattr(torch.ops.mkldnn, _NAME, None), "default", None)
    return found if found is not None and [each.name for each in found._schema.arguments] == _ARGUMENTS else None


_ONEDNN = _look_up()


def is_plain(value: Tensor | None) -> bool:
    """Whether these are float32 numbers on the CPU and nothing else; None is, as a bias that is not there."""
    if value is None:
        return True
    known = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and value.device.type == "cpu"
    return known and value.dtype == torch.float32 and value.numel() > 0


def by_onednn(*values: Tensor | None) -> bool:
    """Whether oneDNN can multiply these: plain float32 numbers on the CPU, and this torch has it switched on."""
    return _ONEDNN is not None and bool(torch.backends.mkldnn.enabled) and all(map(is_plain, values))


def is_sooner(units: int) -> bool:
    """Whether oneDNN is sooner than torch for so many units: never on a processor of Intel's, for which MKL is made.

    On others for few of them, and with AVX-512 for all.
    """
    if is_intel():
        return False
    return units <= _FEW or torch.backends.cpu.get_cpu_capability() == "AVX512"


def product(left: Float[Tensor, "m k"], right: Float[Tensor, "n k"]) -> Float[Tensor, "m n"]:
    """`left @ right.T`; without gradients, of what `by_onednn` is true of."""
    assert _ONEDNN is not None, "`by_onednn` was asked"
    outputs: Tensor = _ONEDNN(left, right, None, "none", [], "")
    return outputs
