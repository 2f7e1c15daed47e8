import gzip
import hashlib
import io
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from core.errors import DataError
from datamodules.cifar import CIFAR10
from datamodules.download import Archive
from datamodules.mnist import MNIST


def archive(path: Path, **options: object) -> Archive:
    checksum = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return Archive(**{"url": path.as_uri(), "checksum": checksum, **options})  # type: ignore[arg-type]


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    """A publisher's folder."""
    (tmp_path / "offered").mkdir()
    return tmp_path / "offered"


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_plain_file_is_put_where_it_belongs(offered: Path, tmp_path: Path) -> None:
    (offered / "a.gz").write_bytes(b"content")
    archive(offered / "a.gz", folder="raw").fetch(tmp_path / "root")
    assert (tmp_path / "root/raw/a.gz").read_bytes() == b"content"
    assert files_below(tmp_path / "root") == ["raw/a.gz"]


def test_only_the_wanted_members_of_an_archive_are_written(offered: Path, tmp_path: Path) -> None:
    path = tar(offered / "a.tar.gz", {"d/x.bin": b"x", "d/y.bin": b"y", "../evil": b"e"})
    archive(path, members=("d/x.bin",)).fetch(tmp_path / "root")
    assert files_below(tmp_path / "root") == ["d/x.bin"]
    assert not (tmp_path / "evil").exists()


def test_another_content_is_refused_and_nothing_is_kept(offered: Path, tmp_path: Path) -> None:
    (offered / "a.gz").write_bytes(b"content")
    wanted = archive(offered / "a.gz")
    (offered / "a.gz").write_bytes(b"tampered")
    with pytest.raises(DataError, match=rf"expected md5 {wanted.checksum} for .*\(8 bytes\)"):
        wanted.fetch(tmp_path / "root")
    assert files_below(tmp_path / "root") == []


def test_sha256_is_understood(offered: Path, tmp_path: Path) -> None:
    (offered / "a").write_bytes(b"content")
    checksum = hashlib.sha256(b"content").hexdigest()
    archive(offered / "a", checksum=checksum, algorithm="sha256").fetch(tmp_path / "root")
    assert files_below(tmp_path / "root") == ["a"]


def test_a_member_that_is_not_there_is_named(offered: Path, tmp_path: Path) -> None:
    path = tar(offered / "a.tar.gz", {"d/x.bin": b"x"})
    with pytest.raises(DataError, match=r"expected d/z\.bin in .*a\.tar\.gz"):
        archive(path, members=("d/z.bin",)).fetch(tmp_path / "root")


def test_an_address_that_does_not_answer_is_named(tmp_path: Path) -> None:
    wanted = Archive(url=(tmp_path / "gone.gz").as_uri(), checksum="0" * 32)
    with pytest.raises(ConnectionError, match=r"cannot download file://.*gone\.gz"):
        wanted.fetch(tmp_path / "root")
    assert files_below(tmp_path) == []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing: a test prints nothing."""


@pytest.fixture
def server(offered: Path) -> Iterator[str]:
    """The publisher's folder on this machine's own network."""
    handler = partial(_Quiet, directory=str(offered))
    with HTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


def test_a_dataset_downloads_itself_when_that_is_allowed(
    offered: Path, tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = bytes([4]) + bytes(3072)
    path = tar(offered / "c.tar.gz", {"cifar-10-batches-bin/test_batch.bin": batch})
    wanted = archive(
        path, url=f"{server}/c.tar.gz", members=("cifar-10-batches-bin/test_batch.bin",)
    )
    monkeypatch.setattr(CIFAR10, "archives", (wanted,))
    root = tmp_path / "root"
    cifar = CIFAR10(root=str(root), download=True)
    assert cifar.faults("test") == []
    assert not root.exists()
    assert cifar.count("test") == 1
    path.unlink()
    assert cifar.labels("test").tolist() == [4]  # what is there is not fetched again


def test_compressed_files_are_kept_as_they_are(
    offered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = gzip.compress(struct.pack(">4i", 2051, 1, 28, 28) + bytes(784))
    label = gzip.compress(struct.pack(">2i", 2049, 1) + b"\5")
    (offered / "t10k-images-idx3-ubyte.gz").write_bytes(image)
    (offered / "t10k-labels-idx1-ubyte.gz").write_bytes(label)
    wanted = tuple(archive(path) for path in sorted(offered.iterdir()))
    monkeypatch.setattr(MNIST, "archives", wanted)
    mnist = MNIST(root=str(tmp_path / "root"), download=True)
    assert mnist.labels("test").tolist() == [5]


def test_lightning_asks_for_the_download(
    offered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (offered / "a.bin").write_bytes(b"x")
    monkeypatch.setattr(MNIST, "archives", (archive(offered / "a.bin"),))
    MNIST(root=str(tmp_path / "no")).prepare_data()
    assert not (tmp_path / "no").exists()
    MNIST(root=str(tmp_path / "yes"), download=True).prepare_data()
    assert files_below(tmp_path / "yes") == ["a.bin"]


def test_nothing_is_downloaded_unless_it_is_allowed(
    offered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "fetch", lambda *_: pytest.fail("it was fetched"))
    with pytest.raises(FileNotFoundError, match="download=true"):
        CIFAR10(root=str(tmp_path)).dataset("test")
