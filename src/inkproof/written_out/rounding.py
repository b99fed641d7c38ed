"""Products in bfloat16: which are, and the weights in float32 that learn from them.

Source: Micikevicius et al. 2018, "Mixed Precision Training"; bfloat16 has the range of float32, so that losses need no
scale.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import Precision, multiplies_bfloat16
from inkproof.written_out.chain import Chain
from inkproof.written_out.windows import Layer

# Weights of a linear layer that gains: in batches of 256, 128 units over 256 do, 30 over 784 take 1.2 of the time, and
# the smallest product takes oneDNN, which has those in bfloat16, 20 microseconds in place of 4 (2 cores of an AMD EPYC
# with AVX-512 BF16, November 2026).
_MANY = 2**15

# By dimensions: of a matrix and a vector, of two matrices, of two stacks of them.
_PRODUCTS: dict[int, Callable[..., Tensor]] = {1: torch.mv, 2: torch.mm, 3: torch.bmm}
_ADD_PRODUCT: dict[int, Callable[..., Tensor]] = {1: Tensor.addmv_, 2: Tensor.addmm_, 3: Tensor.baddbmm_}


def precision_of(chain: Chain, precision: Precision) -> Precision | None:
    """In what a chain's products are computed here, where autograd does not; None where they are left to autocast.

    Linear layers that are all small are computed in their own dtype, which "float32" stands for.
    """
    small = chain.linear is not None and not any(map(_is_large, chain.layers))
    if precision == "float32" or small:
        return "float32"
    known = all(parameter.dtype == torch.float32 for layer in chain.layers for parameter in layer.parameters())
    return "bfloat16" if known and multiplies_bfloat16() else None


def dtype_of_products(layer: nn.Linear, precision: Precision) -> torch.dtype:
    """What a linear layer's weights and inputs are rounded to, if they are many; else their own."""
    return torch.bfloat16 if precision == "bfloat16" and _is_large(layer) else layer.weight.dtype


def _is_large(layer: Layer) -> bool:
    return layer.weight.numel() >= _MANY


class MasterWeights:
    """What is learnt by adding products up, and what products take.

    Args:
        master: biases, a matrix of weights, or a stack of them.
        working: the same numbers rounded, of the dtype that products have; None where products take the master.

    Attributes:
        master: as given.
        working: what products take.
    """

    def __init__(self, master: Float[Tensor, "..."], working: Float[Tensor, "..."] | None = None):
        self.master, self.working = master, master if working is None else working
        self._product = None if working is None else working.new_empty(working.shape)
        self._multiply, self._add_product = _PRODUCTS[master.ndim], _ADD_PRODUCT[master.ndim]

    @classmethod
    def rounded_to(cls, dtype: torch.dtype, master: Float[Tensor, "..."]) -> "MasterWeights":
        """With a copy, where the dtype is not the master's own."""
        return cls(master, None if dtype == master.dtype else master.to(dtype))

    def learn(self, left: Float[Tensor, "..."], right: Float[Tensor, "..."], *, alpha: float) -> None:
        """Add `alpha` times a product of the master's shape."""
        if self._product is None:
            self._add_product(self.master, left, right, alpha=alpha)
        else:
            self._multiply(left, right, out=self._product)
            self.master.add_(self._product, alpha=alpha)
            self.round_again()

    def round_again(self) -> None:
        """Let products take what the master holds now."""
        if self._product is not None:
            self.working.copy_(self.master)
