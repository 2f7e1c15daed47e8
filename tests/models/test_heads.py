import pytest
import timm
from torch import nn

from models.heads import find_head


@pytest.mark.parametrize(
    ("name", "head"),
    [("test_resnet", "fc"), ("test_efficientnet", "classifier"), ("test_vit", "head")],
)
def test_timm_says_where_the_head_is(name: str, head: str) -> None:
    assert find_head(timm.create_model(name, num_classes=7)) == (head, 7)


def test_the_last_linear_layer_is_the_head_of_any_other_network() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 3), nn.Softmax(1)))
    assert find_head(network) == ("1.0", 3)


def test_a_network_without_linear_layers_has_no_head() -> None:
    assert find_head(nn.Sequential(nn.Conv2d(3, 4, 1))) == ("", None)
