"""ImageNet and the test sets that were made for its models, as published: one folder a class."""

from pathlib import Path
from typing import ClassVar

from core.names import Split
from datamodules import synsets
from datamodules.folder import FolderDataModule, Tree, few, sub_folders
from datamodules.label_space import LabelSpace


class _WordNetFolders(FolderDataModule):
    """Class folders named by WordNet ids; each of them must be there, or the labels mislead.

    Args:
        options: As in ImageDataModule.
    """

    class_list: ClassVar[str] = "imagenet"
    published: ClassVar[dict[Split, tuple[str, ...]]]
    """Folders below the root that may hold the class folders, most usual first."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """Those that were published."""
        return tuple(self.published)

    @property
    def classes(self) -> list[str]:
        """First WordNet word of each class."""
        return synsets.names(synsets.wnids(self.class_list))

    def folder_names(self) -> list[str]:
        """Class folders in the order of the labels."""
        return list(synsets.wnids(self.class_list))

    def locate(self, split: Split) -> Path:
        """The first place that has a class folder, else the most usual one."""
        known = set(self.folder_names())
        places = [self.folder / name for name in self.published[split]]
        return next((place for place in places if known & set(sub_folders(place))), places[0])

    def tree(self, split: Split) -> Tree:
        """All classes of the list."""
        names = self.folder_names()
        return Tree(folder=self.locate(split), label_of={name: i for i, name in enumerate(names)})

    def missing(self, split: Split) -> list[str]:
        """Class folders that are not there, are not known, or are empty."""
        tree = self.tree(split)
        found = set(sub_folders(tree.folder))
        absent = [name for name in tree.label_of if name not in found]
        if absent:
            places = " or ".join(str(self.folder / name) for name in self.published[split])
            return [
                f"{self.library_name} {split}: expected {len(tree.label_of)} class folders in "
                f"{places}, got {len(tree.label_of) - len(absent)} in {tree.folder}, without "
                f"{few(absent)}; {self.where_to_get()}"
            ]
        strange = sorted(found - set(tree.label_of))
        if strange:
            return [
                f"{self.library_name} {split}: {tree.folder} has folders that are no class: "
                f"{few(strange)}; move them away"
            ]
        return self.empty_classes(tree)


class ImageNet(_WordNetFolders):
    """ILSVRC 2012, 1000 classes; `test` is the validation folder, since test labels are secret.

    Args:
        options: As in ImageDataModule.
    """

    library_name = "imagenet"
    homepage: ClassVar[str] = "https://image-net.org/download.php"
    published: ClassVar[dict[Split, tuple[str, ...]]] = {
        "train": ("train",),
        "test": ("val", "validation", ""),
    }

    def label_sets(self, split: Split) -> list[tuple[int, ...]] | None:
        """Reassessed labels of the validation images, which are known by their file names."""
        if split != "test":
            return None
        known = synsets.real_labels()
        files = [Path(name).name for name, _ in self.tree(split).images()]
        return [known[file] for file in files] if known.keys() >= set(files) else None


class ImageNetV2(_WordNetFolders):
    """10,000 new images for the thousand classes; folders are called `0` to `999`.

    Args:
        options: As in ImageDataModule. The root decides which of the three published variants is
            read; `imagenetv2-matched-frequency-format-val` is looked for below it.
    """

    library_name = "imagenetv2"
    homepage: ClassVar[str] = "https://github.com/modestyachts/ImageNetV2"
    published: ClassVar[dict[Split, tuple[str, ...]]] = {
        "test": ("imagenetv2-matched-frequency-format-val", "")
    }

    def folder_names(self) -> list[str]:
        """Numbers in their numeric order: `10` stands between `9` and `11`, not after `1`."""
        return [str(label) for label in range(len(synsets.wnids()))]


class _Subset(_WordNetFolders):
    """Some of the thousand classes: the logits of the others are not compared.

    Args:
        options: As in ImageDataModule.
    """

    @property
    def label_space(self) -> LabelSpace:
        """Place of each class among the thousand."""
        return synsets.label_space(self.class_list)


class ImageNetA(_Subset):
    """7,500 natural images that fooled a ResNet-50, 200 of the thousand classes.

    Args:
        options: As in ImageDataModule.
    """

    library_name = "imagenet_a"
    class_list: ClassVar[str] = "imagenet_a"
    homepage: ClassVar[str] = "https://github.com/hendrycks/natural-adv-examples"
    published: ClassVar[dict[Split, tuple[str, ...]]] = {"test": ("imagenet-a", "")}


class ImageNetR(_Subset):
    """30,000 renditions, drawings and sculptures, 200 of the thousand classes.

    Args:
        options: As in ImageDataModule.
    """

    library_name = "imagenet_r"
    class_list: ClassVar[str] = "imagenet_r"
    homepage: ClassVar[str] = "https://github.com/hendrycks/imagenet-r"
    published: ClassVar[dict[Split, tuple[str, ...]]] = {"test": ("imagenet-r", "")}


class ImageNetSketch(_WordNetFolders):
    """50,889 black and white sketches for the thousand classes.

    Args:
        options: As in ImageDataModule.
    """

    library_name = "imagenet_sketch"
    homepage: ClassVar[str] = "https://github.com/HaohanWang/ImageNet-Sketch"
    published: ClassVar[dict[Split, tuple[str, ...]]] = {
        "test": ("sketch", "imagenet-sketch", "ImageNet-Sketch", "")
    }
