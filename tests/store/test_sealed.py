import json
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.quarantine import CorruptFileWarning
from store.sealed import read_sealed, sealed, write_sealed

SIZE = len(sealed({"n": 1, "name": "accuracy", "values": [0.5, 0.25]}))

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cell.json"
    write_sealed(path, {"n": 1, "name": "accuracy", "values": [0.5, 0.25]})
    return path


@given(st.dictionaries(st.text().filter(lambda key: key != "sha256"), json_values, min_size=1))
def test_any_json_is_read_as_it_was_written(value: dict[str, object]) -> None:
    stored = json.loads(sealed(value))
    del stored["sha256"]
    assert stored == value


def test_a_file_is_read_as_it_was_written(file: Path) -> None:
    assert read_sealed(file) == {"n": 1, "name": "accuracy", "values": [0.5, 0.25]}


def test_an_absent_file_is_none_without_a_warning(tmp_path: Path) -> None:
    assert read_sealed(tmp_path / "absent.json") is None


@pytest.mark.parametrize("size", range(SIZE))
def test_a_file_cut_anywhere_is_moved_aside_and_absent(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])
    with pytest.warns(CorruptFileWarning, match=r"cell\.json is damaged.*cell\.json\.corrupt-0"):
        assert read_sealed(file) is None
    assert read_sealed(file) is None
    assert file.with_name("cell.json.corrupt-0").stat().st_size == size


@pytest.mark.parametrize("position", range(SIZE))
def test_one_flipped_bit_anywhere_is_noticed(file: Path, position: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[position] ^= 4
    file.write_bytes(raw)
    with pytest.warns(CorruptFileWarning):
        assert read_sealed(file) is None


def test_damaged_files_of_one_name_are_all_kept(file: Path) -> None:
    for content in ("first", "second"):
        file.write_text(content)
        with pytest.warns(CorruptFileWarning):
            read_sealed(file)
    kept = sorted(path.read_text() for path in file.parent.iterdir())
    assert kept == ["first", "second"]


def test_json_that_was_not_written_by_the_store_is_not_used(file: Path) -> None:
    file.write_text('{"n": 1}')
    with pytest.warns(CorruptFileWarning):
        assert read_sealed(file) is None


def test_a_good_file_that_has_replaced_the_damaged_one_stays(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("damaged")

    def replaced_meanwhile(raw: bytes) -> None:
        write_sealed(file, {"n": 2})

    monkeypatch.setattr("store.sealed._is_whole", replaced_meanwhile)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_sealed(file) is None
    monkeypatch.undo()
    assert read_sealed(file) == {"n": 2}


def test_a_damaged_file_that_cannot_be_moved_is_named_and_ignored(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("damaged")

    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.warns(CorruptFileWarning, match="could not be moved aside"):
        assert read_sealed(file) is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": {"lr": float("nan")}}, r"a\.lr is nan"),
        ({"a": [1.0, float("inf")]}, r"a\[1\] is inf"),
        ({"a": {3: float("-inf")}}, r"a\.3 is -inf"),
    ],
    ids=["nan", "infinity in a list", "below a number"],
)
def test_a_number_json_has_not_is_refused_by_its_key(value: dict[str, object], place: str) -> None:
    with pytest.raises(ValueError, match=place):
        sealed(value)


def test_an_object_json_has_not_is_refused_by_its_key() -> None:
    with pytest.raises(TypeError, match=r"trainer\.root is a PosixPath"):
        sealed({"trainer": {"root": Path("x")}})
