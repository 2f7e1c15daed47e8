import copy
import pickle
from typing import Any

from torch import nn

from models.construction import Constructed


class Base(Constructed):
    def __init__(self, width: int = 1, *, depth: int = 2) -> None:
        self.width, self.depth = width, depth


class Wide(Base):
    def __init__(self, height: int, **options: Any) -> None:
        super().__init__(**options)
        self.height = height


class Holder(Constructed):
    def __init__(self, network: nn.Module, width: int = 1) -> None:
        self.network = network


def test_arguments_are_noted_by_name_with_their_defaults() -> None:
    assert Base(3).arguments == {"width": 3, "depth": 2}


def test_arguments_passed_on_to_a_parent_are_noted_too() -> None:
    assert Wide(5, depth=4).arguments == {"height": 5, "depth": 4}


def test_the_constructor_is_a_node_of_a_configuration() -> None:
    node = Wide(height=5, width=7).constructor
    assert node.pop("_target_").endswith("test_construction.Wide")
    again = Wide(**node)
    assert (again.height, again.width, again.depth) == (5, 7, 2)


def test_networks_are_left_out() -> None:
    assert Holder(nn.Linear(1, 1)).arguments == {"width": 1}


def test_copies_keep_the_note() -> None:
    wide = Wide(5, depth=4)
    assert copy.deepcopy(wide).constructor == wide.constructor
    assert pickle.loads(pickle.dumps(wide)).constructor == wide.constructor
