"""What is kept of the logits of a batch: the per-sample columns of the records."""

import torch
from torch import Tensor
from torch.nn import functional

TOPK = 5
"""Best classes kept a sample; columns are padded where the model has fewer classes."""

NO_CLASS = -1
"""Class id where there is none: a broken row's prediction, or padding."""

FLOAT16_MIN = -65504.0


def record_columns(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Every column of the records that follows from logits and labels.

    Exponentials are taken in float64 of the float32 logits, once, of all classes but the best. So
    the margin still orders samples whose confidence has rounded to 1, and small probabilities keep
    all their digits. Equal logits are ordered by class, the lower one first.

    A row with a non-finite logit is a wrong answer of a model that knows nothing: predicted -1,
    rank C, otherwise the columns of C equal logits of 0.

    Args:
        logits: Shape [B, C], C >= 2, any floating type; read as float32.
        labels: True classes, shape [B], integers in [0, C).

    Returns:
        Column name -> tensor [B] on the logits' device. `predicted`, `rank` int64;
        `margin_logit` float64, `z_best - logsumexp(z_others)`; `confidence`, `log_p_label`,
        `logsumexp`, `max_logit`, `sum_p2`, `entropy` float32, in nats where a logarithm is taken;
        `finite` bool; `topk_ids` int64 [B, 5] and `topk_logits` float32 [B, 5], best first, padded
        with -1 and NaN.

    Example:
        >>> logits = torch.tensor([[1.0, 4.0], [0.0, float("nan")]])
        >>> columns = record_columns(logits, torch.tensor([1, 0]))
        >>> columns["predicted"].tolist(), columns["rank"].tolist()
        ([1, -1], [0, 2])
        >>> columns["margin_logit"].tolist(), columns["confidence"][1].item()
        ([3.0, 0.0], 0.5)

    Reference:
        The margin is the logit of the largest probability, log(p / (1 - p)).
    """
    _require_rows(logits, labels)
    logits, labels = logits.float(), labels.long()
    finite = _finite_rows(logits)
    logits = logits.masked_fill(~finite[:, None], 0.0)
    order = _order(logits)
    top_ids = order.topk(min(TOPK, logits.shape[1]), dim=1).indices
    rank = (order > order.gather(1, labels[:, None])).sum(dim=1)
    ids, top_logits = _padded_top(top_ids, logits.gather(1, top_ids), finite)
    return {
        "predicted": ids[:, 0],
        **_probability_columns(logits.double(), labels, top_ids[:, :2]),
        "rank": rank.masked_fill(~finite, logits.shape[1]),
        "finite": finite,
        "topk_ids": ids,
        "topk_logits": top_logits,
    }


def shifted_logits(logits: Tensor) -> Tensor:
    """Logits minus the row's largest, in the half precision they are stored in.

    The largest becomes exactly 0, so neighbours of the decision keep the most digits; plain half
    precision would change decisions among many classes.

    Args:
        logits: Shape [B, C], any floating type; read as float32.

    Returns:
        Float16 [B, C] in [-65504, 0]; rows with a non-finite logit are NaN throughout.

    Example:
        >>> shifted_logits(torch.tensor([[9.0, 8.5, -1e6]])).tolist()
        [[0.0, -0.5, -65504.0]]
    """
    logits = logits.float()
    shifted = (logits - logits.amax(dim=1, keepdim=True)).clamp(min=FLOAT16_MIN).half()
    return shifted.masked_fill(~_finite_rows(logits)[:, None], torch.nan)


def _require_rows(logits: Tensor, labels: Tensor) -> None:
    """Refuse shapes that would broadcast, and labels that name no class."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.shape[1] < 2:
        raise ValueError(
            "expected logits [B, C] with C >= 2 and labels [B], "
            f"got {list(logits.shape)} and {list(labels.shape)}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= logits.shape[1]):
        raise ValueError(
            f"expected labels in [0, {logits.shape[1]}), got {labels.min()} to {labels.max()}; "
            "evaluate a model made for this dataset or give the dataset a label space"
        )


def _finite_rows(logits: Tensor) -> Tensor:
    """Bool [B]: a float64 sum of finite float32 cannot overflow, so it tells in one kernel."""
    return logits.sum(dim=1, dtype=torch.float64).isfinite()


def _order(logits: Tensor) -> Tensor:
    """Int64 keys without ties: a larger logit has a larger key; of equals, the lower class."""
    bits = (logits + 0.0).view(torch.int32)  # adding 0 makes -0.0 the equal of 0.0
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # the order of floats as the order of ints
    classes = torch.arange(logits.shape[1], device=logits.device)
    return ascending.long() * 2**32 - classes


def _probability_columns(logits: Tensor, labels: Tensor, best_two: Tensor) -> dict[str, Tensor]:
    """Columns that need exponentials, from float64 `logits` and the two best classes [B, 2].

    Everything is relative to the second best logit, so sums of the others lie in [1, C - 1].
    """
    best, second = logits.gather(1, best_two).unbind(dim=1)
    gap = best - second
    relative = logits - second[:, None]
    others = relative.exp().scatter_(1, best_two[:, :1], 0.0)
    mass = others.sum(dim=1)
    margin = gap - mass.log()
    above_best = functional.softplus(-margin)  # logsumexp - best = -log(confidence)
    p_second = (-gap - above_best).exp()
    log_p = logits.gather(1, labels[:, None]).squeeze(1) - best - above_best
    confidence = (-above_best).exp()
    surprise = gap * mass - torch.linalg.vecdot(others, relative)
    columns = {
        "confidence": confidence,
        "log_p_label": log_p.clamp(min=torch.finfo(torch.float32).min),
        "logsumexp": best + above_best,
        "max_logit": best,
        "sum_p2": confidence.square() + p_second.square() * torch.linalg.vecdot(others, others),
        "entropy": above_best + p_second * surprise,
    }
    return {"margin_logit": margin, **{name: x.float() for name, x in columns.items()}}


def _padded_top(ids: Tensor, logits: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
    """Best classes and logits, [B, TOPK] each, with nothing where there is nothing."""
    ids = ids.masked_fill(~finite[:, None], NO_CLASS)
    logits = logits.masked_fill(~finite[:, None], torch.nan)
    missing = (0, TOPK - ids.shape[1])
    return (
        functional.pad(ids, missing, value=NO_CLASS),
        functional.pad(logits, missing, value=torch.nan),
    )
