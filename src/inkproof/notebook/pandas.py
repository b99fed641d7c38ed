"""`pd`: pandas where it is installed, else a stand-in that says how to install it when it is used."""

from importlib import import_module
from typing import Any

from inkproof.errors import InputError


class _Missing:
    """Stands for pandas: a notebook that never uses it needs no pandas."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what Python itself looks for
            raise AttributeError(name)
        raise InputError(f"pd.{name} needs pandas, which is not installed: pip install 'inkproof[notebook]'")


try:
    pd: Any = import_module("pandas")
except ModuleNotFoundError:
    pd = _Missing()
