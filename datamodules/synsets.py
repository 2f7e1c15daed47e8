"""The class lists of ImageNet and its relatives, from the files that ship inside timm."""

import importlib.util
import json
from functools import cache
from pathlib import Path

from datamodules.label_space import LabelSpace


@cache
def _folder() -> Path:
    """Where timm keeps its lists; found without importing timm, which takes seconds."""
    found = importlib.util.find_spec("timm")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("timm is not installed; run: pip install -e .", name="timm")
    return Path(found.submodule_search_locations[0]) / "data" / "_info"


@cache
def wnids(name: str = "imagenet") -> tuple[str, ...]:
    """WordNet ids of a class list in label order, `imagenet`, `imagenet_a` or `imagenet_r`.

    Example:
        >>> wnids()[:2], len(wnids("imagenet_r"))
        (('n01440764', 'n01443537'), 200)
    """
    return tuple((_folder() / f"{name}_synsets.txt").read_text().split())


@cache
def _first_lemmas() -> dict[str, str]:
    """First word of each ImageNet class, by WordNet id."""
    lines = (_folder() / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t", 1) for line in lines)
    return {wnid: lemmas.split(",")[0].strip() for wnid, lemmas in pairs}


@cache
def real_labels() -> dict[str, tuple[int, ...]]:
    """File name of each ImageNet validation image -> its reassessed labels (ReaL).

    Example:
        >>> real_labels()["ILSVRC2012_val_00000002.JPEG"]
        (970, 795)

    Reference:
        Beyer et al., Are we done with ImageNet? (2020).
    """
    sets = json.loads((_folder() / "imagenet_real_labels.json").read_text())
    return {f"ILSVRC2012_val_{i:08d}.JPEG": tuple(labels) for i, labels in enumerate(sets, start=1)}


def names(ids: tuple[str, ...]) -> list[str]:
    """A readable name for each WordNet id; the id is added where two classes share a word.

    Example:
        >>> names(("n02012849", "n03126707", "n01440764"))
        ['crane (n02012849)', 'crane (n03126707)', 'tench']
    """
    words = [_first_lemmas()[wnid] for wnid in ids]
    return [
        f"{word} ({wnid})" if words.count(word) > 1 else word
        for word, wnid in zip(words, ids, strict=True)
    ]


def label_space(name: str) -> LabelSpace:
    """Place of a subset's classes among the thousand of an ImageNet model."""
    place = {wnid: index for index, wnid in enumerate(wnids())}
    return LabelSpace(name=name, members=tuple((place[wnid],) for wnid in wnids(name)))
