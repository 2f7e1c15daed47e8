import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from core.cache import cache_dir
from core.errors import DataError
from models.download import fetch, is_url


class Quiet(SimpleHTTPRequestHandler):
    served: list[str] = []  # noqa: RUF012 - shared on purpose: the server makes the instances

    def log_message(self, *arguments: object) -> None:
        Quiet.served.append(self.path)


class Cut(BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"half")

    def log_message(self, *arguments: object) -> None:
        pass


def serving(handler: object) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INTERPLAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Quiet, "served", [])
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    yield from serving(partial(Quiet, directory=str(folder)))


@pytest.fixture
def cutting_server(folder: Path) -> Iterator[str]:
    yield from serving(Cut)


def files_in_cache() -> list[Path]:
    return [path for path in cache_dir().rglob("*") if path.is_file()]


def test_a_file_is_fetched_once(server: str, folder: Path) -> None:
    (folder / "a.pt").write_bytes(b"weights")
    first, second = fetch(f"{server}/a.pt"), fetch(f"{server}/a.pt")
    assert first == second
    assert first.read_bytes() == b"weights"
    assert first.name == "a.pt"
    assert Quiet.served == ["/a.pt"]


def test_two_addresses_with_one_name_are_two_files(server: str, folder: Path) -> None:
    (folder / "a.pt").write_bytes(b"1")
    (folder / "b").mkdir()
    (folder / "b" / "a.pt").write_bytes(b"2")
    contents = [fetch(f"{server}/{name}").read_bytes() for name in ("a.pt", "b/a.pt")]
    assert contents == [b"1", b"2"]


def test_a_file_that_is_not_there_says_what_to_do(server: str) -> None:
    with pytest.raises(DataError, match=r"404.*pass model.checkpoint=PATH"):
        fetch(f"{server}/missing.pt")
    assert files_in_cache() == []


def test_a_connection_that_breaks_leaves_nothing_behind(cutting_server: str) -> None:
    with pytest.raises(DataError, match=r"expected 100 bytes from .*, got 4"):
        fetch(f"{cutting_server}/a.pt")
    assert files_in_cache() == []


def test_nobody_answers(folder: Path) -> None:
    with pytest.raises(DataError, match="cannot download the checkpoint"):
        fetch("http://127.0.0.1:9/a.pt")


def test_other_schemes_are_refused() -> None:
    with pytest.raises(DataError, match="starts with http, https, file"):
        fetch("ftp://example.org/a.pt")


@pytest.mark.parametrize(
    ("source", "expected"),
    [("https://a/b.pt", True), ("file:///b.pt", True), ("b.pt", False), ("C:/b.pt", False)],
)
def test_an_address_is_told_from_a_path(source: str, expected: bool) -> None:
    assert is_url(source) is expected
