"""Blocks of rows cover everything once."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from measurements.functional.rows import finite_logits, row_blocks


@given(st.integers(0, 50), st.integers(1, 2**22))
def test_blocks_cover_every_row_once_in_order(rows: int, classes: int) -> None:
    blocks = list(row_blocks(rows, classes))
    assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(rows))
    assert all((block.stop - block.start) * classes <= max(2**21, classes) for block in blocks)


def test_a_row_with_one_nan_is_broken_as_a_whole() -> None:
    found = finite_logits(torch.tensor([[1.0, torch.nan], [1.0, 2.0]]))
    assert found.tolist() == [[0.0, 0.0], [1.0, 2.0]]
    assert found.dtype == torch.float64
