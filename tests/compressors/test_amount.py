from hypothesis import given
from hypothesis import strategies as st

from compressors.amount import count_removed


@given(st.integers(1, 10_000), st.integers(0, 999))
def test_the_number_is_exact_for_fractions_in_thousandths(count: int, thousandths: int) -> None:
    assert count_removed(count, thousandths / 1000) == min(count * thousandths // 1000, count - 1)


def test_one_stays_however_close_to_one_the_sparsity_is() -> None:
    assert count_removed(10, 1 - 1e-12) == 9
