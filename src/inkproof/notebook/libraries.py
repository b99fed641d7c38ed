"""`pd` and `plt`: imported when a notebook first asks them for something, for many ask for nothing."""

from importlib import import_module
from types import ModuleType
from typing import Any

from inkproof.errors import InputError


class _Later(ModuleType):
    """Stands for a module until it is used, and without it says how to install it."""

    def __getattr__(self, name: str) -> Any:
        try:
            module = import_module(self.__name__)
        except ModuleNotFoundError as error:
            if name.startswith("__"):  # what Python itself looks for
                raise AttributeError(name) from error
            library = self.__name__.partition(".")[0]
            if error.name != library:
                raise
            raise InputError(
                f"{self.__name__}.{name} needs {library}, which is not installed: pip install 'inkproof[notebook]'"
            ) from error
        return getattr(module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(import_module(self.__name__), name, value)

    def __dir__(self) -> list[str]:
        return dir(import_module(self.__name__))

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)


pd: Any = _Later("pandas")
plt: Any = _Later("matplotlib.pyplot")
