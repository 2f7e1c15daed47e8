import gc
import io
import logging
import os
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobRuntime
from hypothesis import settings
from omegaconf import DictConfig, OmegaConf, flag_override
from yaml import YAMLError

REPOSITORY = Path(__file__).resolve().parents[1]

# The same examples in every run: a change is judged by what it did. New ones: explore.
settings.register_profile("dev", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("explore", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="run the slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--runslow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs with --runslow"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of tests and torch itself stay: the garbage collector need not walk them again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What the collector was kept from may go: extensions complain of objects left at the exit."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def yaml_parsed_once() -> Iterator[None]:
    """Hundreds of compositions read the same files: each text is parsed once, and copied."""
    load = OmegaConf.load

    @cache
    def parsed(text: str) -> Any:
        return load(io.StringIO(text))

    def loaded(file: Any) -> Any:
        text = file.read() if hasattr(file, "read") else Path(file).read_text(encoding="utf-8")
        try:
            return deepcopy(parsed(text))
        except YAMLError:  # a second time, for the name of the file in the message
            if hasattr(file, "seek"):
                file.seek(0)
            return load(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(loaded))
        yield


@pytest.fixture(scope="session", autouse=True)
def composed_once(yaml_parsed_once: None) -> Iterator[None]:
    """Equal lines over equal files are composed once, and copied; Hydra itself asks twice a job."""
    compose = ConfigLoaderImpl.load_configuration
    known: dict[Any, DictConfig] = {}

    def composed(
        self: ConfigLoaderImpl, config_name: Any, overrides: Any, *more: Any, **named: Any
    ) -> DictConfig:
        folders = tuple(_content(element.path) for element in self.config_search_path.get_path())
        job = str(JobRuntime.instance().conf)
        key = (folders, config_name, *overrides, job, more, *sorted(named.items()))
        if key not in known:
            known[key] = compose(self, config_name, overrides, *more, **named)
        config = deepcopy(known[key])
        with flag_override(config, ["readonly", "struct"], False):
            config.hydra.runtime.cwd = str(Path.cwd())
        return config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "load_configuration", composed)
        yield


def _content(path: str) -> Any:
    """What a place of Hydra's search path holds; its own and ours do not change during tests."""
    folder = Path(path.removeprefix("file://"))
    if not folder.is_absolute() or folder == REPOSITORY / "config":
        return path
    files = sorted(folder.rglob("*"))
    return tuple((str(f.relative_to(folder)), f.read_text() if f.is_file() else "") for f in files)


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERPLAY_CACHE", str(folder))
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("WANDB_ERROR_REPORTING", "false")  # else a thread of its own sends reports
        yield folder


@pytest.fixture(autouse=True)
def no_dead_log_handlers() -> None:
    """Forget handlers that a library made during an earlier test: their streams are closed."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if getattr(getattr(handler, "stream", None), "closed", False):
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fast test that reaches for another machine fails; this machine is allowed."""
    if "slow" in request.keywords:
        return
    own = {None, "", "localhost", "::1", "0.0.0.0", socket.gethostname()}

    def refuse(host: Any) -> None:
        if host not in own and not str(host).startswith("127."):
            pytest.fail(f"a fast test has no network, got a connection to {host!r}; mark it slow")

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, address: Any) -> Any:
            refuse(address[0] if isinstance(address, tuple) else None)  # else a unix socket
            return method(self, address)

        return call

    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        refuse(host)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: cifar10/, mnist/, weights/; a test that asks for it is skipped without it."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("INTERPLAY_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data: INTERPLAY_DATA names a folder, {folder} is not there")
    return folder
