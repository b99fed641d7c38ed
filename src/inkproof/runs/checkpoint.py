"""A Learner's state on disk: one safetensors file, so that nothing that is loaded can run code.

The nested state is flattened: every tensor gets a number as its name, and what is no tensor goes as JSON into the
file's header, with each tensor's number where it stood.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inkproof.errors import InputError
from inkproof.files import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write nested dictionaries and lists of tensors, numbers, text and None, atomically."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_flatten(state, tensors))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"structure": structure})


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, tensors on the CPU.

    Raises:
        InputError: the file is damaged or no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            state = _restore(json.loads(file.metadata()["structure"]), tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no checkpoint that can be read ({error}): train anew into another --out") from None
    assert isinstance(state, dict), "a checkpoint holds a dictionary"
    return state


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.contiguous().clone()
        return {"tensor": name, "channels_last": value.ndim == 4 and not value.is_contiguous()}
    if isinstance(value, dict):
        return {"items": [[key, _flatten(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_flatten(item, tensors) for item in value], "tuple": isinstance(value, tuple)}
    assert value is None or isinstance(value, str | int | float | bool), f"{type(value)} in a state"
    return value


def _restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.contiguous(memory_format=torch.channels_last) if value["channels_last"] else tensor
    if "list" in value:
        items = [_restore(item, tensors) for item in value["list"]]
        return tuple(items) if value["tuple"] else items
    return {key: _restore(item, tensors) for key, item in value["items"]}
