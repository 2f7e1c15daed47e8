import json
import re

import pytest
import torch

from core.names import metric_key
from datamodules.views import __doc__ as package_doc
from datamodules.views.registry import CORRUPTIONS, TRANSFORMS, corruption_names, grammar, view
from datamodules.views.view import Kind

EXAMPLES = [*corruption_names(), *(family.example_name for family in TRANSFORMS.values())]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_view_has_its_name_and_describes_itself_in_json(name: str) -> None:
    described = view(name).describe()
    assert described["name"] == view(name).name == name
    assert described["version"] >= 1
    assert described["parameters"]["family"] in ("lite", "transform")
    assert json.loads(json.dumps(described)) == described
    assert metric_key("cifar10", "test", "accuracy", name).endswith(f"_{name}")


def test_no_two_views_describe_themselves_alike() -> None:
    described = [json.dumps({**view(name).describe(), "name": ""}) for name in corruption_names()]
    for kind, start in zip(CORRUPTIONS, range(0, 90, 5), strict=True):
        assert len(set(described[start : start + 5])) == 5, kind


def test_clean_is_its_name_alone_and_the_same_tensor() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert view("clean").describe() == {"name": "clean"}
    assert view("clean")(images, torch.arange(2)) is images


def test_a_description_has_the_constants_of_both_sizes() -> None:
    assert view("defocus_blur_3").describe() == {
        "name": "defocus_blur_3",
        "version": 1,
        "parameters": {
            "family": "lite",
            "source": CORRUPTIONS["defocus_blur"].source,
            "small": {"radius_px": 0.7},
            "large": {"radius_px": 6.0},
            "sides": [20, 32, 128, 224],
        },
    }
    assert view("fog_1").describe()["parameters"]["generator"] == "splitmix64"


def test_the_corruptions_are_called_lite_and_told_from_the_published_ones() -> None:
    assert package_doc is not None
    assert "*lite*" in package_doc
    assert "not the images" in package_doc
    assert {view(name).describe()["parameters"]["family"] for name in corruption_names()} == {
        "lite"
    }


@pytest.mark.parametrize(
    ("side", "length"),
    [(8, 20 / 32), (20, 20 / 32), (28, 28 / 32), (32, 1.0), (64, 2.0), (127, 127 / 32)],
    ids=str,
)
def test_lengths_of_small_images_follow_the_side(side: int, length: float) -> None:
    kind = Kind(
        name="made_up",
        apply=lambda images, draws: images,
        small={"length_px": (1.0,) * 5, "share": (0.1, 0.2, 0.3, 0.4, 0.5)},
        large={"length_px": (7.0,) * 5, "share": (1.0,) * 5},
        source="",
    )
    assert kind.constants(2, side) == {"length_px": length, "share": 0.2}
    assert kind.constants(2, 128) == {"length_px": 4.0, "share": 1.0}
    assert kind.constants(5, 448) == {"length_px": 14.0, "share": 1.0}


@pytest.mark.parametrize("kind", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_constants_have_a_value_for_each_severity_and_a_source(kind: Kind) -> None:
    assert kind.small.keys() == kind.large.keys()
    assert {len(values) for values in (*kind.small.values(), *kind.large.values())} == {5}
    assert re.search("own constants|CIFAR-10-C", kind.source)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gausian_noise_3", "gaussian_noise_3"),
        ("gaussian_noise_6", "gaussian_noise_5"),
        ("rotate", "rotate_15"),
        ("rotate_15.5", "rotate_15"),
        ("flip_1", "flip"),
        ("scale_110%", "scale_110"),
        ("Clean", "clean"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_and_the_grammar(name: str, nearest: str) -> None:
    with pytest.raises(LookupError) as caught:
        view(name)
    text = str(caught.value)
    assert text.startswith(f"unknown view {name!r}, did you mean ")
    stem = re.sub(r"_\d+$", "", nearest)
    assert f"did you mean '{stem}" in text
    assert grammar() in text


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fog",
        "fog_",
        "fog_03",
        "fog_-1",
        "fog_6",
        "fog_33",
        "frost_3",
        "rotate_0",
        "rotate_360",
        "shift_0",
        "shift_1000",
        "scale_9",
        "scale_401",
        "brightness_by_0",
        "flip_0",
        "clean_1",
        "fog_3\n",
        "xyzzy",
    ],
    ids=repr,
)
def test_what_the_grammar_does_not_allow_is_refused(name: str) -> None:
    with pytest.raises(LookupError, match=r"views are clean, rotate_<degrees 1\.\.359>, shift_"):
        view(name)


@pytest.mark.parametrize("name", ["rotate_1", "rotate_359", "scale_10", "scale_400", "shift_999"])
def test_the_ends_of_a_range_are_allowed(name: str) -> None:
    assert view(name).name == name


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (torch.rand(3, 4, 4), torch.arange(3)),
        (torch.rand(2, 3, 4, 4), torch.arange(3)),
        (torch.rand(2, 3, 4, 4), torch.zeros(2, 1)),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.arange(2)),
    ],
    ids=["no-batch", "other-count", "ids-in-a-column", "bytes"],
)
@pytest.mark.parametrize("name", ["clean", "fog_3", "flip"])
def test_other_shapes_are_refused(name: str, images: torch.Tensor, ids: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=rf"view '{name}' expected float images \[B, C, H, W\]"):
        view(name)(images, ids)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_the_type_of_the_images_is_kept(dtype: torch.dtype) -> None:
    images = torch.rand(2, 3, 8, 8).to(dtype)
    assert view("gaussian_blur_3")(images, torch.arange(2)).dtype == dtype
