"""Activations of hand-made networks."""

from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from core.errors import NotApplicable
from measurements.properties.activations import IMAGES_AT_ONCE, Activations
from recording.loop import Batch

IMAGES = torch.tensor([1.0, -2, 3, -4]).reshape(4, 1, 1, 1).expand(4, 2, 1, 1)


class MinusAbs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x.abs()


class Images:
    """Gives the images as a recorder does, in batches of `size`."""

    def __init__(self, images: Tensor, size: int) -> None:
        self.pictures, self.size = images, size

    def images(self, model: nn.Module, name: str, split: str, *, samples: int) -> Any:
        for some in self.pictures[:samples].split(self.size):
            none = torch.zeros(len(some), dtype=torch.int64)
            yield Batch(images=some, labels=none, ids=none)


def found(network: nn.Module, images: Tensor = IMAGES, size: int = 3, **options: Any) -> Any:
    model = nn.Sequential()
    model.add_module("backbone", network)
    measurement = Activations(["toy"], model, OmegaConf.create({}), **options)  # type: ignore[arg-type]
    measurement.recorder = Images(images, size)  # type: ignore[assignment]
    values = measurement.measure()
    return {name.removeprefix("toy_test_"): value for name, value in values.items()}


def test_what_is_never_positive_is_dead() -> None:
    values = found(nn.Sequential(MinusAbs(), nn.ReLU()))
    assert {name: float(value) for name, value in values.items()} == {
        "dead_units": 1,
        "activation_sparsity": 1,
        "dead_units_1": 1,
        "activation_sparsity_1": 1,
    }
    assert {value.n for value in values.values()} == {4}


def test_units_weigh_alike_over_layers_of_different_width() -> None:
    class Ends(nn.Module):
        """[B, 2, 1, 1] -> 2 units, of which half is silent; then 1 unit that is dead."""

        def __init__(self) -> None:
            super().__init__()
            self.wide, self.slim = nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.slim(-self.wide(x).sum(dim=1, keepdim=True))

    values = found(Ends())
    assert values["dead_units"] == pytest.approx(1 / 3)
    assert values["dead_units_slim"] == 1
    assert values["activation_sparsity_wide"] == 0.5  # two of four images
    assert values["activation_sparsity"] == pytest.approx((2 * 0.5 + 1) / 3)
    assert (values["dead_units"].better, values["activation_sparsity"].better) == ("lower", "")


def test_a_ceiling_shows_saturated_units() -> None:
    values = found(nn.ReLU6(), images=torch.tensor([7.0, 9.0]).reshape(2, 1, 1, 1))
    assert (values["saturated_units"], values["dead_units"]) == (1, 0)
    assert "saturated_units" not in found(nn.ReLU())


def test_tokens_have_their_units_last() -> None:
    tokens = torch.tensor([[[1.0, -1.0, 2.0], [1.0, -1.0, -2.0]]])  # one image, two tokens, 3 units
    values = found(nn.ReLU(), images=tokens)
    assert values["dead_units"] == pytest.approx(1 / 3)


def test_a_unit_that_wakes_up_for_the_last_image_is_alive() -> None:
    images = torch.zeros(IMAGES_AT_ONCE + 1, 1, 1, 1)
    images[-1] = 1
    assert found(nn.ReLU(), images=images)["dead_units"] == 0
    assert found(nn.ReLU(), images=images, samples=IMAGES_AT_ONCE)["dead_units"] == 1


@pytest.mark.parametrize("network", [nn.GELU(), MinusAbs()], ids=["never zero", "function"])
def test_a_network_without_such_modules_is_not_applicable(network: nn.Module) -> None:
    with pytest.raises(NotApplicable, match="no module whose output can be exactly zero"):
        found(network)


def test_the_model_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(5, 5))  # the second fails on these images
    with pytest.raises(RuntimeError):
        found(network)
    assert network.training
    assert not network[0]._forward_hooks


def test_no_picturesare_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        found(nn.ReLU(), samples=0)
