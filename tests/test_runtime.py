"""What the machine offers: devices by name, a precision for each, and a model placed on one."""

import pytest
import torch
from torch import nn

from inkproof import Learner, Split, learner, models
from inkproof.errors import InputError
from inkproof.runtime import choose_device, choose_precision, known_precision, multiplies_bfloat16, place


def test_a_device_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="device 'mps' is none of auto, cpu, cuda"):
        choose_device("mps")


def test_convolutions_are_placed_with_channels_last_and_others_as_they_are() -> None:
    convolution = place(nn.Conv2d(3, 4, 3), torch.device("cpu"))
    assert convolution.get_parameter("weight").is_contiguous(memory_format=torch.channels_last)
    assert place(nn.Linear(3, 4), torch.device("cpu")).get_parameter("weight").is_contiguous()


@pytest.mark.parametrize(
    ("name", "amx", "avx512", "channels", "precision"),
    [
        ("AMD EPYC", False, True, 16, "bfloat16"),
        ("AMD EPYC", False, False, 64, "float32"),
        ("Intel Xeon", True, True, 16, "bfloat16"),
        ("Intel Xeon", False, True, 16, "float32"),
        ("Intel Xeon", False, True, 32, "bfloat16"),
        ("Intel Xeon", False, False, 64, "float32"),
    ],
)
def test_a_processor_computes_in_bfloat16_where_that_is_sooner(
    name: str, amx: bool, avx512: bool, channels: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert choose_precision(torch.device("cpu"), channels=channels) == precision


def test_a_torch_that_names_no_instructions_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get_capabilities", "_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name)
    assert choose_precision(torch.device("cpu"), channels=64) == "float32"


def test_an_unknown_precision_is_named() -> None:
    assert known_precision("bfloat16") == "bfloat16"
    with pytest.raises(InputError, match="precision 'float16' is none of float32, bfloat16"):
        known_precision("float16")


def test_a_learner_asks_whether_its_precision_is_known(few_digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(learner, "known_precision", lambda name: asked.append(name) or "bfloat16")
    one = Learner(lambda: models.linear(few_digits.train.shape, 10), few_digits.train)
    assert (asked, one.precision) == (["float32"], "bfloat16")


@pytest.mark.parametrize(("amx", "avx512"), [(False, False), (True, False), (False, True)])
def test_a_processor_multiplies_bfloat16_with_either_instructions(
    amx: bool, avx512: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    assert multiplies_bfloat16() == (amx or avx512)
