"""BatchNorm statistics of a network that lost filters, estimated anew before it is scored."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def estimate_norms(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> bool:
    """Set running means and variances to those of some batches, each counting alike.

    A narrower network meets its norms with other activations than those they have seen. Untrained
    scores then tell how wrong the statistics are, and not how good the filters that are left are.

    Args:
        model: In eval mode; only these buffers change.
        batches: Images [B, K, H, W] and labels; one of a single image is passed over, as it has no
            variance.

    Returns:
        Whether there was anything to estimate.

    Reference:
        Li et al., EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning, ECCV
        2020, section 3.3.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    usable = (images for images, _ in batches if len(images) > 1) if norms else ()
    seen = 0
    try:
        with torch.no_grad():
            for seen, images in enumerate(usable, start=1):
                if seen == 1:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None  # the mean over all batches
                        norm.train()
                model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
    return bool(seen)
