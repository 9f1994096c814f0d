"""Arrays and tensors: the same values, kinds and shapes on both sides, without PyTorch's own bridge to numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from H3DELandmarksLib.networks.arrays import to_array, to_tensor

KINDS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


@given(st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, min_side=0))))
def test_there_and_back_keeps_values_kind_and_shape(array):
    tensor = to_tensor(array)
    assert str(tensor.dtype) == f"torch.{array.dtype}"
    assert tuple(tensor.shape) == array.shape
    back = to_array(tensor)
    assert back.dtype == array.dtype
    assert back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_memory_is_shared_so_that_large_scans_are_not_doubled():
    array = np.zeros(4, np.float32)
    to_tensor(array)[1] = 5
    assert array[1] == 5


@pytest.mark.parametrize("change", [lambda a: a[::-1], lambda a: a.T, lambda a: a[:, ::2]])
def test_views_in_any_order_are_read_right(change):
    view = change(np.arange(12.0).reshape(3, 4))
    assert to_tensor(view).tolist() == view.tolist()


def test_an_array_that_may_not_be_written_to_is_copied():
    array = np.arange(3.0)
    array.flags.writeable = False
    to_tensor(array)[0] = 9
    assert array[0] == 0


def test_a_tensor_that_learns_and_one_in_bfloat16_come_back_too():
    assert to_array(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
    half = to_array(torch.tensor([1.5], dtype=torch.bfloat16))
    assert half.dtype == np.float32 and half.tolist() == [1.5]
