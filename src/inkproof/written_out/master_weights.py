"""Weights in float32, and the copy of them that products take: the two are one where nothing is rounded.

Source: Micikevicius et al. 2018, "Mixed Precision Training"; bfloat16 has the range of float32, so that losses need no
scale.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# By dimensions: of a matrix and a vector, of two matrices, of two stacks of them.
_PRODUCTS: dict[int, Callable[..., Tensor]] = {1: torch.mv, 2: torch.mm, 3: torch.bmm}
_ADD_PRODUCT: dict[int, Callable[..., Tensor]] = {1: Tensor.addmv_, 2: Tensor.addmm_, 3: Tensor.baddbmm_}


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

    def at(self, index: Any) -> "MasterWeights":
        """Some of them, in the same memory."""
        return MasterWeights(self.master[index], None if self._product is None else self.working[index])

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
