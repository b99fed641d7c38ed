"""Loss and gradients of a step as a captured CUDA graph: one launch in place of a hundred.

A small net's step on a GPU is mostly the launching of its operations, one after another, from Python. A graph records
them once and is replayed with new numbers in the same places. What Python decides is decided once, at the recording:
only models and losses that are torch's own throughout are captured.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inkproof.hooks import has_hooks

Numbers = tuple[Tensor, Tensor]
"""Loss and outputs of a batch."""
Differentiate = Callable[[Tensor, Tensor], Numbers]
"""Takes inputs and labels of a batch, leaves gradients in the parameters' `grad`, gives loss and outputs."""
Capture = Callable[[Callable[[], Numbers]], tuple[Callable[[], None], Numbers]]
"""Records a function that computes in fixed places; gives what replays it, and where its results then lie."""

_MOST_SHAPES = 4  # each holds the memory of a step
_WARM_UP_STEPS = 3  # as torch's notes on CUDA graphs ask for: libraries choose and allocate in their first calls
_KNOWN = ("torch.nn.", "inkproof.heads")  # whose code decides nothing from numbers, time or chance in Python


def can_be_captured(model: nn.Module, loss: Any) -> bool:
    """Whether a model and its loss are torch's own, without hooks: nothing of a step is then decided in Python."""
    if not all(type(module).__module__.startswith(_KNOWN) for module in model.modules()):
        return False
    called = loss.func if isinstance(loss, partial) else loss
    home = getattr(called, "__module__", None) if callable(called) and not isinstance(called, nn.Module) else None
    known_loss = (home or type(called).__module__).startswith(_KNOWN)
    return known_loss and not any(has_hooks(module) for module in model.modules())


@dataclass(frozen=True)
class _Recording:
    """A step of one shape of batches, and the places that it reads and writes."""

    inputs: Tensor
    labels: Tensor
    replay: Callable[[], None]
    numbers: Numbers
    gradients: list[Tensor | None]


class CapturedStep:
    """Replays loss and gradients of a step, recorded for each shape of batches: epochs of hard examples have two more.

    Args:
        model: whose buffers the warm-up leaves as they were.
        capture: what records; the tests give one that needs no CUDA.

    Source: torch's notes on CUDA graphs, "partial-network capture" with static inputs and gradients.
    """

    def __init__(self, model: nn.Module, capture: Capture | None = None):
        self._model = model
        self._capture = capture or _capture_on_cuda
        self._failed = False
        self._recorded_for: list[tuple[int, ...]] | None = None
        self._recorded: dict[tuple[torch.Size | torch.dtype, ...], _Recording] = {}  # by the form of a batch

    def __call__(
        self,
        differentiate: Differentiate,
        parameters: Sequence[nn.Parameter],
        inputs: Shaped[Tensor, "n ..."],
        labels: Shaped[Tensor, "n ..."],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "n ..."]]:
        """Loss and outputs of a batch; gradients in the parameters' `grad` and outputs stand until the next call.

        The first call for a shape (and dtypes) captures; other layers, parameters or places of their numbers are
        captured again. From the fifth shape on, shapes are computed as usual, and so is all from then on where
        something cannot be captured, with a warning.
        """
        if self._failed:
            return differentiate(inputs, labels)
        now: list[tuple[int, ...]] = [(id(module), module.training) for module in self._model.modules()]
        now += [(id(parameter), parameter.data_ptr(), parameter.requires_grad) for parameter in parameters]
        if now != self._recorded_for:
            self._recorded.clear()
            self._recorded_for = now
        form = inputs.shape, inputs.dtype, labels.shape, labels.dtype
        recording = self._recorded.get(form)
        if recording is None:
            if len(self._recorded) == _MOST_SHAPES:
                return differentiate(inputs, labels)
            try:
                recording = self._record(differentiate, parameters, inputs, labels)
            except RuntimeError as error:
                self._failed = True
                cause = error.__context__ or error  # ending a capture that broke off complains too
                reason = next(iter(str(cause).splitlines()), type(cause).__name__)
                warnings.warn(f"training without a captured graph, which is slower: {reason}", stacklevel=2)
                return differentiate(inputs, labels)
            self._recorded[form] = recording
        recording.inputs.copy_(inputs)
        recording.labels.copy_(labels)
        recording.replay()
        for parameter, gradient in zip(parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        loss, outputs = recording.numbers
        return loss.clone(), outputs

    def _record(
        self, differentiate: Differentiate, parameters: Sequence[nn.Parameter], inputs: Tensor, labels: Tensor
    ) -> _Recording:
        inputs, labels = inputs.clone(), labels.clone()
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        try:
            replay, numbers = self._capture(lambda: differentiate(inputs, labels))
        finally:
            with torch.no_grad():  # warming up has moved the running statistics
                for name, buffer in self._model.named_buffers():
                    buffer.copy_(buffers[name])
        return _Recording(inputs, labels, replay, numbers, [parameter.grad for parameter in parameters])


def _capture_on_cuda(function: Callable[[], Numbers]) -> tuple[Callable[[], None], Numbers]:
    state = torch.cuda.get_rng_state()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):  # of our own around both: torch's stays current where a capture breaks off
            for _ in range(_WARM_UP_STEPS):
                function()
            torch.cuda.set_rng_state(state)
            graph = torch.cuda.CUDAGraph()
            # Threads of a loader that pin memory meanwhile are none of the capture's business.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = function()
    finally:
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.set_rng_state(state)
    return graph.replay, result
