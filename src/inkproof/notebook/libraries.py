"""`pd` and `plt`: imported when a notebook first asks them for something, for many ask for nothing."""

from importlib import import_module
from types import ModuleType
from typing import Any

from inkproof.errors import InputError


class _Later(ModuleType):
    """Stands for a module until it is used, and without it says how to install it."""

    def _imported(self) -> ModuleType:
        library = self.__name__.partition(".")[0]
        try:
            return import_module(self.__name__)
        except ModuleNotFoundError as error:
            if error.name != library:
                raise
            raise InputError(
                f"this needs {library}, which is not installed: pip install 'inkproof[notebook]'"
            ) from error

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._imported(), name)
        except InputError as error:
            if name.startswith("__"):  # what Python itself looks for
                raise AttributeError(name) from error
            raise

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._imported(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._imported(), name)

    def __dir__(self) -> list[str]:
        return dir(self._imported())

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)


pd: Any = _Later("pandas")
plt: Any = _Later("matplotlib.pyplot")
