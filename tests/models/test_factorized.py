import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from core.errors import IncompatibleModel
from models.edits import Edits, perform
from models.factorized import Factorized, Method, full_ranks, matrices

METHODS: tuple[Method, ...] = ("svd", "tucker2", "spatial")
sides = st.integers(1, 3)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolution(inputs: int, outputs: int, kernel: Any, **options: Any) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, **options)
    layer.weight.data = noise(*layer.weight.shape)
    return layer.requires_grad_(False)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(
    channels=st.tuples(st.integers(1, 6), st.integers(1, 9)),
    kernel=st.tuples(sides, sides),
    stride=st.tuples(sides, sides),
    padding=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.just("same")),
    dilation=st.tuples(sides, sides),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    method=st.sampled_from(METHODS),
)
def test_all_ranks_of_a_convolution_are_the_convolution(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: Any,
    dilation: tuple[int, int],
    mode: str,
    method: Method,
) -> None:
    layer = convolution(
        *channels,
        kernel,
        stride=(1, 1) if padding == "same" else stride,
        padding=padding,
        dilation=dilation,
        padding_mode=mode,
        bias=channels[0] % 2 == 0,
    )
    images = noise(2, channels[0], 9, 11)
    factors = Factorized.of(layer, method=method, ranks=full_ranks(layer, method))
    torch.testing.assert_close(factors(images), layer(images), rtol=0, atol=1e-5)


def test_all_ranks_of_a_linear_layer_are_the_layer() -> None:
    layer, vectors = nn.Linear(5, 9), noise(2, 3, 5)
    factors = Factorized.of(layer, method="svd", ranks=[5])
    torch.testing.assert_close(factors(vectors), layer(vectors), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "equation", "shapes", "ranks"),
    [
        ("svd", "or,rihw->oihw", [(8, 2), (2, 6, 3, 3)], [2]),
        ("spatial", "orw,rih->oihw", [(8, 2, 3), (2, 6, 3)], [2]),
        ("tucker2", "op,pqhw,qi->oihw", [(8, 3), (3, 2, 3, 3), (2, 6)], [2, 3]),
    ],
)
def test_a_layer_of_low_rank_is_found_again(
    method: Method, equation: str, shapes: list[tuple[int, ...]], ranks: list[int]
) -> None:
    layer = convolution(6, 8, 3, padding=1)
    layer.weight.data = torch.einsum(equation, *(noise(*s, seed=i) for i, s in enumerate(shapes)))
    images = noise(1, 6, 7, 7)
    factors = Factorized.of(layer, method=method, ranks=ranks)
    torch.testing.assert_close(factors(images), layer(images), rtol=1e-4, atol=1e-4)
    thinner = Factorized.of(layer, method=method, ranks=[r - 1 for r in ranks])
    assert (thinner(images) - layer(images)).abs().max() > 1


@pytest.mark.parametrize("method", ["svd", "spatial"])
@pytest.mark.parametrize("rank", [1, 4])
def test_the_error_is_that_of_the_singular_values_left_out(method: Method, rank: int) -> None:
    layer = convolution(5, 7, 3)
    factors = Factorized.of(layer, method=method, ranks=[rank])
    first, last = (p.double() for p in factors.parameters() if p.ndim == 4)
    product = torch.einsum("orhw,rikl->oihkwl", last, first)
    got = product.flatten(2, 3).flatten(3) if method == "spatial" else product[:, :, 0, :, 0]
    values = np.linalg.svd(matrices(layer, method)[0].numpy(), compute_uv=False)
    error = float((got - layer.weight.double()).norm())
    assert error == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-5)


def test_no_two_bases_are_better_than_those_of_tucker() -> None:
    layer = convolution(6, 8, 3)
    factors = Factorized.of(layer, method="tucker2", ranks=[2, 3])
    into, core, out = (p.double() for p in factors.parameters() if p.ndim == 4)
    got = torch.einsum("op,pqhw,qi->oihw", out[..., 0, 0], core, into[..., 0, 0])
    weight = layer.weight.double()
    plain = [torch.linalg.svd(m)[0] for m in matrices(layer, "tucker2")]
    kept = torch.einsum("oihw,iq,op->pqhw", weight, plain[0][:, :2], plain[1][:, :3])
    higher_order_svd = (weight.square().sum() - kept.square().sum()).sqrt()
    assert (got - weight).norm() < higher_order_svd - 1e-3
    torch.testing.assert_close(into[..., 0, 0] @ into[..., 0, 0].T, torch.eye(2).double())


def test_a_column_first_then_a_row() -> None:
    layer = convolution(4, 6, (3, 5), stride=(2, 1), padding=(1, 2))
    factors = Factorized.of(layer, method="spatial", ranks=[2])
    assert str(factors.first) == (
        "Conv2d(4, 2, kernel_size=(3, 1), stride=(2, 1), padding=(1, 0), bias=False)"
    )
    assert str(factors.last) == "Conv2d(2, 6, kernel_size=(1, 5), stride=(1, 1), padding=(0, 2))"


def test_signs_do_not_depend_on_the_library() -> None:
    layer = nn.Linear(4, 6)
    outer = Factorized.of(layer, method="svd", ranks=[3]).last.weight
    assert (outer.gather(0, outer.abs().argmax(dim=0, keepdim=True)) > 0).all()
    mirrored = copy.deepcopy(layer)
    mirrored.weight.data *= -1
    again = Factorized.of(mirrored, method="svd", ranks=[3])
    torch.testing.assert_close(again.last.weight, outer)


def test_factors_are_what_the_layer_was() -> None:
    layer = nn.Conv2d(4, 6, 3, dtype=torch.bfloat16).eval()
    layer.weight.requires_grad_(False)
    stream = torch.get_rng_state()
    factors = Factorized.of(layer, method="tucker2", ranks=[2, 2])
    assert torch.equal(torch.get_rng_state(), stream)
    wanted = {name: p.requires_grad for name, p in factors.named_parameters()}
    assert wanted == {
        "first.weight": False,
        "core.weight": False,
        "last.weight": False,
        "last.bias": True,
    }
    assert {p.dtype for p in factors.parameters()} == {torch.bfloat16}
    assert torch.equal(factors.last.bias, layer.bias)
    assert factors.last.bias is not layer.bias


class Padded(nn.Conv2d):
    """A convolution that could do more."""


@pytest.mark.parametrize(
    ("layer", "method", "ranks", "told"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "svd", [1], "2 groups are a factorisation already"),
        (Padded(4, 4, 3), "svd", [1], "a Padded computes more than"),
        (nn.Linear(4, 4), "spatial", [1], "no kernel"),
        (nn.Linear(4, 4), "cp", [1], "svd, tucker2, spatial, got 'cp'"),
        (nn.Linear(4, 6), "svd", [5], r"from 1 to \[4\] here, got \[5\]"),
        (nn.Linear(4, 6), "svd", [0], r"got \[0\]"),
        (nn.Conv2d(4, 6, 3), "tucker2", [4], r"from 1 to \[4, 6\] here, got \[4\]"),
    ],
    ids=str,
)
def test_what_cannot_be_split_is_told(
    layer: nn.Module, method: Method, ranks: list[int], told: str
) -> None:
    with pytest.raises(IncompatibleModel, match=told):
        Factorized.of(layer, method=method, ranks=ranks)


def test_a_hook_is_not_lost() -> None:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *_: None)
    with pytest.raises(IncompatibleModel, match="hook"):
        Factorized.of(layer, method="svd", ranks=[1])


def test_edits_make_the_factors_of_what_is_left_after_a_removal() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3))
    gone = {"0": {"out": [1, 4]}, "2": {"in": [1, 4]}}
    spec = {"_target_": "models.factorized.Factorized", "method": "tucker2", "ranks": [2, 3]}
    perform(model, Edits(removed=gone))
    perform(model, Edits(replaced={"2": spec}))
    perform(model, Edits(removed={"2.first": {"out": [0]}, "2.core": {"in": [0]}}))
    assert model(noise(1, 3, 9, 9)).shape == (1, 6, 5, 5)
    assert model[2].first.weight.shape == (1, 6, 1, 1)
