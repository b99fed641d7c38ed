"""`pd` and `plt` of a notebook: the libraries themselves, from when they are used."""

import subprocess
import sys

import pytest

from inkproof.errors import InputError
from inkproof.notebook import pd


def test_without_pandas_pd_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for use in (lambda: pd.read_csv("train.csv"), lambda: dir(pd)):
        with pytest.raises(InputError, match=r"this needs pandas.*pip install 'inkproof\[notebook\]'"):
            use()
    assert not hasattr(pd, "__wrapped__"), "what Python itself looks for"


def test_pandas_that_lacks_a_library_of_its_own_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(name: str) -> None:
        raise ModuleNotFoundError("No module named 'pytz'", name="pytz")

    monkeypatch.setattr("inkproof.notebook.libraries.import_module", lacking)
    with pytest.raises(ModuleNotFoundError, match="pytz"):
        pd.read_csv("train.csv")


def test_pandas_and_pyplot_are_imported_when_they_are_used() -> None:
    code = """
import pickle, sys
from unittest import mock
from inkproof.notebook import *
print(*sorted({"pandas", "matplotlib"} & set(sys.modules)))
print(pd.Series([1, 2]).sum(), plt.Normalize.__module__)
print(pd.__version__ == sys.modules["pandas"].__version__, len(dir(pd)) > 100)
show = plt.show
with mock.patch.object(plt, "show", print):
    patched = sys.modules["matplotlib.pyplot"].show
print((patched, plt.show) == (print, show), pickle.loads(pickle.dumps(pd)) is sys.modules["pandas"])
"""
    assert (
        subprocess.check_output([sys.executable, "-c", code], text=True)
        == "\n3 matplotlib.colors\nTrue True\nTrue True\n"
    )
