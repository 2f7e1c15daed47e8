import pytest
import torch
from torch import Tensor, nn

from compressors.analysis.conflicts import Masks, fix_mask_conflict
from compressors.pruning.coupling import filter_mask
from compressors.pruning.trial import why_not
from compressors.selfcheck import State
from core.errors import ConfigError

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """Two convolutions are added, `alone` stands behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 1, bias=False)
        self.alone, self.head = nn.Conv2d(4, 3, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.alone(self.a(x) + self.b(x)).mean((2, 3)))


class Grouped(nn.Module):
    """The second convolution sees the first one's filters in two groups, 0 1 2 and 3 4 5."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 1, bias=False)
        self.second, self.head = nn.Conv2d(6, 4, 1, groups=2), nn.Linear(4, 2)
        sizes = torch.tensor([3.0, 1.0, 2.0, 1.0, 3.0, 2.0])
        self.first.weight.data = sizes.view(6, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)).mean((2, 3)))


def masked(model: nn.Module, **filters: list[int]) -> Masks:
    """Masks of whole filters."""
    found = {}
    for name, indices in filters.items():
        layer = model.get_submodule(name)
        flags = torch.zeros(len(layer.weight), dtype=torch.bool)
        flags[indices] = True
        found[name] = {part: mask.clone() for part, mask in filter_mask(layer, flags).items()}
    return found


def filters_of(masks: Masks) -> dict[str, list[int]]:
    return {
        name: parts["weight"].flatten(1).all(1).nonzero().flatten().tolist()
        for name, parts in masks.items()
    }


def test_only_what_both_terms_of_a_sum_mask_stays_masked() -> None:
    model = Residual().eval()
    before = State.kept(model)
    masks = masked(model, a=[0, 2], b=[2, 3], alone=[1])
    found = fix_mask_conflict(masks, model, IMAGES)
    assert filters_of(found.masks) == {"a": [2], "b": [2], "alone": [1]}
    assert found.masks["a"]["bias"].tolist() == [False, False, True, False]
    assert found.changes == [
        "a: filters 0 stay, tied to filters that are not masked, of b",
        "b: filters 3 stay, tied to filters that are not masked, of a",
    ]
    assert filters_of(masks) == {"a": [0, 2], "b": [2, 3], "alone": [1]}
    assert State(model) == before
    assert found.removal.removed == {
        "a": {"out": [2]}, "b": {"out": [2]}, "alone": {"in": [2], "out": [1]},
        "head": {"in": [1]},
    }  # fmt: skip
    assert why_not(model, found.removal, IMAGES) == ""


def test_a_term_without_a_mask_keeps_all() -> None:
    model = Residual().eval()
    found = fix_mask_conflict(masked(model, a=[0]), model, IMAGES)
    assert filters_of(found.masks) == {"a": []}
    assert found.removal.is_empty


def test_a_group_loses_as_many_as_the_other_and_the_smallest_first() -> None:
    model = Grouped().eval()
    found = fix_mask_conflict(masked(model, first=[0, 1, 3]), model, IMAGES)
    assert filters_of(found.masks) == {"first": [1, 3]}
    assert found.changes == ["first: filters 0 stay, one has to, and equally many in each group"]
    assert why_not(model, found.removal, IMAGES) == ""
    found = fix_mask_conflict(masked(model, first=[0, 1]), model, IMAGES)
    assert filters_of(found.masks) == {"first": []}


class Halves(nn.Module):
    """One layer's filters, the second half of which gates the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 8, 1), nn.Conv2d(1, 3, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).view(len(x), 2, -1, 4, 4)
        running = torch.cumsum(self.b(x), 1).sum((1, 2, 3))
        return self.head((y[:, 0] * y[:, 1]).mean((2, 3))) + running[:, None]


def test_filters_that_are_divided_in_parts_go_in_all_of_them() -> None:
    model = Halves().eval()
    found = fix_mask_conflict(masked(model, a=[0, 2, 3, 6], b=[1]), model, IMAGES)
    assert filters_of(found.masks) == {"a": [2, 6], "b": []}
    assert found.removal.removed == {"a": {"out": [2, 6]}, "head": {"in": [2]}}
    assert found.changes[0] == "a: filters 0, 3 stay, tied to filters that are not masked, of a"
    assert found.changes[1].startswith("b: filters 1 stay, ")


@pytest.mark.parametrize(
    ("model", "layer", "staying"),
    [(Residual(), "alone", 1), (Grouped(), "first", 2), (Residual(), "head", 2)],
    ids=["layer", "groups", "logits"],
)
def test_something_of_everything_stays(model: nn.Module, layer: str, staying: int) -> None:
    count = len(model.get_submodule(layer).weight)
    masks = masked(model, **{layer: list(range(count))})
    found = fix_mask_conflict(masks, model.eval(), IMAGES)
    assert len(filters_of(found.masks)[layer]) == count - staying


def test_single_entries_and_a_bias_that_stays_are_no_whole_filter() -> None:
    model = Residual().eval()
    masks = masked(model, alone=[0, 1])
    masks["alone"]["weight"][2, 0] = True
    masks["alone"]["bias"][1] = False
    found = fix_mask_conflict(masks, model, IMAGES)
    assert all(torch.equal(found.masks["alone"][p], masks["alone"][p]) for p in ("weight", "bias"))
    assert found.removal.removed["alone"] == {"out": [0]}
    del masks["alone"]["bias"]
    found = fix_mask_conflict(masks, model, IMAGES)
    assert found.removal.removed["alone"] == {"out": [0, 1]}
    assert found.changes == []


def test_masks_that_do_not_fit_are_refused_all_at_once() -> None:
    masks = {
        "aa": {"weight": torch.zeros(1, dtype=torch.bool)},
        "a": {"weight": torch.zeros(4, 1, 1, 1), "biass": torch.zeros(4, dtype=torch.bool)},
    }
    with pytest.raises(ConfigError) as told:
        fix_mask_conflict(masks, Residual(), IMAGES)
    assert len(told.value.faults) == 3
    assert "did you mean 'a'" in told.value.faults[0]
