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
from core.errors import NotApplicable
from core.names import CLEAN, MODEL, Split
from core.targets import build
from datamodules.base import ImageDataModule
from datamodules.label_space import LabelSpace
from models.base_model import ClassifierModule
from recording.attacks.grammar import TRANSFER, attack, is_transfer
from recording.key import Pass, chosen_ids
from recording.loop import Batch, Failures, Look, batches, device_of
from recording.passes import Job, refuse_too_many, run_here
from recording.ranks import run_on_ranks
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
        """Processes of one pass, on all nodes."""
        return int(self.trainer.get("devices", 1)) * int(self.trainer.get("num_nodes", 1))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Among what a model chooses when it looks at a dataset."""

    label_space: LabelSpace | None
    classes: int
    labelled: bool  # whether the labels of the dataset are of these classes


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
            limit_samples=config.get("limit_samples"),
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
        behind = datamodule.behind(unattacked(view))
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

    def describe(
        self,
        model: ClassifierModule,
        name: str,
        split: Split,
        view: str = CLEAN,
        *,
        samples: int | None = None,
        classes_of: str = "",
    ) -> Pass:
        """The pass that would make these records; its key is where they lie."""
        choice = self.choice(model, name, classes_of)
        space = choice.label_space
        return Pass(
            model=self.fingerprint(model),
            datamodule=name,
            split=split,
            view=self._view(model, name, view),
            manifest=self.manifest(name, split, model, view),
            limit_samples=self.limit(model, name, split, samples),
            label_space=None if space is None else space.as_dict(),
            preprocessing=model.preprocessing.as_dict(),
            numerics=model.numerics(),
            labelled=choice.labelled,
        )

    def choice(self, model: ClassifierModule, name: str, classes_of: str = "") -> Choice:
        """Among what `model` chooses when it looks at a dataset.

        Args:
            model: Decides, where `classes_of` is `model`.
            name: Dataset that is looked at.
            classes_of: Dataset whose classes are chosen among: the own one where it is empty. The
                reserved name `model` stands for all classes the model has.
        """
        if classes_of == MODEL:
            return Choice(label_space=None, classes=model.num_classes, labelled=False)
        asked = self.datamodule(classes_of or name, model)
        return Choice(
            label_space=asked.label_space,
            classes=asked.num_classes,
            labelled=classes_of in ("", name),
        )

    def limit(
        self, model: ClassifierModule, name: str, split: Split, samples: int | None = None
    ) -> int | None:
        """The smaller of `limit_samples` and `samples` where it leaves samples out, else None."""
        total = self.datamodule(name, model).count(split)
        limits = [n for n in (self.options.limit_samples, samples) if n is not None and n < total]
        return min(limits, default=None)

    def samples(
        self, model: ClassifierModule, name: str, split: Split, samples: int | None = None
    ) -> int:
        """Number of rows a pass over the split, or over `samples` of it, has."""
        total = self.datamodule(name, model).count(split)
        return len(chosen_ids(total, self.limit(model, name, split, samples)))

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
        samples: int | None = None,
        classes_of: str = "",
    ) -> Records:
        """What `model` said about a view; a pass is run where the store holds no answer.

        An attack is a view too: `pgd_8` is made against `model`, `transfer_pgd_8` against its
        baseline (against itself, where it has none). For what is costly, `samples` leaves all but a
        fixed random subset out; the ids of a smaller subset are among those of a larger one.

        Images of other classes than the model knows, foreign or with labels that are no classes,
        are looked at with `classes_of`, as `choice` describes it. Their label is then -1, and what
        depends on the label (`rank`, `log_p_label`, `correct`) means nothing.

        Raises:
            Exception: Whatever the pass raised; asked again, the same error without a second try.
        """
        wanted = self.describe(model, name, split, view, samples=samples, classes_of=classes_of)
        memo = " ".join([wanted.key, *sorted(needs)])
        if wanted.key in self._failed:
            raise self._failed[wanted.key]
        if memo not in self._read:
            stored = self.stored(wanted, needs)
            if stored is None:
                stored = self._record(model, wanted, needs, classes_of)
            self._read[memo] = self._opened(stored, model, wanted)
        return self._read[memo]

    def _record(
        self, model: ClassifierModule, wanted: Pass, needs: Collection[Part], classes_of: str
    ) -> StoredRecords:
        if model.fingerprint() != wanted.model:
            raise RuntimeError(
                f"{model.model_name or type(model).__name__} was changed after its records were "
                "asked for; a measurement that changes weights has to put them back, and a model's "
                "source must not be edited while it is evaluated"
            )
        there = self.stored(wanted)  # without a part: what it has stays
        held = {part for part in PARTS if there is not None and there.has(part)}
        try:
            self._run(model, wanted, {*needs, *held}, classes_of)
        except NotApplicable:  # of what was needed here: the columns may be had all the same
            raise
        except Exception as error:
            self._failed[wanted.key] = error
            raise
        found = find_records(self.layout, wanted.key)
        if found is None:
            raise OSError(f"records {wanted.key} vanished from {self.layout.root} after the pass")
        return found

    def _view(self, model: ClassifierModule, name: str, view: str) -> dict[str, Any]:
        """What identifies a view; of an attack, with the model it is made against."""
        attacked = attack(view)
        if attacked is None:
            return self.datamodule(name, model).view(view).describe()
        source = source_of(model, view)
        return {
            **attacked.describe(),
            "name": attacked.name if source is model else TRANSFER + attacked.name,
            "source": {"model": self.fingerprint(source), "numerics": source.numerics()},
        }

    def _run(
        self, model: ClassifierModule, wanted: Pass, parts: set[Part], classes_of: str
    ) -> None:
        view = wanted.view["name"]
        if attack(view) is not None:
            require_attackable(model, wanted)
        datamodule = self.datamodule(wanted.datamodule, model)
        dataset = datamodule.behind(unattacked(view)).dataset(wanted.split)
        ids = chosen_ids(len(dataset), wanted.limit_samples)
        source = source_of(model, view)
        choice = self.choice(model, wanted.datamodule, classes_of)
        classes = choice.classes
        if 2 * len(ids) * classes <= LOGITS_BYTES_KEPT:
            parts = {*parts, "logits"}
        job = Job(
            root=self.options.root,
            key=wanted.key,
            manifest={"parts": wanted.parts, "datamodule": wanted.datamodule, "classes": classes},
            look=Look(
                model=model,
                view=datamodule.view(unattacked(view)),
                label_space=choice.label_space,
                classes=classes,
                batch_size=self.options.batch_size,
                labelled=choice.labelled,
                attack=attack(view),
                source=None if source is model else source,
            ),
            dataset=dataset,
            ids=ids,
            num_workers=datamodule.num_workers,
            parts=frozenset(parts),
            threads=self.options.threads,
            max_decode_errors=datamodule.max_decode_errors,
            title=f"{wanted.datamodule} {wanted.split} {view}",
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


def unattacked(view: str) -> str:
    """The view whose images an attack begins with; any other view itself."""
    return view if attack(view) is None else CLEAN


def source_of(model: ClassifierModule, view: str) -> ClassifierModule:
    """The model that the images of an attack are made against."""
    return model.baseline if is_transfer(view) and model.baseline is not None else model


def require_attackable(model: ClassifierModule, wanted: Pass) -> None:
    """Refuse an attack that has no meaning.

    Raises:
        NotApplicable: There are no labels, or the attacked model wants images of another size.
    """
    if not wanted.labelled:
        raise NotApplicable("an attack needs labels that are classes of the model")
    source = source_of(model, wanted.view["name"])
    own, other = model.preprocessing.size, source.preprocessing.size
    if own != other:
        raise NotApplicable(
            f"images made against a model of images of {other} cannot be shown to one of {own}"
        )


def _array(stored: StoredRecords, part: Part) -> Tensor:
    return torch.from_numpy(stored.logits() if part == "logits" else stored.features())
