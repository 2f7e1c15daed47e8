import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.label_space import LabelSpace


def test_each_class_takes_its_largest_member() -> None:
    space = LabelSpace(name="s", model_classes=5, members=((4, 0), (2,)))
    logits = torch.tensor([[1.0, 9.0, 2.0, 9.0, 3.0], [5.0, 9.0, -1.0, 9.0, 4.0]])
    assert space.restrict(logits).tolist() == [[3.0, 2.0], [5.0, -1.0]]


@given(seed=st.integers(0, 2**31), classes=st.integers(1, 6), batch=st.integers(1, 8))
def test_the_best_class_is_the_one_that_holds_the_best_member(
    seed: int, classes: int, batch: int
) -> None:
    generator = np.random.default_rng(seed)
    order = generator.permutation(12)[: 2 * classes]
    members = tuple(tuple(int(i) for i in order[2 * c : 2 * c + 1 + c % 2]) for c in range(classes))
    space = LabelSpace(name="s", model_classes=12, members=members)
    logits = torch.from_numpy(generator.normal(size=(batch, 12)))
    flat = [index for group in members for index in group]
    owner = {index: c for c, group in enumerate(members) for index in group}
    expected = [owner[flat[int(row[flat].argmax())]] for row in logits.numpy()]
    assert space.restrict(logits).argmax(1).tolist() == expected


def test_a_random_model_on_200_of_1000_classes_is_right_once_in_200() -> None:
    space = LabelSpace(name="s", members=tuple((i,) for i in range(0, 1000, 5)))
    logits = torch.randn(8_000, 1000, generator=torch.Generator().manual_seed(0))
    hits = space.restrict(logits).argmax(1).eq(17).double().mean().item()
    assert hits == pytest.approx(1 / 200, abs=0.0024)  # 3 standard errors of 8,000 draws


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param((), "at least one class", id="no-class"),
        pytest.param(((0,), ()), "at least one class", id="class-without-member"),
        pytest.param(((0,), (1, 0)), r"\[0\] of the model stand in two", id="member-of-two"),
        pytest.param(((0,), (3,)), r"in 0\.\.2 .* got 0\.\.3", id="beyond-the-model"),
        pytest.param(((-1,), (2,)), r"got -1\.\.2", id="negative"),
    ],
)
def test_impossible_members_are_refused(members: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSpace(name="s", model_classes=3, members=members)


@pytest.mark.parametrize("shape", [(2, 4), (3,)], ids=["other-width", "no-batch"])
def test_logits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    space = LabelSpace(name="s", model_classes=3, members=((0,),))
    with pytest.raises(ValueError, match=r"expected logits \[B, 3\] .*'s'"):
        space.restrict(torch.zeros(shape))


def test_the_json_form_says_all_that_decides_the_answer() -> None:
    space = LabelSpace(name="s", model_classes=3, members=((2,), (0, 1)))
    assert json.loads(json.dumps(space.as_dict())) == {
        "name": "s",
        "model_classes": 3,
        "members": [[2], [0, 1]],
    }
    assert len(space) == 2
