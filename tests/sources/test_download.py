"""Downloads, from servers of this machine: resuming, checksums, mirrors, and the one error when all fail."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from inkproof.errors import InputError
from inkproof.sources.download import FASHION_MNIST, MNIST, Dataset, RemoteFile, fetch

CONTENT = bytes(range(256)) * 50
FILE = RemoteFile("train-images.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@contextmanager
def server(content: bytes, *, ranges: bool = True) -> Iterator[tuple[str, list[str | None]]]:
    """A mirror's address, and the Range of each request it got."""
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            asked.append(wanted)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *arguments: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}/", asked
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


@pytest.fixture
def dataset() -> Callable[..., Dataset]:
    return lambda *mirrors: Dataset("mnist", mirrors, (FILE,), ("0", "1"))


def closed_port() -> str:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listening:
        return f"http://127.0.0.1:{listening.server_port}/"


def test_a_file_is_fetched_once_and_kept(dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    with server(CONTENT) as (mirror, asked):
        fetch(dataset(mirror), tmp_path)
        fetch(dataset(mirror), tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
    assert asked == [None]
    assert [path.name for path in tmp_path.iterdir()] == [FILE.name]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_unfinished_download_resumes_or_starts_over(
    ranges: bool, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    (tmp_path / f"{FILE.name}.partial").write_bytes(CONTENT[:1000])
    with server(CONTENT, ranges=ranges) as (mirror, asked):
        fetch(dataset(mirror), tmp_path)
    assert asked == ["bytes=1000-"]
    assert (tmp_path / FILE.name).read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [b"x" * len(CONTENT), CONTENT[:500], CONTENT + b"more"])
def test_a_wrong_file_is_thrown_away_and_the_next_mirror_asked(
    wrong: bytes, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    with server(wrong) as (bad, _), server(CONTENT) as (good, _):
        fetch(dataset(closed_port(), bad, good), tmp_path)
    assert (tmp_path / FILE.name).read_bytes() == CONTENT


def test_when_all_mirrors_fail_one_error_says_how_to_give_files_by_hand(
    dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        fetch(dataset(closed_port(), closed_port()), tmp_path)
    message = str(caught.value)
    assert message.startswith("mnist: train-images.gz could not be downloaded (http://127.0.0.1:")
    assert "put train-images.gz into a folder and name it: --data FOLDER" in message
    assert str(tmp_path) in message


def test_the_data_sets_name_all_four_files_with_checksums() -> None:
    for known in (MNIST, FASHION_MNIST):
        assert [file.name for file in known.files] == [
            "train-images-idx3-ubyte.gz",
            "train-labels-idx1-ubyte.gz",
            "t10k-images-idx3-ubyte.gz",
            "t10k-labels-idx1-ubyte.gz",
        ]
        assert len(known.classes) == 10
        assert all(len(file.sha256) == 64 for file in known.files)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 302 Found\r\nLocation: http://a b/\r\n\r\n",
        b"",
    ],
)
def test_a_mirror_that_talks_nonsense_is_passed_over(
    answer: bytes, dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    class Nonsense(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)

    with HTTPServer(("127.0.0.1", 0), Nonsense) as broken, server(CONTENT) as (mirror, _):
        thread = Thread(target=broken.handle_request)
        thread.start()
        fetch(dataset(f"http://127.0.0.1:{broken.server_port}/", mirror), tmp_path)
        thread.join()
    assert (tmp_path / FILE.name).read_bytes() == CONTENT
