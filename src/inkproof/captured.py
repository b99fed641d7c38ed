"""Loss and gradients of a step as a captured CUDA graph: one launch in place of a hundred.

A small net's step on a GPU is mostly the launching of its operations, one after another, from Python. A graph records
them once and is replayed with new numbers in the same places.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

Numbers = tuple[Tensor, Tensor]
"""Loss and outputs of a batch."""
Differentiate = Callable[[Tensor, Tensor], Numbers]
"""Takes inputs and labels of a batch, leaves gradients in the parameters' `grad`, gives loss and outputs."""
Capture = Callable[[Callable[[], Numbers]], tuple[Callable[[], None], Numbers]]
"""Records a function that computes in fixed places; gives what replays it, and where its results then lie."""

_WARM_UP_STEPS = 3  # as torch's notes on CUDA graphs ask for: libraries choose and allocate in their first calls


class CapturedStep:
    """Replays loss and gradients of batches of one shape; others, such as a smaller last batch, are computed as usual.

    Args:
        model: whose buffers and mode the warm-up leaves as they were.
        capture: what records; the tests give one that needs no CUDA.

    Source: torch's notes on CUDA graphs, "partial-network capture" with static inputs and gradients.
    """

    def __init__(self, model: nn.Module, capture: Capture | None = None):
        self._model = model
        self._capture = capture or _capture_on_cuda
        self._failed = False
        self._replay: Callable[[], None] | None = None

    def __call__(
        self,
        differentiate: Differentiate,
        parameters: Sequence[nn.Parameter],
        inputs: Shaped[Tensor, "n ..."],
        labels: Shaped[Tensor, "n ..."],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "n ..."]]:
        """Loss and outputs of a batch; gradients in the parameters' `grad` and outputs stand until the next call.

        The first call captures. A model that cannot be captured, because it looks at its numbers or at the time, is
        computed as usual from then on, with a warning.
        """
        if self._failed:
            return differentiate(inputs, labels)
        if self._replay is None:
            try:
                self._record(differentiate, parameters, inputs, labels)
            except RuntimeError as error:
                self._failed = True
                reason = str(error).splitlines()[0]
                warnings.warn(f"training without a captured graph, which is slower: {reason}", stacklevel=2)
                return differentiate(inputs, labels)
        assert self._replay is not None, "recorded above"
        if inputs.shape != self._inputs.shape or labels.shape != self._labels.shape:
            return differentiate(inputs, labels)
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._replay()
        for parameter, gradient in zip(parameters, self._gradients, strict=True):
            parameter.grad = gradient
        loss, outputs = self._numbers
        return loss.clone(), outputs

    def _record(
        self, differentiate: Differentiate, parameters: Sequence[nn.Parameter], inputs: Tensor, labels: Tensor
    ) -> None:
        self._inputs, self._labels = inputs.clone(), labels.clone()
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        replay, self._numbers = self._capture(lambda: differentiate(self._inputs, self._labels))
        with torch.no_grad():  # warming up has moved the running statistics
            for name, buffer in self._model.named_buffers():
                buffer.copy_(buffers[name])
        self._gradients = [parameter.grad for parameter in parameters]
        self._replay = replay


def _capture_on_cuda(function: Callable[[], Numbers]) -> tuple[Callable[[], None], Numbers]:
    state = torch.cuda.get_rng_state()
    warm_up = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # untyped in torch
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        for _ in range(_WARM_UP_STEPS):
            function()
    torch.cuda.current_stream().wait_stream(warm_up)
    torch.cuda.set_rng_state(state)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function()
    return graph.replay, result
