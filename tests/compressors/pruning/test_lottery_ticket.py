from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors.base import Decision
from compressors.pruning.lottery_ticket import LotteryTicket, kept_share
from compressors.resources import Resources
from core.errors import ConfigError, IncompatibleModel
from models.edits import enforce

IMAGES = torch.zeros(2, 4)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = OrderedDict(a=nn.Linear(4, 5), n=nn.BatchNorm1d(5), h=nn.Linear(5, 2))
    return nn.Sequential(layers).eval()


@pytest.fixture
def early(tmp_path: Path) -> Path:
    """Weights of another seed, and statistics that are not those of a new network."""
    model = network(seed=1)
    model.n.running_mean.fill_(3)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "early.pt")
    return tmp_path / "early.pt"


class Rounds:
    """A training that doubles all weights and notes where it began."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.began: list[dict[str, Tensor]] = []

    def __call__(self, model: nn.Module, *, epochs: int, after_step: Any) -> None:
        assert after_step is enforce
        self.epochs.append(epochs)
        self.began.append({name: t.clone() for name, t in model.state_dict().items()})
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.mul_(2)


def found(rounds: Any, **options: Any) -> Decision:
    given = Resources(batches=lambda _: [], score=lambda _: 0.0, train=rounds)
    recipe = LotteryTicket(**{"sparsity": 0.5, "prune_iterations": 2, "epochs": 3, **options})
    return recipe.plan(network(), IMAGES, given)


def test_every_pruning_leaves_the_same_share_of_what_was_left() -> None:
    shares = [kept_share(0.5, iteration=i, of=2) for i in range(3)]
    assert shares == pytest.approx([1.0, 0.7071, 0.5], abs=1e-4)


def test_rounds_start_from_the_early_weights_bit_by_bit_where_they_are_not_zero(
    early: Path,
) -> None:
    rounds, wanted = Rounds(), torch.load(early)["state_dict"]
    decision = found(rounds, rewind_to=str(early))
    assert rounds.epochs == [3, 3, 3]
    gone = [began["a.weight"] == 0 for began in rounds.began]
    # of 20 weights: the first round is whole, then 1 - 0.7071 of them, 5, then half
    assert [int(mask.sum()) for mask in gone] == [0, 5, 10]
    assert not (gone[1] & ~gone[2]).any()
    smallest = wanted["a.weight"].abs().flatten().argsort()[:10]
    assert torch.equal(gone[2].flatten().nonzero().flatten(), smallest.sort().values)
    for began, mask in zip(rounds.began, gone, strict=True):
        assert torch.equal(began["a.weight"][~mask], wanted["a.weight"][~mask])
        others = began.keys() - {"a.weight"}
        assert all(torch.equal(began[name], wanted[name]) for name in others)
    model = decision.model
    assert model is not None
    assert torch.equal(model.a.weight, 2 * rounds.began[2]["a.weight"])  # trained in the end
    assert "latency stay" in " ".join(decision.notes)


def test_without_a_reset_the_rounds_go_on_from_what_was_trained() -> None:
    rounds = Rounds()
    found(rounds, reset_weights=False)
    assert torch.equal(rounds.began[0]["a.weight"], network().a.weight)
    kept = rounds.began[1]["a.weight"] != 0
    assert torch.equal(rounds.began[1]["a.weight"], 2 * network().a.weight * kept)


def test_weights_can_be_ranked_among_all_layers(early: Path) -> None:
    rounds = Rounds()
    found(rounds, rewind_to=str(early), scope="global", op_names=["a", "h"])
    zeros = [int((rounds.began[2][name] == 0).sum()) for name in ("a.weight", "h.weight")]
    assert sum(zeros) == 15
    assert zeros[0] != 10


def untrained(*_: Any, **__: Any) -> None:
    raise AssertionError("it is known before the training")


@pytest.mark.parametrize("sparsity", [0.0, 0.09])  # 0.09: 1 of 20 at the end, 0 at first
def test_a_pruning_that_rounds_to_nothing_is_refused_before_a_training(
    sparsity: float, early: Path
) -> None:
    rounds = Rounds()
    with pytest.raises(IncompatibleModel, match=r"^LotteryTicket.* rounds to nothing"):
        found(rounds, rewind_to=str(early), sparsity=sparsity)
    assert rounds.epochs == []


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(ConfigError, match=r"compressor\.rewind_to: .* does not fit Sequential"):
        found(untrained, rewind_to=str(tmp_path / "other.pt"))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(print, tmp_path / "code.pt")
    with pytest.raises(ConfigError, match=r"compressor\.rewind_to: .* would run code"):
        found(untrained, rewind_to=str(tmp_path / "code.pt"))


@pytest.mark.parametrize(
    ("prunings", "epochs", "rounds"),
    [(7, 10, (8, 1)), (2, 10, (3, 3)), (2, 1, (3, 1)), (19, 10, (10, 1))],
)
def test_quick_is_at_most_ten_epochs(prunings: int, epochs: int, rounds: tuple[int, int]) -> None:
    options = {"prune_iterations": prunings, "epochs": epochs, "reset_weights": False}
    assert LotteryTicket(sparsity=0.5, effort="quick", **options).rounds == rounds
    assert LotteryTicket(sparsity=0.5, **options).rounds == (prunings + 1, epochs)


def test_fewer_rounds_come_to_the_same_sparsity() -> None:
    rounds = Rounds()
    decision = found(
        rounds, prune_iterations=19, effort="quick", reset_weights=False, epochs=5, op_names=["a"]
    )
    assert rounds.epochs == [1] * 10
    assert decision.model is not None
    assert int((decision.model.a.weight == 0).sum()) == 10  # of 20


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "compressor.rewind_to is missing: the path of weights from before the training"),
        ({"rewind_to": "nowhere.pt"}, "there is no checkpoint at nowhere.pt"),
        ({"rewind_to": "x", "reset_weights": False}, "reset_weights=false rewinds nothing"),
        ({"reset_weights": "no"}, "compressor.reset_weights is true or false"),
        ({"prune_iterations": 0}, "prune_iterations is a whole number, at least 1"),
        ({"epochs": 1.5}, "compressor.epochs is a whole number, at least 1"),
        ({"effort": "slow"}, "unknown compressor.effort 'slow'"),
        ({"reset_weights": False, "scope": "all"}, "compressor.scope is one of layer, global"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_without_a_model(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        LotteryTicket(**{"sparsity": 0.5, "prune_iterations": 2, "epochs": 3, **wrong})
