"""Finding the classifier head of any network."""

from typing import cast

from torch import nn


def find_head(backbone: nn.Module) -> tuple[str, int | None]:
    """Name of the module that makes the logits, and their number.

    timm says it; elsewhere it is the last linear layer. A network with several heads (a distilled
    DeiT) is known by its first.

    Returns:
        Name relative to `backbone`, empty where there is none, and the width or None.

    Example:
        >>> find_head(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        ('2', 3)
    """
    published = getattr(backbone, "pretrained_cfg", None) or {}
    named = published.get("classifier")
    if named:
        name = named if isinstance(named, str) else named[0]
        return name, cast(int, backbone.num_classes)
    linear = [(name, m) for name, m in backbone.named_modules() if isinstance(m, nn.Linear)]
    if not linear:
        return "", None
    name, layer = linear[-1]
    return name, layer.out_features
