from pathlib import Path

import pytest

from datamodules import synsets
from datamodules.base import ImageDataModule
from datamodules.imagenet import ImageNet
from datamodules.imagenet_c import ImageNetC

THOUSAND = synsets.wnids()


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thousand class folders with a file each; to be linked to, not written to."""
    folder = tmp_path_factory.mktemp("thousand")
    for name in THOUSAND:
        (folder / name).mkdir()
        (folder / name / "ILSVRC2012_val_1.JPEG").write_bytes(name.encode())
    return folder


def link(folder: Path, target: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(target)


@pytest.fixture
def imagenet(tmp_path: Path, thousand: Path) -> str:
    link(tmp_path / "imagenet/val", thousand)
    return str(tmp_path / "imagenet")


def test_clean_is_the_validation_set(tmp_path: Path, imagenet: str, thousand: Path) -> None:
    link(tmp_path / "c/fog/3", thousand)
    corrupted = ImageNetC(root=str(tmp_path / "c"), imagenet_root=imagenet)
    assert corrupted.faults("test") == []
    assert corrupted.behind("clean") is corrupted
    assert corrupted.tree("test").folder == Path(imagenet) / "val"
    assert corrupted.count("test") == 1000
    assert corrupted.num_classes == 1000


@pytest.mark.parametrize("inner", ["fog/3", "weather/fog/3"], ids=["in-root", "as-unpacked"])
def test_a_corruption_is_a_folder_of_classes(
    tmp_path: Path, imagenet: str, thousand: Path, inner: str
) -> None:
    link(tmp_path / "c" / inner, thousand)
    corrupted = ImageNetC(root=str(tmp_path / "c"), imagenet_root=imagenet, num_workers=3)
    assert corrupted.faults("test") == []
    behind = corrupted.behind("fog_3")
    assert behind.faults("test") == []
    assert behind.labels("test").tolist() == list(range(1000))
    assert behind.sample_path("test", 999) == f"{THOUSAND[999]}/ILSVRC2012_val_1.JPEG"
    assert behind.num_workers == 3
    assert corrupted.view("fog_3").describe()["parameters"] == {"family": "published"}


def test_samples_are_those_of_imagenet_in_its_order(
    tmp_path: Path, imagenet: str, thousand: Path
) -> None:
    link(tmp_path / "c/fog/3", thousand)
    behind = ImageNetC(root=str(tmp_path / "c"), imagenet_root=imagenet).behind("fog_3")
    clean = ImageNet(root=imagenet)
    names = [[one.sample_path("test", i) for i in (0, 500, 999)] for one in (clean, behind)]
    assert names[0] == names[1]


def test_a_severity_that_is_not_there_names_its_folder(
    tmp_path: Path, imagenet: str, thousand: Path
) -> None:
    link(tmp_path / "c/fog/3", thousand)
    behind = ImageNetC(root=str(tmp_path / "c"), imagenet_root=imagenet).behind("fog_4")
    with pytest.raises(FileNotFoundError, match=r"fog/4.*dataset_library\.imagenet_c\.root="):
        behind.manifest("test")


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    corrupted = ImageNetC(root=str(tmp_path / "c"), imagenet_root=str(tmp_path / "i"))
    own, clean = corrupted.faults("test")
    assert f"<corruption>/<severity> in {tmp_path / 'c'}" in own
    assert "dataset_library.imagenet_c.root=" in own
    assert str(tmp_path / "i" / "val") in clean
    assert "dataset_library.imagenet_c.imagenet_root=" in clean


def test_nineteen_corruptions_were_published() -> None:
    kinds = ImageNetC().kinds
    assert len(set(kinds)) == 19
    assert "frost" in kinds


@pytest.mark.parametrize("name", ["flip", "clean", "fog_0"])
def test_other_views_are_made_of_the_clean_images(name: str) -> None:
    corrupted = ImageNetC()
    assert corrupted.behind(name) is corrupted
    assert isinstance(corrupted.behind("fog_1"), ImageDataModule)
    assert corrupted.view(name).describe() == ImageNet().view(name).describe()
