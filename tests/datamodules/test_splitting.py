import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from datamodules.splitting import stratified

PARTS = {"test": 0.25, "train": 0.75}


def test_every_class_gives_its_share() -> None:
    labels = np.array([0] * 8 + [1] * 4)
    parts = stratified(labels, fractions=PARTS, seed=3)
    assert np.bincount(labels[parts["test"]]).tolist() == [2, 1]
    assert np.bincount(labels[parts["train"]]).tolist() == [6, 3]


@given(seed=st.integers(0, 1000), n=st.integers(20, 60), classes=st.integers(1, 3))
def test_parts_are_ascending_and_cover_every_position_once(seed: int, n: int, classes: int) -> None:
    parts = stratified(np.arange(n) % classes, fractions=PARTS, seed=seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))
    assert all((np.diff(positions) > 0).all() for positions in parts.values())


def test_the_split_is_the_same_for_ever() -> None:
    parts = stratified(np.zeros(12, np.int64), fractions=PARTS, seed=1)
    assert parts["test"].tolist() == [0, 3, 11]


def test_another_seed_is_another_split() -> None:
    labels = np.zeros(40, np.int64)
    one, two = (stratified(labels, fractions=PARTS, seed=seed)["test"] for seed in (1, 2))
    assert one.tolist() != two.tolist()


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="got none in test"):
        stratified(np.array([0, 1]), fractions=PARTS, seed=0)
