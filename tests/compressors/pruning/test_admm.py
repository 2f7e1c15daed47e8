from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.base import Decision
from compressors.pruning.admm import ADMM
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel
from models.edits import enforce, history
from models.training import fit

IMAGES = torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


def plan(model: nn.Module, train: Any, images: Tensor, **options: Any) -> Decision:
    given = Resources(batches=lambda _: [], score=lambda _: 0.0, train=train)
    return ADMM(**{"sparsity": 0.5, **options}).plan(model, images, given)


def two_by_two() -> nn.Module:
    model = nn.Sequential(OrderedDict(a=nn.Linear(2, 2, bias=False), h=nn.Linear(2, 2))).eval()
    model.a.weight.data = matrix([1.0, 2.0], [3.0, -4.0])
    return model


def test_the_split_of_a_matrix_goes_as_worked_by_hand() -> None:
    # W0 = 1 2, 3 -4    Z0 = 0 0, 3 -4: the two smallest are gone    U0 = 0
    # W1 = 2 1, 1 -4    Z1 = 2 0, 0 -4                               U1 = W1 - Z1 = 0 1, 1 0
    # W2 = 1 .9, .5 -4  W2 + U1 = 1 1.9, 1.5 -4, Z2 = 0 1.9, 0 -4    U2 = 1 0, 1.5 0
    trained = [matrix([2.0, 1.0], [1.0, -4.0]), *[matrix([1.0, 0.9], [0.5, -4.0])] * 2]
    told: list[float] = []

    def train(
        model: nn.Module, *, epochs: int, first_epoch: int, penalty: Any, after_step: Any
    ) -> None:
        assert (epochs, first_epoch, after_step) == (4, 4 * len(told), enforce)
        told.append(penalty(model).item())
        model.a.weight.data = trained[len(told) - 1]

    options: dict[str, Any] = {"num_iterations": 3, "training_epochs": 4, "row": 0.2}
    images = torch.ones(1, 2)
    decision = plan(two_by_two(), train, images, base_algo="level", op_names=["a"], **options)
    # 0.1 |W - Z + U|^2 of W0, W1, W2: 1 + 4, (1 + 1)^2 twice, 2^2 + (0.9 - 1.9)^2 + (0.5 + 1.5)^2
    assert told == pytest.approx([0.5, 0.8, 0.9])
    # in the end the criterion asks W alone: 0.9 and 0.5 go
    assert decision.model is not None
    assert decision.model.a.weight.tolist() == [[1.0, 0.0], [0.0, -4.0]]
    assert len(history(decision.model)) == 1
    # 5 of 30 at first; 0.81 + 0.25 of 1 + 0.81 + 0.25 + 16 at last
    assert "held 16.67% of the squared weights it touches, and 5.87% after" in decision.notes[0]


def chain() -> nn.Module:
    torch.manual_seed(0)
    layers = OrderedDict(a=nn.Conv2d(1, 2, 3), m=nn.BatchNorm2d(2), b=nn.Conv2d(2, 2, 3))
    return nn.Sequential(layers | {"f": nn.Flatten(), "h": nn.Linear(2, 2)}).eval()


def test_all_that_goes_with_a_filter_is_drawn_to_zero_and_nothing_else() -> None:
    drawn: dict[str, Tensor] = {}

    def train(model: nn.Module, *, penalty: Any, **_: Any) -> None:
        penalty(model).backward()
        drawn.update({n: p.grad != 0 for n, p in model.named_parameters() if p.grad is not None})

    before = chain()
    before.m.bias.data.fill_(1)
    gone = int(before.a.weight.abs().flatten(1).sum(dim=1).argmin())
    decision = plan(before, train, IMAGES, num_iterations=1, op_names=["a"])
    assert drawn.keys() == {"a.weight", "a.bias", "m.weight", "m.bias", "b.weight"}
    wanted = torch.arange(2) == gone
    assert all(torch.equal(drawn[name], wanted) for name in ("a.bias", "m.weight", "m.bias"))
    assert torch.equal(drawn["a.weight"].flatten(1).all(dim=1), wanted)
    assert not drawn["a.weight"][1 - gone].any()
    assert torch.equal(drawn["b.weight"].all(dim=0).flatten(1).all(dim=1), wanted)
    assert decision.model is not None
    assert decision.model.a.out_channels == decision.model.b.in_channels == 1


def test_scales_are_drawn_to_zero_before_their_channels_go() -> None:
    drawn: list[list[bool]] = []

    def train(model: nn.Module, *, penalty: Any, **_: Any) -> None:
        penalty(model).backward()
        drawn.append((model.m.weight.grad != 0).tolist())
        model.zero_grad()
        model.m.weight.data = torch.tensor([0.1, 2.0])  # training turns the order round

    before = chain()
    before.m.weight.data = torch.tensor([0.9, 0.5])
    decision = plan(before, train, IMAGES, num_iterations=2, base_algo="slim")
    assert drawn == [[False, True], [True, False]]
    assert decision.model is not None
    (step,) = history(decision.model)
    assert step.removed["a"]["out"] == [0]
    assert decision.model.m.weight.tolist() == [2.0]


@pytest.mark.slow
def test_a_strong_penalty_takes_the_weights_away_before_they_are_removed() -> None:
    def train(model: nn.Module, **options: Any) -> None:
        quiet = {"accelerator": "cpu", "enable_progress_bar": False}
        data = [(IMAGES, torch.tensor([0, 1]))]
        fit(model, data, trainer=quiet, optimizer="sgd", learning_rate=0.1, **options)

    decision = plan(chain(), train, IMAGES, num_iterations=2, training_epochs=8, row=5.0)
    before, after = (float(word[:-1]) for word in decision.notes[0].split() if word.endswith("%"))
    assert before > 20
    assert after < 1  # each step halves what is left of it


@pytest.mark.parametrize(
    ("paper", "quick"),
    [((30, 5), (10, 1)), ((3, 5), (3, 3)), ((2, 4), (2, 4))],
    ids=["paper", "few", "fewer"],
)
def test_quick_is_at_most_ten_epochs(paper: tuple[int, int], quick: tuple[int, int]) -> None:
    options: dict[str, Any] = {"num_iterations": paper[0], "training_epochs": paper[1]}
    assert ADMM(sparsity=0.5, **options).rounds == paper
    assert ADMM(sparsity=0.5, effort="quick", **options).rounds == quick


def untrained(*_: Any, **__: Any) -> None:
    raise AssertionError("it is known before the training")


def test_so_little_that_it_rounds_to_nothing_is_told_before_any_training() -> None:
    told = r"^ADMM: base_algo=l1_filter changes nothing\. .*0\.1 of 2 filters rounds to nothing"
    with pytest.raises(IncompatibleModel, match=told):
        plan(chain(), untrained, IMAGES, sparsity=0.1)
    with pytest.raises(IncompatibleModel, match=r"^ADMM: base_algo=slim changes nothing\. 0\.1 of"):
        plan(chain(), untrained, IMAGES, sparsity=0.1, base_algo="slim")


def test_what_is_excluded_stays() -> None:
    with pytest.raises(ConfigError, match="no layer is left to treat"):
        plan(chain(), untrained, IMAGES, exclude=["a", "b"])
    decision = plan(chain(), lambda *_, **__: None, IMAGES, num_iterations=1, exclude=["a"])
    (step,) = history(decision.model)  # type: ignore[arg-type]
    assert "a" not in step.removed
    assert len(step.removed["b"]["out"]) == 1


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ADMM(
            sparsity=0.5,
            num_iterations=0,
            training_epochs=1.5,  # type: ignore[arg-type]
            row=0,
            base_algo="l1_filtr",
            effort="none",  # type: ignore[arg-type]
        )
    parts = (
        "num_iterations is",
        "training_epochs is",
        "row is above 0",
        "'l1_filter'",
        "unknown compressor.effort 'none'",
    )
    assert len(caught.value.faults) == 5
    assert all(part in str(caught.value) for part in parts)
