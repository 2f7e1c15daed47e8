"""The recorder: records from the store, or one pass that makes them."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.configuration import plain
from core.names import CLEAN, Split
from core.targets import build
from datamodules.base import ImageDataModule
from models.base_model import ClassifierModule
from recording.key import Pass, chosen_ids
from recording.loop import Batch, Failures, Look, batches, device_of
from recording.passes import Job, refuse_too_many, run_here, run_on_ranks
from recording.records import Records
from store.layout import Layout
from store.records import StoredRecords, find_records
from store.shards import PARTS
from store.stored import Part

log = logging.getLogger(__name__)

LOGITS_BYTES_KEPT = 2**30
"""Logits of a view are stored unasked up to this size, 1 GB."""


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """How passes are run; of these only `limit_samples` can change what a row belongs to."""

    root: Path
    batch_size: int = 128
    limit_samples: int | None = None
    verify_data: bool = False
    threads: int | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ranks(self) -> int:
        """Processes of one pass on this machine."""
        return int(self.trainer.get("devices", 1))


class Recorder:
    """Gives records; runs a forward pass only for what the store does not hold.

    Args:
        options: How passes are run and where records lie.
        library: Dataset library: name -> configuration node.

    Attributes:
        passes: Number of passes this recorder has run; 0 for a fully cached evaluation.
        images_given: Number of images given to measurements that run the model themselves.
    """

    def __init__(self, options: RecordingOptions, library: Mapping[str, Any]) -> None:
        self.options = options
        self.layout = Layout(options.root)
        self.passes, self.images_given = 0, 0
        self._library = library
        self._read: dict[str, Records] = {}
        self._failed: dict[str, Exception] = {}
        self._datamodules: dict[str, ImageDataModule] = {}
        self._manifests: dict[tuple[str, Split, str], str] = {}
        self._fingerprints: WeakKeyDictionary[ClassifierModule, tuple[object, str]]
        self._fingerprints = WeakKeyDictionary()

    @classmethod
    def from_config(cls, config: DictConfig) -> "Recorder":
        """Recorder as an evaluation's configuration describes it."""
        options = RecordingOptions(
            root=Path(config.results_dir),
            batch_size=config.batch_size,
            limit_samples=config.limit_samples,
            verify_data=config.verify_data,
            threads=config.threads,
            trainer=plain(config.trainer),
        )
        return cls(options, config.dataset_library)

    def datamodule(self, name: str, model: ClassifierModule) -> ImageDataModule:
        """Datamodule of the library, giving images as `model` wants them; nothing is read yet."""
        key = f"{name} {model.preprocessing}"
        if key not in self._datamodules:
            datamodule = build(plain(self._library[name]), expects=ImageDataModule)
            datamodule.preprocessing = model.preprocessing
            self._datamodules[key] = datamodule
        return self._datamodules[key]

    def manifest(self, name: str, split: Split, model: ClassifierModule, view: str = CLEAN) -> str:
        """Digest of what is on disk, worked out once an evaluation.

        Views share the digest of the clean images, unless their own images lie on disk.
        """
        datamodule = self.datamodule(name, model)
        behind = datamodule.behind(view)
        place = (name, split, CLEAN if behind is datamodule else view)
        if place not in self._manifests:
            self._manifests[place] = behind.manifest(split, verify=self.options.verify_data)
        return self._manifests[place]

    def fingerprint(self, model: ClassifierModule) -> str:
        """The model's fingerprint, worked out again only after a tensor was written to."""
        tensors = [*model.parameters(), *model.buffers()]
        state = tuple((id(tensor), tensor._version) for tensor in tensors)
        known = self._fingerprints.get(model)
        if known is None or known[0] != state:
            known = self._fingerprints[model] = (state, model.fingerprint())
        return known[1]

    def describe(self, model: ClassifierModule, name: str, split: Split, view: str = CLEAN) -> Pass:
        """The pass that would make these records; its key is where they lie."""
        datamodule = self.datamodule(name, model)
        space = datamodule.label_space
        return Pass(
            model=self.fingerprint(model),
            datamodule=name,
            split=split,
            view=datamodule.view(view).describe(),
            manifest=self.manifest(name, split, model, view),
            limit_samples=self.limit(model, name, split),
            label_space=None if space is None else space.as_dict(),
            preprocessing=model.preprocessing.as_dict(),
            numerics=model.numerics(),
        )

    def limit(self, model: ClassifierModule, name: str, split: Split) -> int | None:
        """`limit_samples` where it leaves samples out, else None."""
        limit, total = self.options.limit_samples, self.datamodule(name, model).count(split)
        return limit if limit is not None and limit < total else None

    def samples(self, model: ClassifierModule, name: str, split: Split) -> int:
        """Number of rows a pass over the split has."""
        total = self.datamodule(name, model).count(split)
        return len(chosen_ids(total, self.options.limit_samples))

    def images(
        self,
        model: ClassifierModule,
        name: str,
        split: Split = "test",
        view: str = CLEAN,
        *,
        samples: int,
    ) -> Iterator[Batch]:
        """Images as a pass would give them to `model`, for measurements that look inside it.

        What a model says belongs into records; this is for what no record holds, activations and
        gradients, and should be asked for few samples.

        Args:
            model: Decides preprocessing and device.
            name: Entry of the dataset library.
            split: One of `train`, `val`, `test`.
            view: How the images are looked at.
            samples: How many, a fixed random subset; all where the split, or `limit_samples`, has
                fewer.

        Yields:
            Batches of at most the configured batch size, on the device of the model, ids ascending.

        Raises:
            DataError: More images are damaged than `max_decode_errors` allows.
        """
        datamodule = self.datamodule(name, model)
        dataset = datamodule.behind(view).dataset(split)
        look, device = datamodule.view(view), device_of(model)
        most = min(samples, self.samples(model, name, split))
        loader = batches(
            dataset,
            chosen_ids(len(dataset), most),
            batch_size=self.options.batch_size,
            num_workers=datamodule.num_workers,
        )
        failures: Failures = {}
        for batch in loader:
            failures.update(batch.failures)
            refuse_too_many(failures, datamodule.max_decode_errors, f"{name} {split} {view}")
            if not len(batch.ids):
                continue
            ids = batch.ids.to(device)
            self.images_given += len(ids)
            images = look(batch.images.to(device), ids)
            yield Batch(images=images, labels=batch.labels.to(device), ids=ids)

    def stored(self, wanted: Pass, needs: Collection[Part] = ()) -> StoredRecords | None:
        """Finished records of a pass that hold what is needed, or None."""
        return find_records(self.layout, wanted.key, needs=needs)

    def records(
        self,
        model: ClassifierModule,
        name: str,
        split: Split = "test",
        view: str = CLEAN,
        *,
        needs: Collection[Part] = (),
    ) -> Records:
        """What `model` said about a view; a pass is run where the store holds no answer.

        Raises:
            Exception: Whatever the pass raised; asked again, the same error without a second try.
        """
        wanted = self.describe(model, name, split, view)
        memo = " ".join([wanted.key, *sorted(needs)])
        if wanted.key in self._failed:
            raise self._failed[wanted.key]
        if memo not in self._read:
            stored = self.stored(wanted, needs)
            if stored is None:
                stored = self._record(model, wanted, needs)
            self._read[memo] = self._opened(stored, model, wanted)
        return self._read[memo]

    def _record(
        self, model: ClassifierModule, wanted: Pass, needs: Collection[Part]
    ) -> StoredRecords:
        if model.fingerprint() != wanted.model:
            raise RuntimeError(
                f"{model.model_name or type(model).__name__} was changed after its records were "
                "asked for; a measurement that changes weights has to put them back"
            )
        there = self.stored(wanted)  # without a part: what it has stays
        held = {part for part in PARTS if there is not None and there.has(part)}
        try:
            self._run(model, wanted, {*needs, *held})
        except Exception as error:
            self._failed[wanted.key] = error
            raise
        found = find_records(self.layout, wanted.key)
        if found is None:
            raise OSError(f"records {wanted.key} vanished from {self.layout.root} after the pass")
        return found

    def _run(self, model: ClassifierModule, wanted: Pass, parts: set[Part]) -> None:
        datamodule = self.datamodule(wanted.datamodule, model)
        dataset = datamodule.behind(wanted.view["name"]).dataset(wanted.split)
        ids = chosen_ids(len(dataset), self.options.limit_samples)
        classes = datamodule.num_classes
        if 2 * len(ids) * classes <= LOGITS_BYTES_KEPT:
            parts = {*parts, "logits"}
        job = Job(
            root=self.options.root,
            key=wanted.key,
            manifest={"parts": wanted.parts, "datamodule": wanted.datamodule, "classes": classes},
            look=Look(
                model=model,
                view=datamodule.view(wanted.view["name"]),
                label_space=datamodule.label_space,
                classes=classes,
                batch_size=self.options.batch_size,
            ),
            dataset=dataset,
            ids=ids,
            num_workers=datamodule.num_workers,
            parts=frozenset(parts),
            threads=self.options.threads,
            max_decode_errors=datamodule.max_decode_errors,
            title=f"{wanted.datamodule} {wanted.split} {wanted.view['name']}",
        )
        self.passes += 1
        if self.options.ranks == 1:
            run_here(job)
        else:
            run_on_ranks(job, self.options.trainer, ranks=self.options.ranks)

    def _opened(self, stored: StoredRecords, model: ClassifierModule, wanted: Pass) -> Records:
        columns = {name: torch.from_numpy(column) for name, column in stored.columns().items()}
        broken = int((~columns["finite"]).sum())
        if broken:
            log.warning(
                "%s gave non-finite logits for %d of %d samples of %s %s: they count as wrong",
                getattr(model, "model_name", type(model).__name__),
                broken,
                len(columns["finite"]),
                wanted.datamodule,
                wanted.split,
            )
        return Records(
            columns,
            classes=stored.manifest["classes"],
            parts={part: partial(_array, stored, part) for part in PARTS if stored.has(part)},
        )


def _array(stored: StoredRecords, part: Part) -> Tensor:
    return torch.from_numpy(stored.logits() if part == "logits" else stored.features())
