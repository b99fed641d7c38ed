"""Losses and gradients that are NaN or infinite, caught before they reach the weights.

On a processor each step is looked at before its update. Steps whose gradients are written out may be looked at together
after an epoch (`steps.StepPlan.quickest`), which is taken again, with a look at each, where something broke. Looking at
numbers on a CUDA device would make every step wait for it: there a guard masks the updates on the device itself, and
the caller asks at the end of the epoch.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.errors import NotFinite


def require_finite_gradients(model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """Raise NotFinite with the name of a parameter whose gradient has a NaN or infinite number."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # One norm over all gradients tells whether there is any.
    if gradients and not math.isfinite(torch.stack(torch._foreach_norm(gradients)).sum().item()):
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise NotFinite(f"the gradient of {name} has NaN or infinite numbers")
        # All numbers are finite: only the norm overflowed.


class DeviceGuard:
    """Masks every update from the first loss or gradient on that is not finite, without anybody waiting for it.

    Fused optimisers skip the update when told so by a tensor, as `torch.amp.GradScaler` tells them; for others the
    gradients become zero, so that no NaN reaches a weight, yet momentum and decay go on moving weights
    (`keeps_weights` tells which).

    Args:
        device: where the numbers are.
    """

    def __init__(self, device: torch.device):
        self._broken = torch.zeros((), device=device)

    @torch.no_grad()
    def mask(
        self, optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""], parameters: Sequence[nn.Parameter]
    ) -> Float[Tensor, ""]:
        """Look at a step's numbers and mask its update where they, or those of a step before, are not finite.

        Args:
            optimizer: about to take the step; `release` it afterwards.
            loss: of the step.
            parameters: with their gradients.

        Returns:
            The loss, NaN where the update is masked.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        # Largest numbers and no sums of squares: those leave float32 where the gradients do not.
        largest = torch._foreach_norm(gradients, float("inf")) if gradients else []
        finite = torch.isfinite(torch.stack([loss.detach(), *largest])).all()
        self._broken = torch.maximum(self._broken, (~finite).float())
        broken = self._broken.bool()
        if keeps_weights(optimizer):
            vars(optimizer)["found_inf"] = self._broken  # as GradScaler sets it
        else:
            for gradient in gradients:
                gradient.masked_fill_(broken, 0.0)
        return loss.detach().masked_fill(broken, torch.nan)

    @staticmethod
    def release(optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser forget the mask."""
        vars(optimizer).pop("found_inf", None)


def keeps_weights(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether an update that a guard masked leaves the weights as they were, to the bit."""
    return optimizer is not None and all(group.get("fused") for group in optimizer.param_groups)
