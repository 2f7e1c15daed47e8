"""Records: what a model said about a view, one row a sample, read column by column."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Column:
    """Attribute of `Records` that reads the stored column of the same name."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, records: "Records | None", owner: type) -> Any:
        return self if records is None else records.column(self.name)


class Records:
    """One row a sample, in the order of the sample ids; a resample is again a `Records`.

    Args:
        columns: Column name -> tensor [n]; see the class attributes.
        classes: Number of classes C the model chose among.
        parts: What was kept beside the columns: name -> function that gives [n, width].
    """

    sample_id = Column("Position of the sample in its split, int64 [n].")
    label = Column("True class, int64 [n].")
    predicted = Column("Class of the largest logit, the first of equals; -1 for a broken row.")
    confidence = Column("Largest class probability, float32 [n].")
    margin_logit = Column("Largest logit minus logsumexp of the others, float64 [n].")
    rank = Column("Number of classes placed before the true one; 0 is a hit. int64 [n].")
    log_p_label = Column("Log probability of the true class in nats, float32 [n].")
    logsumexp = Column("Log of the sum of exp(logits), float32 [n].")
    max_logit = Column("Largest logit, float32 [n].")
    sum_p2 = Column("Sum of squared class probabilities, float32 [n].")
    entropy = Column("Entropy of the class probabilities in nats, float32 [n].")
    finite = Column("Whether every logit of the row is finite, bool [n].")
    topk_ids = Column("Classes of the largest logits, best first, int64 [n, k].")
    zero_gradient = Column("Attacks by gradient alone: whether it was 0 at every step, bool [n].")
    topk_logits = Column("The largest logits, best first, float32 [n, k].")

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        *,
        classes: int,
        parts: Mapping[str, Callable[[], Tensor]] | None = None,
    ) -> None:
        self._columns = columns
        self._index: Tensor | None = None
        self._taken: dict[str, Tensor] = {}
        self._parts = dict(parts or {})
        self.classes = classes

    def __len__(self) -> int:
        if self._index is not None:
            return len(self._index)
        return len(self._columns["sample_id"])

    def column(self, name: str) -> Tensor:
        """Column by name; a resample gathers it when it is first asked for."""
        if self._index is None:
            return self._columns[name]
        if name not in self._taken:
            self._taken[name] = self._columns[name].index_select(0, self._index)
        return self._taken[name]

    @property
    def correct(self) -> Tensor:
        """Whether the prediction is the label, bool [n]; a broken row is wrong."""
        return self.predicted == self.label

    @property
    def logits(self) -> Tensor:
        """Logits minus the row's largest, float16 [n, C].

        Raises:
            LookupError: They were not recorded.
        """
        return self._part("logits")

    @property
    def features(self) -> Tensor:
        """What the classifier head sees, float32 [n, D].

        Raises:
            LookupError: They were not recorded.
        """
        return self._part("features")

    def _part(self, name: str) -> Tensor:
        if name not in self._parts:
            raise LookupError(
                f"these records hold no {name}: state needs = {{'records', '{name}'}}"
            )
        whole = self._parts[name]()
        return whole if self._index is None else whole[self._index]

    def take(self, index: Tensor) -> "Records":
        """Rows at `index` (int64 [m], repeats allowed), as a resample of these records."""
        taken = Records(self._columns, classes=self.classes, parts=self._parts)
        taken._index = index if self._index is None else self._index[index]
        return taken


def require_same_samples(records: Records, baseline: Records) -> None:
    """Refuse to pair records of different samples."""
    if not torch.equal(records.sample_id, baseline.sample_id):
        raise ValueError(
            "a paired comparison needs the same samples on both sides, got "
            f"{len(records)} and {len(baseline)} rows with different ids"
        )
