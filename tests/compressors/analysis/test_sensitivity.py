import functools

import pytest
import torch
from torch import Tensor, nn

from compressors.analysis.sensitivity import Sensitivity, Stop, sensitivity_analysis
from compressors.base import Decision, Task
from compressors.pruning.filters import L1Filter
from compressors.pruning.level import Level
from compressors.selfcheck import State
from core.errors import ConfigError, IncompatibleModel

IMAGES = torch.ones(2, 1, 1, 1)


class OneDead(nn.Module):
    """Filters 1, 2, 3, 4 are added up; those of `dead` meet nothing but zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.live = nn.Conv2d(1, 4, 1, bias=False)
        self.dead = nn.Conv2d(1, 4, 1, bias=False)
        self.head = nn.Linear(8, 1, bias=False)
        for layer in (self.live, self.dead):
            layer.weight.data = torch.arange(1.0, 5).view(4, 1, 1, 1)
        self.head.weight.data = torch.tensor([[1.0] * 4 + [0.0] * 4])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.live(x), self.dead(x)], dim=1).flatten(1))


class Sum(nn.Module):
    """Two layers that are added lose the same filters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(1, 4, 1, bias=False)
        self.few, self.head = nn.Conv2d(4, 2, 1), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.few(self.a(x) + self.b(x)).flatten(1))


def logit(model: nn.Module) -> float:
    with torch.no_grad():
        return float(model(IMAGES)[0, 0])


HALVES = (0.25, 0.5, 0.75)


def test_a_layer_that_does_nothing_can_lose_everything() -> None:
    model = OneDead().eval()
    before = State.kept(model)
    found = sensitivity_analysis(model, IMAGES, logit, sparsities=(0.75, 0.25, 0.5))
    # the smallest filters go first: 10 - 1, 10 - 1 - 2, 10 - 1 - 2 - 3
    assert found.baseline == 10
    assert found.scores == {"live": [9, 7, 4], "dead": [10, 10, 10]}
    assert found.tied == {"live": ("live",), "dead": ("dead",)}
    assert found.to_csv() == ("layername,0.25,0.5,0.75\nlive,9.0,7.0,4.0\ndead,10.0,10.0,10.0\n")
    assert State(model) == before


@pytest.mark.parametrize(
    ("stop", "taken"),
    [
        (Stop(), 3), (Stop(minimum=9), 2), (Stop(minimum=9.5), 1), (Stop(drop=1), 2),
        (Stop(drop=3), 3), (Stop(maximum=8.5), 1), (Stop(maximum=9), 3), (Stop(rise=0.0), 3),
    ],
    ids=str,
)  # fmt: skip
def test_a_layer_is_pruned_no_further_once_the_score_says_so(stop: Stop, taken: int) -> None:
    found = sensitivity_analysis(
        OneDead().eval(), IMAGES, logit, sparsities=HALVES, layers=["live"], stop=stop
    )
    assert found.scores == {"live": [9, 7, 4][:taken]}
    assert found.to_csv().splitlines()[1].count(",") == 3


def test_a_rise_stops_where_lower_is_better() -> None:
    found = sensitivity_analysis(
        OneDead().eval(), IMAGES, lambda model: -logit(model), sparsities=HALVES,
        stop=Stop(rise=2.0),
    )  # fmt: skip
    assert found.scores == {"live": [-9, -7], "dead": [-10, -10, -10]}


def test_tied_layers_are_scored_once_and_a_tiny_one_is_left_out() -> None:
    torch.manual_seed(0)
    calls: list[int] = []
    model = Sum().eval()
    found = sensitivity_analysis(
        model, IMAGES, lambda m: calls.append(1) or logit(m), sparsities=(0.25, 0.3)
    )
    assert found.tied == {"a": ("a", "b"), "b": ("b", "a")}
    assert found.scores["a"] == found.scores["b"]
    assert len(calls) == 1 + 2
    assert list(found.left_out) == ["few"]
    assert "rounds to nothing" in found.left_out["few"]


def test_any_compressor_can_be_the_criterion() -> None:
    model = OneDead().eval()
    criterion = functools.partial(Level, op_types=["Linear", "Conv2d"], exclude=["dead"])
    found = sensitivity_analysis(model, IMAGES, logit, criterion=criterion, sparsities=(0.5,))
    assert found.scores == {"live": [7]}


def test_strengths_that_change_nothing_are_not_measured_and_tell_why() -> None:
    found = sensitivity_analysis(OneDead().eval(), IMAGES, logit, sparsities=(0.1, 0.2, 0.25))
    assert found.scores["live"] == [None, None, 9]
    assert found.to_csv().splitlines()[1] == "live,,,9.0"
    assert list(found.unmeasured["live"]) == [0.1, 0.2]
    assert "0.2 of 4 filters rounds to nothing" in found.unmeasured["live"][0.2]
    assert found.gaps()[1].startswith("live: not measured at 0.2: L1Filter changes nothing.")
    assert found.tolerated(drop=0.5) == {"live": 0.0, "dead": 0.25}


def test_what_cannot_be_pruned_at_one_strength_is_no_loss_less() -> None:
    class Half(L1Filter):
        def decide(self, task: Task) -> Decision:
            if set(task.selection.sparsity.values()) == {0.5}:
                raise IncompatibleModel("half is too much")
            return super().decide(task)

    found = sensitivity_analysis(
        Sum().eval(), IMAGES, logit, criterion=Half, sparsities=HALVES, layers=["a", "b"]
    )
    assert found.scores["a"][1] is found.scores["b"][1] is None
    assert None not in (found.scores["a"][0], found.scores["a"][2])
    assert found.gaps() == ["a, b: not measured at 0.5: half is too much"]
    last = Sensitivity(baseline=0.9, sparsities=(0.1, 0.5), scores={"a": [0.9, None]})
    assert last.tolerated(drop=0.1) == {"a": 0.1}


@pytest.mark.parametrize("sparsities", [(), (0.5, 1), (0.5, -0.1)], ids=str)
def test_a_strength_that_is_none_is_refused(sparsities: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"\[0, 1\)"):
        sensitivity_analysis(OneDead(), IMAGES, logit, sparsities=sparsities)


def test_where_no_layer_can_be_pruned_the_reason_is_told() -> None:
    with pytest.raises(IncompatibleModel, match=r"no layer can be pruned.*rounds to nothing"):
        sensitivity_analysis(OneDead().eval(), IMAGES, logit, sparsities=(0.1,))


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="the model as it is, got nan"):
        sensitivity_analysis(OneDead().eval(), IMAGES, lambda _: float("nan"))


def test_tolerated_ends_at_the_first_score_that_is_too_low() -> None:
    found = Sensitivity(
        baseline=0.9, sparsities=(0.1, 0.2, 0.3), scores={"a": [0.85, 0.5, 0.9], "b": [0.8]}
    )
    assert found.tolerated(drop=0.06) == {"a": 0.1, "b": 0.0}
    assert found.tolerated(drop=0.41) == {"a": 0.3, "b": 0.1}
