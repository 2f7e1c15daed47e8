"""Attention of timm's vision transformers without some of its heads."""

import copy
from collections.abc import Sequence
from typing import Any, cast

from timm.layers.attention import Attention
from torch import Tensor, nn

from core.errors import IncompatibleModel
from models.channels import cut, kept_channels, kept_of
from models.replacements import Replacement


class KeptHeads(Replacement):
    """Stands in the place of an attention and holds a narrower one.

    Args:
        attention: What is left of it.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    @classmethod
    def of(  # type: ignore[override]
        cls, layer: nn.Module, *, removed: Sequence[int]
    ) -> "KeptHeads":
        """The attention without these heads."""
        obstacle = why_whole(layer)
        if obstacle:
            raise IncompatibleModel(obstacle)
        attention = cast(Attention, copy.deepcopy(layer))
        rows, columns = head_channels(attention, removed)
        _cut(attention.qkv, inputs=[], outputs=rows)
        _cut(attention.proj, inputs=columns, outputs=[])
        attention.num_heads = int(kept_channels(attention.num_heads, removed).sum())
        attention.attn_dim = attention.num_heads * attention.head_dim
        return cls(attention)

    def forward(self, tokens: Tensor, *args: Any, **options: Any) -> Tensor:
        """As the attention, shape [N, T, D]."""
        return cast(Tensor, self.attention(tokens, *args, **options))


def why_whole(layer: nn.Module) -> str:
    """Why no head of a layer can go, as a sentence; empty where it can.

    Example:
        >>> why_whole(Attention(8, num_heads=2))
        ''
    """
    if not isinstance(layer, Attention):
        return f"it is not the Attention of timm.layers, but one of {type(layer).__module__}"
    if layer.gate is not None or not isinstance(layer.norm, nn.Identity):
        return "a gate or a norm follows that mixes or scales its heads"
    return ""


def head_channels(attention: Attention, heads: Sequence[int]) -> tuple[list[int], list[int]]:
    """Outputs of `qkv` and inputs of `proj` that belong to some heads.

    Example:
        >>> head_channels(Attention(4, num_heads=2), [1])
        ([2, 3, 6, 7, 10, 11], [2, 3])
    """
    size = attention.head_dim
    columns = [head * size + i for head in heads for i in range(size)]
    return [part * attention.attn_dim + column for part in range(3) for column in columns], columns


def _cut(layer: nn.Linear, *, inputs: Sequence[int], outputs: Sequence[int]) -> None:
    """Take channels out in place; a frozen parameter stays frozen."""
    kept = kept_of(layer, inputs=inputs, outputs=outputs)
    for name, entries in kept.entries.items():
        old = getattr(layer, name)
        setattr(layer, name, nn.Parameter(cut(old.detach(), entries), old.requires_grad))
    for attribute, value in kept.attributes.items():
        setattr(layer, attribute, value)
