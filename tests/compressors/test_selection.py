from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pytest
from torch import nn

from compressors.selection import Catalogue, check_form, entries_of, select
from core.errors import ConfigError


class Conv2dSame(nn.Conv2d):
    """A subclass, as timm has them."""


LAYERS = OrderedDict(
    {
        "conv1": nn.Conv2d(1, 1, 1),
        "layer1": nn.Sequential(),
        "layer1.0.conv1": Conv2dSame(1, 1, 1),
        "layer1.0.bn1": nn.BatchNorm2d(1),
        "layer1.0.conv2": nn.Conv2d(1, 1, 1),
        "mlp": nn.Linear(1, 1),
        "fc": nn.Linear(1, 1),
    }
)
CATALOGUE = Catalogue(
    layers=LAYERS, treatable=("Conv2d", "Linear"), default_types=("Conv2d",), heads=("fc",)
)
CONVOLUTIONS = ["conv1", "layer1.0.conv1", "layer1.0.conv2"]


def chosen(*entries: dict[str, Any]) -> dict[str, float]:
    return select(named(entries), CATALOGUE).sparsity


def named(entries: Sequence[Any]) -> dict[str, Any]:
    return {f"entry{index}": entry for index, entry in enumerate(entries)}


def faults(*entries: Any) -> list[str]:
    try:
        check_form(named(entries))
        select(named(entries), CATALOGUE)
    except ConfigError as error:
        return error.faults
    return []


SELECTIONS = {
    "own_types": ([{"sparsity": 0.5}], dict.fromkeys(CONVOLUTIONS, 0.5)),
    "default": ([{"sparsity": 0.5, "op_types": ["default"]}], dict.fromkeys(CONVOLUTIONS, 0.5)),
    "default_and_more": (
        [{"sparsity": 0.5, "op_types": ["default", "Linear"]}],
        dict.fromkeys([*CONVOLUTIONS, "mlp"], 0.5),
    ),
    "names_override_types": (
        [{"sparsity": 0.5, "op_types": ["Conv2d"], "op_names": ["mlp"]}],
        {"mlp": 0.5},
    ),
    "glob": ([{"sparsity": 0.5, "op_names": ["layer*.*.conv1"]}], {"layer1.0.conv1": 0.5}),
    "glob_passes_over_other_types": (
        [{"sparsity": 0.5, "op_names": ["layer1.*"]}],
        {"layer1.0.conv1": 0.5, "layer1.0.conv2": 0.5},
    ),
    "later_overrides_earlier": (
        [{"sparsity": 0.5}, {"sparsity": 0.2, "op_names": ["conv1"]}],
        {"conv1": 0.2, "layer1.0.conv1": 0.5, "layer1.0.conv2": 0.5},
    ),
    "later_general_overrides_earlier_special": (
        [{"sparsity": 0.2, "op_names": ["conv1"]}, {"sparsity": 0.5}],
        dict.fromkeys(CONVOLUTIONS, 0.5),
    ),
    "exclude": (
        [{"sparsity": 0.5}, {"exclude": True, "op_names": ["layer1.*"]}],
        {"conv1": 0.5},
    ),
    "exclude_types": (
        [
            {"sparsity": 0.5, "op_types": ["Conv2d", "Linear"]},
            {"exclude": True, "op_types": ["Conv2d"]},
        ],
        {"mlp": 0.5},
    ),
    "exclude_false": (
        [{"sparsity": 0.5}, {"exclude": False, "sparsity": 0.2, "op_names": ["conv1"]}],
        {"conv1": 0.2, "layer1.0.conv1": 0.5, "layer1.0.conv2": 0.5},
    ),
    "included_again": (
        [
            {"sparsity": 0.5},
            {"exclude": True, "op_types": ["Conv2d"]},
            {"sparsity": 0.1, "op_names": ["conv1"]},
        ],
        {"conv1": 0.1},
    ),
    "zero_and_ints": ([{"sparsity": 0}], dict.fromkeys(CONVOLUTIONS, 0.0)),
    "head_by_type": ([{"sparsity": 0.5, "op_types": ["Linear"]}], {"mlp": 0.5}),
    "head_by_glob": ([{"sparsity": 0.5, "op_names": ["mlp", "f*"]}], {"mlp": 0.5}),
    "head_by_name": ([{"sparsity": 0.5, "op_names": ["fc"]}], {"fc": 0.5}),
}


@pytest.mark.parametrize(("entries", "expected"), SELECTIONS.values(), ids=SELECTIONS)
def test_entries_choose_layers(entries: list, expected: dict[str, float]) -> None:
    assert chosen(*entries) == expected


def test_layers_come_in_the_order_of_the_model() -> None:
    names = ["layer1.0.conv2", "conv1"]
    assert list(chosen({"sparsity": 0.5, "op_names": names})) == ["conv1", "layer1.0.conv2"]


def test_what_was_excluded_and_which_head_was_spared_is_known() -> None:
    entries = [
        {"sparsity": 0.5, "op_types": ["Linear"]},
        {"exclude": True, "op_names": ["mlp", "conv1"]},
        {"sparsity": 0.5, "op_names": ["conv1"]},
    ]
    selection = select(named(entries), CATALOGUE)
    assert selection.excluded == {"mlp"}
    assert selection.spared_heads == ("fc",)


def test_a_head_that_an_entry_names_or_excludes_was_not_spared() -> None:
    linear = {"sparsity": 0.5, "op_types": ["Linear"]}
    by_name, excluded = {"sparsity": 0.1, "op_names": ["fc"]}, {"exclude": True, "op_names": ["fc"]}
    assert select(named([linear, by_name]), CATALOGUE).spared_heads == ()
    assert select(named([linear, excluded]), CATALOGUE).spared_heads == ()


SENTENCES = {
    "one": ({"sparsity": 1}, "entry0: sparsity is the fraction removed, in [0, 1): 1 would"),
    "above": ({"sparsity": 1.5}, "1 would leave nothing of a layer, got 1.5"),
    "negative": (
        {"sparsity": -0.1},
        "entry0: sparsity is the fraction removed, in [0, 1), got",
    ),
    "nan": ({"sparsity": float("nan")}, "in [0, 1), got nan"),
    "text": ({"sparsity": "0.5"}, "sparsity is a number in [0, 1), got '0.5'"),
    "bool": ({"sparsity": True}, "sparsity is a number in [0, 1), got True"),
    "no_sparsity": ({"op_types": ["Conv2d"]}, "sparsity, the fraction to remove, is missing"),
    "key": ({"sparsity": 0.5, "op_name": ["fc"]}, "unknown key 'op_name', did you mean 'op_name"),
    "type": (
        {"sparsity": 0.5, "op_types": ["Conv2D"]},
        "unknown op_type 'Conv2D', did you mean 'Conv2d'? Known: Conv2d, Linear, default",
    ),
    "untreatable_type": ({"sparsity": 0.5, "op_types": ["BatchNorm2d"]}, "unknown op_type 'Batch"),
    "name": (
        {"sparsity": 0.5, "op_names": ["layer1.0.conv3"]},
        "unknown layer 'layer1.0.conv3', did you mean 'layer1.0.conv2'?",
    ),
    "glob": ({"sparsity": 0.5, "op_names": ["stage*"]}, "unknown layer 'stage*'"),
    "untreatable_name": (
        {"sparsity": 0.5, "op_names": ["layer1.0.bn1"]},
        "'layer1.0.bn1' is a BatchNorm2d, this compressor treats Conv2d, Linear",
    ),
    "container": (
        {"sparsity": 0.5, "op_names": ["layer1"]},
        "'layer1' is a Sequential, this compressor treats Conv2d, Linear; for what is inside it: "
        "layer1.*",
    ),
    "string_for_list": (
        {"sparsity": 0.5, "op_names": "conv1"},
        "op_names is a list of names, got 'conv1'",
    ),
    "empty_list": ({"sparsity": 0.5, "op_types": []}, "op_types is a list of names, got []"),
    "exclude_all": ({"exclude": True}, "exclude: true needs op_names or op_types"),
    "exclude_text": ({"sparsity": 0.5, "exclude": "fc"}, "exclude is true or false, got 'fc'"),
    "no_entry": (3, "an entry has keys such as sparsity and op_types, got 3"),
}


@pytest.mark.parametrize(("entry", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_a_fault_is_told_in_a_sentence(entry: Any, sentence: str) -> None:
    (fault,) = faults(entry)
    assert sentence in fault


def test_all_faults_of_all_entries_come_at_once() -> None:
    entries = [{"sparsity": 2, "op_nams": []}, {"sparsity": 0.5}, {"exclude": "yes"}]
    assert [fault.split(":")[0] for fault in faults(*entries)] == [
        "entry0",
        "entry0",
        "entry2",
    ]
    unknown = [{"sparsity": 0.5, "op_names": ["a", "b"]}, {"sparsity": 0.5, "op_types": ["C"]}]
    assert len(faults(*unknown)) == 3


def test_a_type_that_the_model_lacks_is_a_fault() -> None:
    only_linear = Catalogue(
        layers={"fc": LAYERS["fc"]}, treatable=("Conv2d",), default_types=("Conv2d",)
    )
    with pytest.raises(
        ConfigError, match=r"no layer of op_types \['Conv2d'\]; the model has Linear"
    ):
        select({"compressor": {"sparsity": 0.5}}, only_linear)


def short(**keys: Any) -> dict[str, Any]:
    given = {"config_list": None, "sparsity": None, "op_types": None, "op_names": None}
    return entries_of(**{**given, "exclude": None, **keys})


def test_the_short_form_is_one_entry_and_what_it_excludes() -> None:
    assert short(sparsity=0.5, op_names=["a"], exclude=["b"]) == {
        "compressor": {"sparsity": 0.5, "op_names": ["a"]},
        "compressor.exclude": {"op_names": ["b"], "exclude": True},
    }


def test_entries_without_a_sparsity_take_that_of_the_short_form() -> None:
    long = [{"op_names": ["a"]}, {"sparsity": 0.1}, {"exclude": True, "op_names": ["b"]}]
    assert short(sparsity=0.5, config_list=long, exclude=["c"]) == {
        "compressor.config_list[0]": {"sparsity": 0.5, "op_names": ["a"]},
        "compressor.config_list[1]": {"sparsity": 0.1},
        "compressor.config_list[2]": {"exclude": True, "op_names": ["b"]},
        "compressor.exclude": {"op_names": ["c"], "exclude": True},
    }


def test_two_forms_that_both_name_layers_are_refused() -> None:
    with pytest.raises(ConfigError) as error:
        short(sparsity=0.5, config_list=[], op_types=["Conv2d"], op_names=["a"])
    assert [fault.split(" ")[0] for fault in error.value.faults] == [
        "compressor.op_types",
        "compressor.op_names",
        "compressor.config_list",
    ]
