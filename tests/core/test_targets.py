import sys
from pathlib import Path
from typing import Any

import pytest

from core import targets
from core.errors import ConfigError, DataError
from core.targets import allow_targets, build, resolve

MODULE = """
class Shape: pass

class Circle(Shape):
    def __init__(self, radius, *, name="circle"):
        if radius < 0:
            raise ValueError(f"radius is at least 0, got {radius}")
        self.radius, self.name = radius, name

class Anything(Shape):
    def __init__(self, **options):
        self.options = options

class Coin(Circle):
    def __init__(self, value=1, **options):
        super().__init__(radius=2, **options)
        self.value = value

class Damaged(Shape):
    def __init__(self):
        from core.errors import DataError
        raise DataError("the file is damaged")

not_a_class = 3
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type:
    """`Shape` of a trusted package `shapes`; `untrusted` holds the same and tells its import."""
    monkeypatch.setattr(targets, "_extra_prefixes", set())
    monkeypatch.syspath_prepend(tmp_path)
    for package in ("shapes", "untrusted"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "flat.py").write_text(MODULE)
        for name in (package, f"{package}.flat", f"{package}.broken"):
            monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "shapes" / "broken.py").write_text("import no_such_package_at_all\n")
    allow_targets(["shapes"])
    return resolve("shapes.flat.Shape", expects=object)


def fault_of(target: object, base: type) -> str:
    with pytest.raises(ConfigError) as raised:
        resolve(target, expects=base)
    return str(raised.value)


def test_a_target_is_built_with_the_arguments_of_its_node(base: type) -> None:
    node = {"_target_": "shapes.flat.Circle", "radius": 2}
    circle: Any = build(node, expects=base, name="filled in")
    assert (circle.radius, circle.name) == (2, "filled in")


def test_a_blank_replaces_an_empty_key(base: type) -> None:
    node = {"_target_": "shapes.flat.Circle", "radius": None}
    circle: Any = build(node, expects=base, radius=3)
    assert circle.radius == 3


def test_nothing_below_a_node_is_built(base: type) -> None:
    inner = {"_target_": "shapes.flat.Circle", "radius": 1}
    anything: Any = build({"_target_": "shapes.flat.Anything", "inner": inner}, expects=base)
    assert anything.options == {"inner": inner}


@pytest.mark.parametrize(
    "target",
    ["untrusted.flat.Circle", "os.system", "torch.nn.Linear", "shapesque.flat.Circle"],
)
def test_another_package_is_refused_before_it_is_imported(target: str, base: type) -> None:
    before = set(sys.modules)
    assert "is outside the allowed packages (" in fault_of(target, base)
    assert set(sys.modules) == before


def test_a_refused_package_says_how_to_trust_it(base: type) -> None:
    assert "allowed_targets=[untrusted] on the command line" in fault_of("untrusted.x.Y", base)


@pytest.mark.parametrize("target", [None, 3, "Circle", ["shapes.flat.Circle"]], ids=str)
def test_what_is_no_name_of_a_class_is_refused(target: object, base: type) -> None:
    assert fault_of(target, base).startswith("_target_ is <package>.<module>.<class>, got")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("shapes.flat.Square", "does not exist"),
        ("shapes.flat.not_a_class", "is not a Circle"),
        ("shapes.flat.Shape", "is not a Circle"),
        ("shapes.round.Circle", "there is no module 'shapes.round'"),
    ],
    ids=["no such class", "no class", "no subclass", "no such module"],
)
def test_a_target_of_the_wrong_kind_is_refused(target: str, reason: str, base: type) -> None:
    circle: type = resolve("shapes.flat.Circle", expects=base)
    assert fault_of(target, circle).endswith(reason)


def test_a_module_that_cannot_import_is_not_called_missing(base: type) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        resolve("shapes.broken.Circle", expects=base)


def test_all_wrong_arguments_are_told_with_the_nearest(base: type) -> None:
    node = {"_target_": "shapes.flat.Circle", "radios": 1, "colour": "red"}
    with pytest.raises(ConfigError) as raised:
        build(node, expects=base)
    assert raised.value.faults == [
        "unknown argument of Circle 'radios', did you mean 'radius'? Known: name, radius",
        "unknown argument of Circle 'colour'. Known: name, radius",
        "Circle needs 'radius', and the configuration has none",
    ]


def test_an_option_that_is_handed_on_to_the_base_is_known(base: type) -> None:
    coin: Any = build({"_target_": "shapes.flat.Coin", "value": 5, "name": "dime"}, expects=base)
    assert (coin.value, coin.radius, coin.name) == (5, 2, "dime")


def test_an_option_that_no_base_takes_is_told_with_the_nearest(base: type) -> None:
    with pytest.raises(ConfigError) as raised:
        build({"_target_": "shapes.flat.Coin", "valve": 5}, expects=base)
    assert raised.value.faults == [
        "unknown argument of Coin 'valve', did you mean 'value'? Known: name, radius, value"
    ]


def test_a_class_without_arguments_takes_none(base: type) -> None:
    with pytest.raises(ConfigError, match="unknown argument of Shape 'size'"):
        build({"_target_": "shapes.flat.Shape", "size": 1}, expects=base)


def test_a_value_that_the_class_refuses_is_a_fault_of_the_configuration(base: type) -> None:
    with pytest.raises(ConfigError, match="Circle: radius is at least 0, got -1"):
        build({"_target_": "shapes.flat.Circle", "radius": -1}, expects=base)


def test_damaged_data_stays_damaged_data(base: type) -> None:
    with pytest.raises(DataError, match="the file is damaged"):
        build({"_target_": "shapes.flat.Damaged"}, expects=base)
