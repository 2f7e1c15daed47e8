import os
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

NOBODY = ("192.0.2.1", 80)  # reserved for documentation


def test_a_fast_test_reaches_no_other_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"192\.0\.2\.1"), socket.socket() as ours:
        ours.connect(NOBODY)


def test_a_fast_test_looks_up_no_other_machine() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"example\.com"):
        urllib.request.urlopen("http://example.com/weights.pt")


def test_a_fast_test_may_talk_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as ours:
            assert ours.recv(1) == b""
        thread.join()


def test_the_users_cache_is_not_used(private_cache: Path) -> None:
    assert os.environ["INTERPLAY_CACHE"] == str(private_cache)
    assert Path.home() not in private_cache.parents
