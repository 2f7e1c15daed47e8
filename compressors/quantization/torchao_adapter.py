"""The one place that knows torchao."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.optional import require
from models.quantized import Rounded

DTYPES = {4: "int4", 8: "int8"}


def rounded_by_torchao(
    weight: Tensor, *, bits: int, group_size: int | None, algorithm: str
) -> Rounded:
    """What torchao makes of a weight, in our form.

    Args:
        weight: Floating point, [rows, columns]; left as it is.
        bits: 4 or 8.
        group_size: As in `models.quantized.round_to_nearest`.
        algorithm: `affine`, the nearest integers, or `hqq_scale_only`, steps that are fitted to all
            entries of a group.

    Raises:
        MissingDependency: torchao is not installed.
    """
    quantization = require("torchao.quantization", extra="torchao")
    granularity = require("torchao.quantization.granularity", extra="torchao")
    columns = weight.shape[1]
    padding = -columns % (group_size or columns)  # torchao wants whole groups; zeros change none
    layer = nn.Linear(columns + padding, len(weight), bias=False, device="meta")  # draws nothing
    layer.weight = nn.Parameter(F.pad(weight.detach(), (0, padding)))
    size = granularity.PerGroup(group_size) if group_size else granularity.PerAxis(0)
    config = quantization.IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, DTYPES[bits]),
        granularity=size,
        intx_choose_qparams_algorithm=algorithm,
    )
    quantization.quantize_(layer, config)
    made: Any = layer.weight
    if made.zero_point.any():
        raise AssertionError("torchao was asked for a symmetric quantizer")
    scale = made.scale.view(len(weight), -1).to(weight.dtype)
    return Rounded(made.qdata[:, :columns].contiguous(), scale)
