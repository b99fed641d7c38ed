"""Heads and losses: targets, decoding, probabilities, and shapes that must pair."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from inkproof.errors import InputError, ShapeMismatch
from inkproof.heads import (
    Head,
    binary_cross_entropy,
    check_pairing,
    cross_entropy,
    find_activation,
    mean_squared_error,
    rmse_softmax,
)

LABELS = torch.tensor([0, 2, 1, 2])
OUTPUTS = torch.tensor([[2.0, 0, 0], [0, 1, 3], [0, 4, 1], [1, 0, 2]])


def test_a_classes_head_decodes_the_largest_output() -> None:
    assert Head("classes", 3).decode(OUTPUTS).tolist() == LABELS.tolist()


def test_a_binary_head_decodes_by_sign_and_its_probabilities_sum_to_one() -> None:
    head = Head("binary", 2)
    outputs = torch.tensor([[-1.0], [2.0]])
    assert head.decode(outputs).tolist() == [0, 1]
    probabilities = head.probabilities(outputs)
    assert probabilities.sum(1).tolist() == pytest.approx([1, 1])
    assert probabilities[:, 1].tolist() == pytest.approx(torch.sigmoid(outputs)[:, 0].tolist())
    assert head.decode(torch.tensor([[0.4], [0.6]]), "probabilities").tolist() == [0, 1]


def test_a_value_head_decodes_the_nearest_label_within_the_classes() -> None:
    assert Head("value", 10).decode(torch.tensor([[-3.0], [0.4], [6.6], [42.0]])).tolist() == [0, 0, 7, 9]


def test_a_binary_head_refuses_ten_classes_and_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"tells two classes apart and the data has 10: choose two with --classes"):
        Head("binary", 10)


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Identity()])
def test_probabilities_are_never_activated_twice(last: nn.Module) -> None:
    torch.manual_seed(0)
    body = nn.Linear(5, 3)
    inputs = torch.randn(7, 5)
    model = nn.Sequential(body, last)
    outputs = model(inputs)
    given = Head("classes", 3).probabilities(outputs, find_activation(model, outputs))
    torch.testing.assert_close(given, body(inputs).softmax(1))


def test_a_last_sigmoid_is_seen() -> None:
    model = nn.Sequential(nn.Linear(5, 1), nn.Sigmoid())
    assert find_activation(model, model(torch.randn(4, 5))) == "probabilities"


def test_losses_equal_their_closed_forms() -> None:
    one_hot = F.one_hot(LABELS, 3).float()
    torch.testing.assert_close(cross_entropy(OUTPUTS, LABELS), F.cross_entropy(OUTPUTS, LABELS))
    expected = (OUTPUTS.softmax(1) - one_hot).pow(2).mean().sqrt()
    torch.testing.assert_close(rmse_softmax(OUTPUTS, LABELS), expected)
    torch.testing.assert_close(mean_squared_error(OUTPUTS, LABELS), (OUTPUTS - one_hot).pow(2).mean())
    logits, truth = torch.tensor([[0.3], [-2.0]]), torch.tensor([[1.0], [0.0]])
    by_hand = -(truth * logits.sigmoid().log() + (1 - truth) * (1 - logits.sigmoid()).log()).mean()
    torch.testing.assert_close(binary_cross_entropy(logits, truth), by_hand)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("classes", [2, 10, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_is_torchs_in_every_layout(
    dtype: torch.dtype, classes: int, smoothing: float, learns: bool
) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (50,))
    labels[7] = -100  # torch's mark of a row to leave out
    by_classes = torch.randn(classes, 50, dtype=dtype).T
    for layout in (by_classes, by_classes.contiguous()):
        outputs = layout.detach().requires_grad_(learns)
        ours = cross_entropy(outputs, labels, label_smoothing=smoothing)
        torch.testing.assert_close(ours, F.cross_entropy(outputs, labels, label_smoothing=smoothing))


def test_labels_that_are_bytes_are_taken_where_nothing_is_learnt_too() -> None:
    unchecked = inspect.unwrap(cross_entropy)  # its annotation says int64; outside tests nothing holds callers to it
    torch.testing.assert_close(unchecked(OUTPUTS, LABELS.to(torch.uint8)), F.cross_entropy(OUTPUTS, LABELS))


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((8, 1), (8,)), ((8,), (8, 1)), ((8, 10), (8, 1)), ((8, 10), (7,)), ((8, 10), (8, 9)), ((8, 1), (8, 8))],
)
def test_shapes_that_would_broadcast_are_refused_with_both_shapes(
    outputs: tuple[int, ...], targets: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        check_pairing(torch.zeros(outputs), torch.zeros(targets, dtype=torch.long), where="the loss mine")
    for part in ("the loss mine", str(outputs), str(targets), "int64", "broadcast"):
        assert part in str(caught.value)


def test_one_output_beside_class_indices_is_refused() -> None:
    # F.cross_entropy takes it and gives 0
    with pytest.raises(ShapeMismatch):
        check_pairing(torch.zeros(8, 1), torch.zeros(8, dtype=torch.long), where="cross entropy")


def test_outputs_that_do_not_fit_the_head_are_refused_with_the_way_out() -> None:
    with pytest.raises(ShapeMismatch, match=r"outputs of shape \(4, 3\), but 10 classes .* need \(n, 10\)"):
        Head("classes", 10).check_outputs(OUTPUTS)
