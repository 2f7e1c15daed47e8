"""Layers by the names they have in results."""

from collections.abc import Iterable

from torch import Tensor

from core.errors import NotApplicable
from core.names import slug
from models.base_model import ClassifierModule
from models.fingerprint import baked_tensors

ROOT = "backbone."


def layer_labels(names: Iterable[str]) -> dict[str, str]:
    """Name of a layer -> its part of a result key; one that is taken gets a number.

    Example:
        >>> layer_labels(["backbone.block1.conv", "backbone.block1_conv"])
        {'backbone.block1.conv': 'block1_conv', 'backbone.block1_conv': 'block1_conv_2'}
    """
    labels: dict[str, str] = {}
    for name in names:
        first = label = slug(name.removeprefix(ROOT).removesuffix(".weight")).replace(".", "_")
        number = 1
        while label in labels.values():
            number += 1
            label = f"{first}_{number}"
        labels[name] = label
    return labels


def layer_weights(model: ClassifierModule) -> dict[str, Tensor]:
    """Name -> effective weights [K_out, K_in, ...] of the layers that multiply.

    A mask that is still attached leaves the parameter dense; these are what the forward pass uses.

    Raises:
        NotApplicable: There is none that torch can see.
    """
    found = {
        name: tensor
        for name, tensor in baked_tensors(model).items()
        if name.startswith(ROOT)
        and name.endswith("weight")
        and tensor.ndim > 1
        and tensor.is_floating_point()
    }
    if not found:
        raise NotApplicable("the model has no weight tensor that could be looked at")
    return found
