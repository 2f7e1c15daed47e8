import hashlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.digest import CHUNK_BYTES, digest, file_digest

VALUES = st.none() | st.integers() | st.text(max_size=4) | st.lists(st.booleans(), max_size=3)


def test_a_digest_is_the_sha256_of_compact_sorted_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,2],"b":null}').hexdigest()[:32]
    assert digest({"b": None, "a": [1, 2]}) == expected


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=5))
def test_the_order_of_keys_does_not_matter(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_the_order_of_a_list_matters() -> None:
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf]])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(value)


def test_what_json_cannot_write_is_refused() -> None:
    with pytest.raises(TypeError, match="Path"):
        digest({"path": Path("x")})


def test_a_digest_is_the_same_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    code = "from core.digest import digest; import sys; sys.stdout.write(digest({'b': 1, 'a': 2}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == digest({"a": 2, "b": 1})


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1], ids=str)
def test_a_file_is_digested_whole_whatever_its_size(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert file_digest(path) == hashlib.sha256(content[:size]).hexdigest()[:32]
