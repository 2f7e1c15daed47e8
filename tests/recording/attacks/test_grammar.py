"""Names of attacks."""

import pytest

from recording.attacks.grammar import attack, is_transfer


def test_a_name_says_all_that_decides_a_pixel() -> None:
    found = [attack(name) for name in ("fgsm_2", "pgd_8_k40", "pgdl2_50_r3", "square_4_q100")]
    assert [one.describe()["parameters"]["eps"] for one in found if one] == [
        2 / 255,
        8 / 255,
        0.5,
        4 / 255,
    ]
    pgd, l2, square = (one.describe()["parameters"] for one in found[1:] if one)
    assert (pgd["steps"], pgd["restarts"], pgd["norm"], pgd["relative_step"]) == (
        40,
        1,
        "linf",
        2.5,
    )
    assert (l2["steps"], l2["restarts"], l2["norm"]) == (20, 3, "l2")
    assert (square["queries"], square["loss"]) == (100, "margin")
    assert pgd["loss"] == {"2 classes": "margin", "3 classes and more": "dlr"}


@pytest.mark.parametrize("name", ["clean", "rotate_15", "fog_3", "pg_8"])
def test_other_views_are_no_attacks(name: str) -> None:
    assert attack(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "square",
        "pgd",
        "pgd_08",
        "pgd_8_",
        "pgd_8_q5",
        "pgd_8_k0",
        "fgsm_8_k5",
        "fgsm_256",
        "pgd_8_k2_k3",
        "transfer_fog_3",
        "transfer_clean",
        "transfer_transfer_pgd_8",
    ],
)
def test_what_begins_like_an_attack_and_is_none_is_refused_with_the_grammar(name: str) -> None:
    with pytest.raises(LookupError, match=rf"'{name}'.*pgd_<eps x 255>\[_k<steps>\]\[_r<restarts"):
        attack(name)


def test_transfer_is_the_same_attack_on_another_model() -> None:
    assert attack("transfer_pgd_8") == attack("pgd_8")
    assert is_transfer("transfer_pgd_8")
    assert not is_transfer("pgd_8")
