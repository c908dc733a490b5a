"""CSR matrices: products, transposes, blocks of rows."""

import pytest
import torch
from torch import Tensor
from torch_geometric.testing import withCUDA

from pyg_hash.utils.csr import csr_matrix, product, row_block, rows_of, sorted_csr, transpose


def random_matrix(num_entries: int = 30, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """A CSR matrix [9, 7] with some places named twice, and the dense array."""
    generator = torch.Generator().manual_seed(num_entries)
    row = torch.randint(9, (num_entries,), generator=generator)
    column = torch.randint(7, (num_entries,), generator=generator)
    value = torch.randn(num_entries, generator=generator)
    dense = torch.zeros(9, 7).index_put_((row, column), value, accumulate=True)
    matrix = sorted_csr(row.to(device), column.to(device), value.to(device), 9, 7)
    return matrix, dense.to(device)


@pytest.mark.parametrize("num_entries", [0, 1, 30])
@withCUDA
def test_product(num_entries, device):
    matrix, dense = random_matrix(num_entries, device)
    x = torch.randn(7, 5, device=device)
    torch.testing.assert_close(product(matrix, x), dense @ x)
    onto = torch.randn(9, 5, device=device)
    expected = onto + dense @ x
    assert product(matrix, x, onto=onto) is onto
    torch.testing.assert_close(onto, expected)


@pytest.mark.parametrize("num_entries", [0, 30])
@withCUDA
def test_fresh_memory_is_not_read(num_entries, device, monkeypatch):
    """The product is written over whatever was there, NaN included."""
    matrix, dense = random_matrix(num_entries, device)
    x = torch.randn(7, 5, device=device)
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *size: self.new_full(size, float("nan")))
    torch.testing.assert_close(product(matrix, x), dense @ x)


def test_product_of_strided_and_narrow_arrays():
    matrix, dense = random_matrix()
    for x in (torch.randn(5, 7).T, torch.randn(7, 10)[:, ::2], torch.randn(7, 0)):
        torch.testing.assert_close(product(matrix, x), dense @ x)


@withCUDA
def test_product_keeps_its_type_under_autocast(device):
    matrix, dense = random_matrix(device=device)
    x = torch.randn(7, 5, device=device)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        found = product(matrix, x)
        rounded = product(matrix, x.bfloat16())
    assert found.dtype == rounded.dtype == torch.float32
    torch.testing.assert_close(found, dense @ x)
    torch.testing.assert_close(rounded, dense @ x.bfloat16().float())


@pytest.mark.parametrize("num_entries", [0, 1, 30])
@withCUDA
def test_transpose(num_entries, device):
    matrix, dense = random_matrix(num_entries, device)
    turned = transpose(matrix)
    assert turned.shape == (7, 9)
    assert turned.col_indices().dtype == turned.crow_indices().dtype == torch.int32
    torch.testing.assert_close(product(turned, torch.eye(9, device=device)), dense.T)
    again = transpose(turned)
    assert torch.equal(again.crow_indices(), matrix.crow_indices())
    assert torch.equal(again.col_indices(), matrix.col_indices())
    eye = torch.eye(7, device=device)
    torch.testing.assert_close(product(again, eye), product(matrix, eye))


@withCUDA
def test_blocks_of_rows_share_the_memory(device):
    matrix, dense = random_matrix(device=device)
    eye = torch.eye(7, device=device)
    for start, stop in ((0, 9), (0, 4), (4, 9), (3, 3)):
        block = row_block(matrix, start, stop)
        assert block.shape == (stop - start, 7)
        torch.testing.assert_close(product(block, eye), dense[start:stop])
    block = row_block(matrix, 0, 9)
    assert block.values().data_ptr() == matrix.values().data_ptr()


def test_row_of_each_entry():
    matrix = csr_matrix(torch.tensor([0, 2, 2, 3]), torch.tensor([0, 1, 1]), torch.ones(3), 2)
    assert rows_of(matrix).tolist() == [0, 0, 2]
