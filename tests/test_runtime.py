"""What the machine offers: devices by name, and a model placed on one."""

import pytest
import torch
from torch import nn

from inkproof.errors import InputError
from inkproof.runtime import choose_device, place


def test_a_device_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="device 'mps' is none of auto, cpu, cuda"):
        choose_device("mps")


def test_convolutions_are_placed_with_channels_last_and_others_as_they_are() -> None:
    convolution = place(nn.Conv2d(3, 4, 3), torch.device("cpu"))
    assert convolution.get_parameter("weight").is_contiguous(memory_format=torch.channels_last)
    assert place(nn.Linear(3, 4), torch.device("cpu")).get_parameter("weight").is_contiguous()
