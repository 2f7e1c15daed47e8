"""Views of corruptions: their names, and which datasets have them."""

import pytest

from datamodules.dummy import Dummy
from measurements.views import CorruptionViews


def test_views_are_named_by_corruption_and_severity() -> None:
    views = CorruptionViews(corruptions=["fog", "contrast"], severities=[1, 5])
    assert views.names == ["fog_1", "fog_5", "contrast_1", "contrast_5"]


def test_a_dataset_must_have_all_of_them() -> None:
    data = {"toy": Dummy()}
    assert CorruptionViews(corruptions=["fog", "contrast"], severities=[5]).having(data) == ["toy"]
    assert CorruptionViews(corruptions=["fog", "rust"], severities=[5]).having(data) == []


@pytest.mark.parametrize(("corruptions", "severities"), [([], [1]), (["fog"], [])])
def test_no_view_at_all_is_refused(corruptions: list[str], severities: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one corruption and one severity"):
        CorruptionViews(corruptions=corruptions, severities=severities)
