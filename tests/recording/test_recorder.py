"""Passes: who runs them, who finds them, and that their rows do not depend on how."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.errors import DataError, NotApplicable
from core.preprocessing import Preprocessing
from datamodules.base import ImageDataModule
from models.base_model import ClassifierModule
from recording.key import chosen_ids
from recording.loop import evaluating, padded
from recording.recorder import Recorder, RecordingOptions
from recording.records import Records
from store.layout import Layout
from store.records import list_records

LIBRARY = {
    "dummy": {
        "_target_": "datamodules.dummy.Dummy",
        "num_classes": 4,
        "size": [6, 6],
        "channels": 1,
        "samples": 11,
    }
}


class TinyModel(ClassifierModule):
    """A network whose rows depend on the batch size in their last bits, as real ones do."""

    calls = 0

    def load_backbone(self) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
        )

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(6, 6))

    def forward(self, images: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(images)


class Closed(TinyModel):
    """A network whose features cannot be had."""

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        raise NotApplicable("no features")


@pytest.fixture
def model() -> TinyModel:
    TinyModel.calls = 0
    return TinyModel()


def recorder(root: Path, **options: object) -> Recorder:
    return Recorder(RecordingOptions(root=root, **{"batch_size": 4, **options}), LIBRARY)


def columns(records: Records) -> dict[str, Tensor]:
    names = ("sample_id", "label", "predicted", "confidence", "margin_logit", "topk_logits")
    return {name: records.column(name) for name in names}


def test_a_pass_gives_one_row_a_sample_in_order(tmp_path: Path, model: TinyModel) -> None:
    records = recorder(tmp_path).records(model, "dummy")
    assert records.sample_id.tolist() == list(range(11))
    assert records.classes == 4
    assert records.logits.shape == (11, 4)
    assert records.logits.max(dim=1).values.tolist() == [0.0] * 11


def test_a_second_recorder_runs_no_pass_and_reads_no_data(tmp_path: Path, model: TinyModel) -> None:
    first = recorder(tmp_path)
    before = columns(first.records(model, "dummy"))
    calls, reads = TinyModel.calls, ImageDataModule.setup_calls
    second = recorder(tmp_path)
    after = columns(second.records(model, "dummy"))
    assert (first.passes, second.passes) == (1, 0)
    assert (TinyModel.calls, ImageDataModule.setup_calls) == (calls, reads)
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


def test_one_changed_weight_is_another_pass(tmp_path: Path, model: TinyModel) -> None:
    asked = recorder(tmp_path)
    asked.records(model, "dummy")
    with torch.no_grad():
        model.backbone[0].weight[0, 0, 0, 0] += 1
    asked.records(model, "dummy")
    assert asked.passes == 2


@pytest.mark.parametrize("batch_size", [1, 3, 512], ids=str)
def test_decisions_do_not_depend_on_the_batch_size(
    tmp_path: Path, model: TinyModel, batch_size: int
) -> None:
    wanted = recorder(tmp_path / "a").records(model, "dummy")
    found = recorder(tmp_path / "b", batch_size=batch_size).records(model, "dummy")
    for name in ("sample_id", "label", "predicted", "rank"):
        assert torch.equal(found.column(name), wanted.column(name)), name
    torch.testing.assert_close(found.max_logit, wanted.max_logit, rtol=0, atol=1e-4)


def test_a_model_without_features_has_its_other_records(tmp_path: Path) -> None:
    asked, model = recorder(tmp_path), Closed()
    with pytest.raises(NotApplicable, match="no features"):
        asked.records(model, "dummy", needs={"features"})
    assert len(asked.records(model, "dummy")) == 11
    with pytest.raises(NotApplicable, match="no features"):
        asked.records(model, "dummy", needs={"features"})


def test_a_limit_keeps_original_ids_and_is_part_of_the_key(
    tmp_path: Path, model: TinyModel
) -> None:
    every = recorder(tmp_path).records(model, "dummy")
    some = recorder(tmp_path, limit_samples=5).records(model, "dummy")
    ids = chosen_ids(11, 5)
    assert some.sample_id.tolist() == ids.tolist()
    assert torch.equal(some.label, every.label[torch.from_numpy(ids)])


def test_broken_rows_are_named_and_wrong(
    tmp_path: Path, model: TinyModel, caplog: pytest.LogCaptureFixture
) -> None:
    with torch.no_grad():
        model.backbone[4].bias[2] = float("nan")
    with caplog.at_level(logging.WARNING):
        records = recorder(tmp_path).records(model, "dummy")
    assert not records.correct.any()
    assert "non-finite logits for 11 of 11 samples" in caplog.text


def test_logits_of_the_wrong_width_are_refused(tmp_path: Path, model: TinyModel) -> None:
    model.backbone[4] = nn.Linear(128, 3)
    asked = recorder(tmp_path)
    with pytest.raises(ValueError, match=r"4 classes.*got \[4, 3\]"):
        asked.records(model, "dummy")
    assert not list((tmp_path / "records").glob("*"))


def test_a_pass_that_failed_is_not_tried_again(tmp_path: Path, model: TinyModel) -> None:
    model.backbone[4] = nn.Linear(128, 3)
    asked = recorder(tmp_path)
    for _ in range(2):
        with pytest.raises(ValueError, match="4 classes"):
            asked.records(model, "dummy")
    assert asked.passes == 1


def test_a_damaged_table_is_named_moved_aside_and_made_again(
    tmp_path: Path, model: TinyModel
) -> None:
    before = columns(recorder(tmp_path).records(model, "dummy"))
    (folder,) = (tmp_path / "records").iterdir()
    table = folder / "table.parquet"
    table.write_bytes(table.read_bytes()[:-7])
    again = recorder(tmp_path)
    with pytest.warns(UserWarning, match="table.parquet"):
        after = columns(again.records(model, "dummy"))
    assert again.passes == 1
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


def test_evaluating_restores_a_frozen_batchnorm_even_after_an_error(model: TinyModel) -> None:
    model.train()
    model.backbone[1].eval()
    with pytest.raises(RuntimeError, match="stop"):
        _stop_while_evaluating(model)
    assert model.training
    assert not model.backbone[1].training


def _stop_while_evaluating(model: TinyModel) -> None:
    with evaluating(model):
        assert not model.training
        raise RuntimeError("stop")


def test_padding_repeats_the_first_row() -> None:
    assert padded(torch.tensor([7, 8]), 4).tolist() == [7, 8, 7, 7]


def test_resampling_gathers_rows_and_nests() -> None:
    records = Records({"sample_id": torch.arange(3), "label": torch.tensor([5, 6, 7])}, classes=8)
    twice = records.take(torch.tensor([2, 0])).take(torch.tensor([1, 1, 0]))
    assert twice.label.tolist() == [5, 5, 7]
    assert len(twice) == 3


@pytest.mark.slow
def test_fifty_variants_share_the_records_of_their_baseline(
    tmp_path: Path, model: TinyModel
) -> None:
    layout, changed = Layout(tmp_path), TinyModel()
    first = recorder(tmp_path).describe(model, "dummy", "test")
    inodes, passes = set(), 0
    for number in range(50):
        with torch.no_grad():
            changed.backbone[4].bias.fill_(number)
        job = recorder(tmp_path)  # each in a process of its own
        job.records(model, "dummy")
        job.records(changed, "dummy")
        inodes.add(layout.record(first.key).stat().st_ino)
        passes += job.passes
    assert passes == 51
    assert len(inodes) == 1
    assert len(list_records(layout)) == 51


def test_more_ranks_than_samples_are_refused(tmp_path: Path, model: TinyModel) -> None:
    asked = recorder(tmp_path, trainer={"accelerator": "cpu", "devices": 12})
    with pytest.raises(ValueError, match="12 ranks for 11 samples"):
        asked.records(model, "dummy")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3], ids=str)
def test_several_ranks_give_the_rows_of_one(tmp_path: Path, model: TinyModel, ranks: int) -> None:
    one = recorder(tmp_path / "one", threads=1).records(model, "dummy")
    several = recorder(
        tmp_path / "several", threads=1, trainer={"accelerator": "cpu", "devices": ranks}
    ).records(model, "dummy")
    torch.testing.assert_close(columns(several), columns(one), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(several.logits, one.logits)
    assert not list((tmp_path / "several" / "records").glob("*.shard"))


@pytest.mark.slow
def test_one_task_of_slurm_starts_its_ranks_itself(
    tmp_path: Path, model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_task = {"JOB_ID": "1", "NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "NNODES": "1"}
    for name, value in {**one_task, "LOCALID": "0", "NODEID": "0", "JOB_NAME": "x"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    asked = recorder(tmp_path, threads=1, trainer={"accelerator": "cpu", "devices": 2})
    assert asked.records(model, "dummy").sample_id.tolist() == list(range(11))


def test_undecodable_images_are_counted_and_listed(tmp_path: Path, model: TinyModel) -> None:
    from PIL import Image

    for name in ("a", "b", "c", "d"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            picture = np.full((6, 6), 40 * i, dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "images" / name / f"{i}.png")
    (tmp_path / "images" / "b" / "1.png").write_bytes(b"no image")
    entry = {"_target_": "datamodules.folder.ImageFolder", "root": str(tmp_path / "images")}
    options = RecordingOptions(root=tmp_path / "store", batch_size=4)
    grey = ThreeChannels()
    with pytest.raises(DataError, match=r"1 images of folder test clean.*b/1\.png"):
        Recorder(options, {"folder": entry}).records(grey, "folder")
    lenient = Recorder(options, {"folder": {**entry, "max_decode_errors": 1}})
    assert lenient.records(grey, "folder").sample_id.tolist() == [0, 1, 2, 4, 5, 6, 7]


class ThreeChannels(TinyModel):
    """The same for colour images."""

    def load_backbone(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 6), nn.Flatten(), nn.Linear(4, 4))

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(size=(6, 6), mean=(0.0,) * 3, std=(1.0,) * 3)


def test_features_are_recorded_where_asked_for_and_logits_stay(
    tmp_path: Path, model: TinyModel
) -> None:
    asked = recorder(tmp_path)
    plain = asked.records(model, "dummy")
    with pytest.raises(LookupError, match="hold no features"):
        _ = plain.features
    full = asked.records(model, "dummy", needs=("features",))
    assert asked.passes == 2
    assert full.features.shape == (11, 128)
    assert torch.equal(full.logits, plain.logits)
    # the head is linear: its logits follow from the features
    head = model.backbone[4]
    expected = full.features @ head.weight.T + head.bias
    torch.testing.assert_close(expected.max(dim=1).values, full.max_logit)
    again = recorder(tmp_path)
    again.records(model, "dummy", needs=("features", "logits"))
    assert again.passes == 0


def test_images_are_those_a_pass_of_as_many_samples_looks_at(
    tmp_path: Path, model: TinyModel
) -> None:
    given = recorder(tmp_path)
    seen = list(given.images(model, "dummy", view="flip", samples=6))
    ids = torch.cat([batch.ids for batch in seen])
    assert ids.tolist() == chosen_ids(11, 6).tolist()
    assert [len(batch.ids) for batch in seen] == [4, 2]
    assert given.images_given == 6
    records = given.records(model, "dummy", view="flip")
    with evaluating(model):
        predicted = torch.cat([model(batch.images).argmax(1) for batch in seen])
    assert predicted.tolist() == records.predicted[ids].tolist()
    assert torch.cat([batch.labels for batch in seen]).tolist() == records.label[ids].tolist()


def test_images_are_no_more_than_the_limit(tmp_path: Path, model: TinyModel) -> None:
    limited = recorder(tmp_path, limit_samples=5)
    ids = torch.cat([batch.ids for batch in limited.images(model, "dummy", samples=8)])
    assert ids.tolist() == chosen_ids(11, 5).tolist()


def test_foreign_images_are_answered_among_the_classes_of_another_dataset(
    tmp_path: Path, model: TinyModel
) -> None:
    library = {**LIBRARY, "far": {**LIBRARY["dummy"], "num_classes": 7, "data_seed": 1}}
    asked = Recorder(RecordingOptions(root=tmp_path, batch_size=4), library)
    with pytest.raises(ValueError, match="the dataset has 7 classes"):
        asked.records(model, "far")
    records = asked.records(model, "far", classes_of="dummy", needs=("features",))
    assert records.classes == 4
    assert records.label.tolist() == [-1] * 11
    assert not records.correct.any()
    images = torch.stack([asked.datamodule("far", model).dataset("test")[i][0] for i in range(11)])
    with evaluating(model):
        logits, features = model.logits_and_features(images)
    torch.testing.assert_close(records.logsumexp, logits.logsumexp(dim=1))
    torch.testing.assert_close(records.features, features)
    assert asked.records(model, "far", classes_of="model").label.tolist() == [-1] * 11
    assert asked.passes == 2  # the one that was refused, and one for both names of the classes


def test_own_images_keep_their_labels_when_asked_for_by_name(
    tmp_path: Path, model: TinyModel
) -> None:
    asked = recorder(tmp_path)
    records = asked.records(model, "dummy", classes_of="dummy")
    assert records.label.tolist() == [i % 4 for i in range(11)]
    keys = {asked.describe(model, "dummy", "test", classes_of=name).key for name in ("", "dummy")}
    assert keys == {asked.describe(model, "dummy", "test").key}
    assert asked.describe(model, "dummy", "test", classes_of="model").key not in keys
