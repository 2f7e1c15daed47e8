from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import DataError
from core.preprocessing import Preprocessing
from datamodules.cifar import CIFAR10
from datamodules.cifar_relatives import CIFAR10C, CIFAR10H, NewCIFAR10

COUNT = 3


def random_images(count: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def cifar10(tmp_path: Path) -> str:
    """A folder with a test batch of three clean images: cat, ship, frog."""
    folder = tmp_path / "cifar10"
    folder.mkdir()
    pixels = random_images(COUNT, seed=9).transpose(0, 3, 1, 2).reshape(COUNT, -1)
    labels = np.array([[3], [8], [6]], dtype=np.uint8)
    (folder / "test_batch.bin").write_bytes(np.concatenate([labels, pixels], axis=1).tobytes())
    return str(folder)


@pytest.fixture
def corrupted(tmp_path: Path, cifar10: str) -> CIFAR10C:
    """Fog and frost of those images."""
    folder = tmp_path / "cifar10c"
    folder.mkdir()
    np.save(folder / "labels.npy", np.tile([3, 8, 6], 5).astype(np.uint8))
    np.save(folder / "fog.npy", random_images(5 * COUNT))
    np.save(folder / "frost.npy", random_images(5 * COUNT, seed=1))
    return CIFAR10C(root=str(folder), cifar10_root=cifar10, num_workers=2)


def test_clean_is_cifar10_and_shares_its_digest(corrupted: CIFAR10C, cifar10: str) -> None:
    clean = CIFAR10(root=cifar10)
    assert corrupted.faults("test") == []
    assert corrupted.behind("clean") is corrupted
    assert corrupted.manifest("test") == clean.manifest("test")
    assert corrupted.count("test") == COUNT
    found, expected = (one.dataset("test").__getitems__([0, 2]) for one in (corrupted, clean))
    assert found[0].equal(expected[0])
    assert found[1].tolist() == expected[1].tolist() == [3, 6]


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_severity_is_its_fifth_of_the_file(corrupted: CIFAR10C, severity: int) -> None:
    behind = corrupted.behind(f"fog_{severity}")
    image, label = behind.dataset("test")[1]
    row = (severity - 1) * COUNT + 1
    assert image.permute(1, 2, 0).mul(255).round().numpy().astype(np.uint8).tolist() == (
        random_images(5 * COUNT)[row].tolist()
    )
    assert (label, behind.count("test")) == (8, COUNT)
    assert behind.labels("test").tolist() == [3, 8, 6]
    assert behind.sample_path("test", 1) == f"fog.npy#{row}"
    assert behind.num_workers == 2


def test_each_stored_view_has_a_digest_of_its_own(corrupted: CIFAR10C) -> None:
    names = ["clean", "fog_1", "fog_2", "frost_1"]
    before = [corrupted.behind(name).manifest("test") for name in names]
    assert len(set(before)) == 4
    np.save(corrupted.folder / "fog.npy", random_images(5 * COUNT, seed=2))
    after = [corrupted.behind(name).manifest("test") for name in names]
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        True,
        False,
        False,
        True,
    ]


def test_published_images_are_left_as_they_are(corrupted: CIFAR10C) -> None:
    images, _ = corrupted.dataset("test").__getitems__([0])
    view = corrupted.view("frost_5")
    assert view(images, torch.zeros(1)) is images
    assert view.describe() == {
        "name": "frost_5",
        "version": 1,
        "parameters": {"family": "published"},
    }


@pytest.mark.parametrize("name", ["rotate_15", "fog_0", "clean"])
def test_other_views_are_made_of_the_clean_images(corrupted: CIFAR10C, name: str) -> None:
    assert corrupted.behind(name) is corrupted
    assert corrupted.view(name).describe() == CIFAR10().view(name).describe()


@pytest.mark.parametrize("name", ["fog_6", "mist_1", "fog", "frost_0"])
def test_a_view_nobody_knows_is_told(corrupted: CIFAR10C, name: str) -> None:
    with pytest.raises(LookupError, match=f"unknown view '{name}'"):
        corrupted.view(name)


def test_stored_views_have_the_size_that_the_model_wants(corrupted: CIFAR10C) -> None:
    assert corrupted.behind("fog_1").dataset("test")[0][0].shape == (3, 32, 32)
    corrupted.preprocessing = Preprocessing(size=(16, 16))
    assert corrupted.behind("fog_1").dataset("test")[0][0].shape == (3, 16, 16)


def test_the_archives_own_folder_is_found(tmp_path: Path, corrupted: CIFAR10C) -> None:
    (tmp_path / "outer").mkdir()
    corrupted.folder.rename(tmp_path / "outer" / "CIFAR-10-C")
    moved = CIFAR10C(root=str(tmp_path / "outer"), cifar10_root=corrupted.cifar10.root)
    assert moved.faults("test") == []
    assert moved.behind("fog_2").count("test") == COUNT


def test_a_corruption_that_is_not_there_names_its_file(corrupted: CIFAR10C) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected snow\.npy in .*cifar10c\.root="):
        corrupted.behind("snow_3").manifest("test")


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    own, clean = CIFAR10C(root=str(tmp_path), cifar10_root=str(tmp_path / "no")).faults("test")
    assert "labels.npy" in own
    assert "dataset_library.cifar10c.root=" in own
    assert str(tmp_path / "no") in clean
    assert "dataset_library.cifar10c.cifar10_root=" in clean


def test_an_odd_number_of_images_has_no_five_severities(corrupted: CIFAR10C) -> None:
    np.save(corrupted.folder / "fog.npy", random_images(14))
    with pytest.raises(DataError, match=r"fog\.npy: expected as many images .* got 14 images"):
        corrupted.behind("fog_1").count("test")


def test_labels_have_to_be_as_many_and_in_range(corrupted: CIFAR10C) -> None:
    np.save(corrupted.folder / "labels.npy", np.zeros(14, np.uint8))
    with pytest.raises(DataError, match=r"labels\.npy: expected an array \[15\] .* got \[14\]"):
        corrupted.behind("fog_1").labels("test")
    np.save(corrupted.folder / "labels.npy", np.full(15, 10, np.uint8))
    with pytest.raises(DataError, match=r"record 0: expected labels in 0\.\.9, got 10 \(15 such"):
        corrupted.behind("fog_1").labels("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(random_images(5)[:, :16], r"got \[5, 16, 32, 3\] uint8", id="height"),
        pytest.param(random_images(5) / 255, r"got \[5, 32, 32, 3\] float64", id="floats"),
        pytest.param(random_images(5).astype(np.uint16), "of uint16", id="wider-integers"),
        pytest.param(random_images(0), "at least one image", id="empty"),
    ],
)
def test_arrays_of_other_things_are_refused(
    corrupted: CIFAR10C, content: np.ndarray, message: str
) -> None:
    np.save(corrupted.folder / "fog.npy", content)
    with pytest.raises(DataError, match=message):
        corrupted.behind("fog_1").count("test")


@pytest.mark.parametrize("kept", [0, 5, 200], ids=["empty", "header", "pixels"])
def test_a_truncated_array_is_damaged(corrupted: CIFAR10C, kept: int) -> None:
    path = corrupted.folder / "fog.npy"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"fog\.npy is damaged"):
        corrupted.behind("fog_1").count("test")


def test_objects_in_an_array_are_not_loaded(corrupted: CIFAR10C) -> None:
    np.save(corrupted.folder / "fog.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"fog\.npy is damaged.*[Oo]bject"):
        corrupted.behind("fog_1").count("test")


@pytest.mark.parametrize("inner", ["", "datasets"], ids=["in-root", "as-cloned"])
@pytest.mark.parametrize("edition", ["v4", "v6"])
def test_new_images_come_in_two_editions(tmp_path: Path, inner: str, edition: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    np.save(folder / f"cifar10.1_{edition}_data.npy", random_images(2))
    np.save(folder / f"cifar10.1_{edition}_labels.npy", np.array([9, 0], dtype=np.int32))
    new = NewCIFAR10(root=str(tmp_path), edition=edition)  # type: ignore[arg-type]
    assert (new.faults("test"), new.count("test"), new.splits) == ([], 2, ("test",))
    assert new.labels("test").tolist() == [9, 0]
    image, label = new.dataset("test")[0]
    assert label == 9
    assert image[2, 5, 7].item() == pytest.approx(random_images(2)[0, 5, 7, 2] / 255)
    assert new.sample_path("test", 1) == f"cifar10.1_{edition}_data.npy#1"


def test_another_edition_is_other_data(tmp_path: Path) -> None:
    for edition, count in (("v4", 3), ("v6", 2)):
        np.save(tmp_path / f"cifar10.1_{edition}_data.npy", random_images(count))
        np.save(tmp_path / f"cifar10.1_{edition}_labels.npy", np.zeros(count, np.int64))
    four, six = NewCIFAR10(root=str(tmp_path), edition="v4"), NewCIFAR10(root=str(tmp_path))
    assert (four.count("test"), six.count("test")) == (3, 2)
    assert four.manifest("test") != six.manifest("test")


def test_an_edition_that_was_never_published_is_a_fault(tmp_path: Path) -> None:
    (fault,) = NewCIFAR10(root=str(tmp_path), edition="v5").faults("test")  # type: ignore[arg-type]
    assert fault.startswith("unknown dataset_library.cifar10_1.edition 'v5'")


def people(folder: Path, rows: list[list[float]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "cifar10h-probs.npy", np.array(rows))


def row(**shares: float) -> list[float]:
    return [shares.get(name, 0.0) for name in CIFAR10().classes]


@pytest.mark.parametrize("inner", ["", "data"], ids=["in-root", "as-cloned"])
def test_people_disagree_about_the_images_of_cifar10(
    tmp_path: Path, cifar10: str, inner: str
) -> None:
    people(tmp_path / "h" / inner, [row(cat=0.75, dog=0.25), row(ship=1.0), row(frog=1.0)])
    human = CIFAR10H(root=str(tmp_path / "h"), cifar10_root=cifar10)
    assert human.faults("test") == []
    shares = human.label_distribution()
    assert shares.shape == (COUNT, 10)
    assert shares.dtype == np.dtype("float64")
    assert (shares[0, 3], shares[0, 5]) == (0.75, 0.25)
    assert human.labels("test").tolist() == shares.argmax(axis=1).tolist() == [3, 8, 6]
    assert human.dataset("test")[2][0].equal(CIFAR10(root=cifar10).dataset("test")[2][0])


def test_the_digest_has_the_images_and_the_people(tmp_path: Path, cifar10: str) -> None:
    rows = [row(cat=1.0), row(ship=1.0), row(frog=1.0)]
    digests = []
    for name, first in (("a", row(cat=1.0)), ("b", row(dog=1.0))):
        people(tmp_path / name, [first, *rows[1:]])
        human = CIFAR10H(root=str(tmp_path / name), cifar10_root=cifar10)
        digests.append(human.manifest("test"))
    batch = Path(cifar10) / "test_batch.bin"
    batch.write_bytes(batch.read_bytes()[:-1] + b"x")
    digests.append(human.manifest("test"))
    assert len({*digests, CIFAR10(root=cifar10).manifest("test")}) == 4


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (row(cat=0.6, dog=0.3), r"row 0: .* got a sum of 0\.9 \(1 such rows\)"),
        (row(cat=1.5, dog=-0.5), r"row 0: expected shares of at least 0"),
        (row(cat=float("nan")), r"row 0: .* sum of nan"),
    ],
    ids=["sum", "negative", "nan"],
)
def test_what_is_no_distribution_is_refused(
    tmp_path: Path, cifar10: str, first: list[float], message: str
) -> None:
    people(tmp_path / "h", [first, row(ship=1.0), row(frog=1.0)])
    human = CIFAR10H(root=str(tmp_path / "h"), cifar10_root=cifar10)
    with pytest.raises(DataError, match=message):
        human.label_distribution()


def test_each_image_needs_a_distribution(tmp_path: Path, cifar10: str) -> None:
    people(tmp_path / "h", [row(cat=1.0)] * 4)
    human = CIFAR10H(root=str(tmp_path / "h"), cifar10_root=cifar10)
    with pytest.raises(DataError, match=r"expected an array \[3, 10\] .* got \[4, 10\]"):
        human.label_distribution()


def test_the_published_people_are_as_unsure_as_published(data_dir: Path) -> None:
    human = CIFAR10H(root=str(data_dir / "cifar10h"), cifar10_root=str(data_dir / "cifar10"))
    if human.faults("test"):
        pytest.skip("cifar10h is not among the real data")
    shares = human.label_distribution()
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    assert entropy.mean() == pytest.approx(0.15446, abs=5e-5)
    assert (shares.argmax(axis=1) == human.labels("test")).mean() > 0.99
