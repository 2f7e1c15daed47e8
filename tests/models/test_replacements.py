from collections import OrderedDict

import pytest
import torch
from torch import nn

from core.errors import IncompatibleModel
from models.edits import Edits, perform
from models.replacements import why_bound

INT8 = {"_target_": "models.quantized.IntegerLinear", "bits": 8}


def three() -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, nn.Linear(2, 2)) for name in "abc"))


def tied_weights() -> nn.Sequential:
    model = three()
    model.b.weight = model.a.weight
    return model


def tied_biases() -> nn.Sequential:
    model = three()
    model.b.bias = model.a.bias
    return model


def one_layer_twice() -> nn.Sequential:
    model = three()
    model.b = model.a
    return model


@pytest.mark.parametrize("make", [tied_weights, tied_biases, one_layer_twice])
def test_what_two_places_have_is_not_replaced_in_one(make: type[nn.Sequential]) -> None:
    model = make()
    before = model.state_dict()
    for name in ("a", "b"):
        with pytest.raises(IncompatibleModel, match=f"{name} cannot be replaced: another place"):
            perform(model, Edits(replaced={name: INT8}))
    with pytest.raises(IncompatibleModel, match="another place"):
        perform(model, Edits(replaced={"a": INT8, "b": INT8}))
    assert model.state_dict().keys() == before.keys()
    perform(model, Edits(replaced={"c": INT8}))
    assert type(model.c).__name__ == "IntegerLinear"


def test_inside_a_block_that_runs_twice_a_layer_is_replaced_for_both() -> None:
    block = three()
    model = nn.Sequential(block, nn.ReLU(), block)
    assert why_bound(model, block)
    assert not why_bound(model, block.a)
    perform(model, Edits(replaced={"0.a": INT8}))
    assert model[0].a is model[2].a
    assert model(torch.ones(1, 2)).shape == (1, 2)


def test_what_a_replacement_computes_with_is_not_replaced_in_turn() -> None:
    model = three()
    perform(model, Edits(replaced={"a": {"_target_": "models.simulated.Binary"}}))
    with pytest.raises(
        IncompatibleModel, match=r"a\.layer cannot be replaced: what was put in its"
    ):
        perform(model, Edits(replaced={"a.layer": INT8}))
    factors = {"_target_": "models.factorized.Factorized", "method": "svd", "ranks": [1]}
    perform(model, Edits(replaced={"b": factors}))
    perform(model, Edits(replaced={"b.last": INT8}))
