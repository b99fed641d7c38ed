"""Files on the notebook surface: listing paths, the sample of threes and sevens, a competition's files."""

import gzip
import os
import struct
import sys
import zipfile
from pathlib import Path as PlainPath

import numpy as np
import pytest

from inkproof import notebook
from inkproof.errors import InputError
from inkproof.notebook import L, Path, URLs, setup_comp, untar_data


def test_paths_list_what_is_in_them(tmp_path: PlainPath) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).touch()
    listed = Path(tmp_path).ls()
    assert listed.attrgot("name") == ["a.csv", "b.csv", "c.txt"]
    assert repr(L(range(12))) == "(#12) [0,1,2,3,4,5,6,7,8,9...]"
    assert (Path(tmp_path) / "x").parent.ls(n_max=1).map(str) == [str(tmp_path / "a.csv")]
    assert listed.filter(lambda file: file.suffix == ".txt").sorted(reverse=True)[:1] == [tmp_path / "c.txt"]
    assert L([(1, 2), (3, 4)]).itemgot(1) == [2, 4]


def _write_idx(folder: PlainPath, part: str, labels: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">4I", 0x803, *pixels.shape) + pixels.tobytes())
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">2I", 0x801, len(labels)) + bytes(labels))


def test_the_sample_of_threes_and_sevens_is_made_from_the_cached_mnist() -> None:
    cached = PlainPath(os.environ["INKPROOF_CACHE"]) / "mnist"
    _write_idx(cached, "train", [*range(10), 3, 7, 7])
    _write_idx(cached, "t10k", [*range(10), 3])
    path = untar_data(URLs.MNIST_SAMPLE)
    assert path.ls().attrgot("name") == ["train", "valid"]
    counts = [len((path / side / name).ls()) for side in ("train", "valid") for name in ("3", "7")]
    assert counts == [2, 3, 2, 1]
    with notebook.Image.open((path / "train" / "3").ls()[0]) as picture:
        assert (picture.size, picture.mode) == ((28, 28), "L")
    assert untar_data(URLs.MNIST_SAMPLE) == path
    assert len(notebook.get_image_files(untar_data(URLs.MNIST) / "testing")) == 11
    with pytest.raises(InputError, match="untar_data knows"):
        untar_data("https://example.org/flowers.tgz")


def test_without_its_test_files_a_part_of_the_training_images_is_held_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_network(*arguments: object, **keywords: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("inkproof.sources.download.urlopen", no_network)
    with pytest.raises(InputError, match="could not be downloaded"):
        untar_data(URLs.MNIST_SAMPLE)
    _write_idx(PlainPath(os.environ["INKPROOF_CACHE"]) / "mnist", "train", [3, 7] * 30)
    path = untar_data(URLs.MNIST_SAMPLE)
    assert "a sixth of its training images is held out" in capsys.readouterr().out
    counts = [len((path / side / name).ls()) for side in ("train", "valid") for name in ("3", "7")]
    assert counts == [25, 25, 5, 5]


def test_a_competitions_files_on_disk_come_first(tmp_path: PlainPath, monkeypatch: pytest.MonkeyPatch) -> None:
    working = tmp_path / "working"
    working.mkdir()
    monkeypatch.chdir(working)
    (tmp_path / "input" / "digit-recognizer").mkdir(parents=True)
    assert setup_comp("digit-recognizer").resolve() == tmp_path / "input" / "digit-recognizer"
    (working / "digit-recognizer").mkdir()
    assert setup_comp("digit-recognizer") == Path("digit-recognizer")
    with pytest.raises(InputError, match="is no name of a competition"):
        setup_comp("../elsewhere")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Kaggle's client is a shell script")
def test_else_kaggles_client_fetches_them(tmp_path: PlainPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"no files of digit-recognizer .*pip install kaggle"):
        setup_comp("digit-recognizer")
    with zipfile.ZipFile(tmp_path / "served.zip", "w") as archive:
        archive.writestr("train.csv", "label,pixel0\n")
    client = tmp_path / "bin" / "kaggle"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\ncp "{tmp_path}/served.zip" "$6"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:/usr/bin:/bin")
    assert (setup_comp("digit-recognizer") / "train.csv").read_text() == "label,pixel0\n"
    client.write_text("#!/bin/sh\necho 403 - Forbidden >&2; exit 1\n")
    with pytest.raises(InputError, match=r"gave no files \(403 - Forbidden\): accept the rules"):
        setup_comp("another-competition")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "digit-recognizer", "served.zip"]
