"""model.compile: the same function, run by torch.compile."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from compressors.pruning.level import Level
from core.errors import NotApplicable
from models.examples import example_images
from models.exported import export_bytes
from models.small.digits import DigitsCNN


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Notes who would be compiled, and compiles nothing."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda _, **options: calls.append(options))
    return calls


def test_copies_are_compiled_too_and_as_a_whole(compilations: list[dict[str, Any]]) -> None:
    model = DigitsCNN(compile=True).eval()
    for network in (model, copy.deepcopy(model)):
        network(example_images(model))
    assert compilations == [{"fullgraph": True}, {"fullgraph": True}]


def test_nobody_compiles_unasked(compilations: list[dict[str, Any]]) -> None:
    DigitsCNN()(example_images(DigitsCNN()))
    assert compilations == []


def test_records_know_it_and_the_model_is_the_same() -> None:
    compiled, eager = DigitsCNN(compile=True), DigitsCNN()
    assert compiled.numerics()["runtime"] == "torch.compile"
    assert eager.numerics()["runtime"] == "torch"
    assert compiled.fingerprint() == eager.fingerprint()


def test_it_has_no_features() -> None:
    with pytest.raises(NotApplicable, match=r"those of model\.compile=false"):
        DigitsCNN(compile=True).forward_features(torch.zeros(1, 1, 8, 8))


@pytest.mark.slow
def test_its_program_is_exported(compilations: list[dict[str, Any]]) -> None:
    model = DigitsCNN(compile=True).eval()
    assert export_bytes(model, example_images(model))
    assert compilations == []


@pytest.mark.slow
def test_it_is_compressed_eagerly_and_comes_out_compiled() -> None:
    model = DigitsCNN(compile=True)
    result = Level(sparsity=0.5).compress(model, example_images(model, 2)).model
    assert result.compiled
    assert result.numerics()["runtime"] == "torch.compile"


@pytest.mark.slow
def test_it_gives_the_logits_of_the_eager_model() -> None:
    compiled, eager = DigitsCNN(compile=True).eval(), DigitsCNN().eval()
    images = example_images(eager, 3)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images), eager(images), atol=1e-4, rtol=1e-4)
    assert compiled.backbone._compiled_call_impl is not None
