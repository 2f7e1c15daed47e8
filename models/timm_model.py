"""Networks of timm, with the preprocessing timm knows for them."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import timm
from huggingface_hub import constants, get_session
from timm.data.config import resolve_model_data_config
from torch import nn

from core.errors import ConfigError, DataError
from core.preprocessing import Interpolation, Preprocessing
from models.base_model import ClassifierModule

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")

PATIENCE_S = 10.0
"""For the hub of the weights to say anything."""


class TimmModel(ClassifierModule):
    """Any image classifier of timm.

    Args:
        timm_name: Architecture, or architecture and weights: `resnet18`, `resnet18.tv_in1k`.
        **options: Those of ClassifierModule. With `num_classes` other than published, the head
            starts from random weights.
    """

    def __init__(self, timm_name: str = "", **options: Any) -> None:
        if not timm_name:
            raise ConfigError(["TimmModel needs model.timm_name, such as resnet18.tv_in1k"])
        super().__init__(timm_name=timm_name, **options)


def create_backbone(name: str, *, pretrained: bool, num_classes: int | None = None) -> nn.Module:
    """Network by its name in timm.

    Raises:
        ConfigError: timm has no such network, or no such weights for it.
        DataError: Its weights cannot be had.
    """
    _require_known(name)
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if not pretrained:
        return cast(nn.Module, timm.create_model(name, pretrained=False, **options))
    obstacle = _obstacle_to_hub()
    try:
        with _only_the_cache() if obstacle else nullcontext():
            return cast(nn.Module, timm.create_model(name, pretrained=True, **options))
    except (OSError, RuntimeError) as error:  # no network, no such file, or none was published
        unanswered = obstacle if isinstance(error, OSError) else ""
        raise DataError(
            f"the weights of {name} could not be fetched ({unanswered or _first_line(error)}); "
            "pass model.checkpoint=PATH, or model.pretrained=false for random weights"
        ) from error


def preprocessing_of(backbone: nn.Module) -> Preprocessing:
    """What timm says about the images a network of it was trained on."""
    data = resolve_model_data_config(backbone)
    channels, height, width = data["input_size"]
    named = data["interpolation"]
    interpolation = named if named in INTERPOLATIONS else "bilinear"
    return Preprocessing(
        size=(height, width),
        crop=float(data["crop_pct"]),
        interpolation=cast(Interpolation, interpolation),
        mean=tuple(data["mean"])[:channels],
        std=tuple(data["std"])[:channels],
    )


def _require_known(name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models()
        close = difflib.get_close_matches(architecture, known, n=3)
        hint = f", did you mean {' or '.join(map(repr, close))}?" if close else "."
        raise ConfigError(
            [f"timm has no model {architecture!r}{hint} All {len(known)}: timm.list_models()"]
        )
    published = [known.rpartition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in published:
        raise ConfigError(
            [f"timm has no weights {tag!r} for {architecture}. Known: {', '.join(published)}"]
        )


def _obstacle_to_hub() -> str:
    """What keeps the hub of the weights from answering, asked once; empty where it answers.

    The hub's own library would ask a dozen times in a minute, with a warning each time.
    """
    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE_S)
    except Exception as error:  # noqa: BLE001 - of whichever library its library asks with
        return f"{constants.ENDPOINT} does not answer: {_first_line(error)}"
    return ""


@contextmanager
def _only_the_cache() -> Iterator[None]:
    """Let the hub's library read what was fetched before, as HF_HUB_OFFLINE=1 does."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
