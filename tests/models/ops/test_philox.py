"""Random numbers by row and step: the published answers of Philox, moments, and independence of the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import ops
from models.ops.philox import Draws, philox

built = pytest.mark.usefixtures("kernels")

# kat_vectors of Random123, the reference implementation: counter, key, answer
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]
# of seed 2^50 + 9, step 2^40 + 3, stream 3, rows 0, 5 and 2^31 + 1
UNIFORM = [
    [0.9607711471617222, 0.5914283506572247, 0.8031327445060015],
    [0.6372326193377376, 0.26666121929883957, 0.2664188912604004],
    [0.3838677629828453, 0.5610856011044234, 0.2608625194989145],
]
NORMAL = [
    [-0.23749876022338867, -0.1537283957004547, -0.6099877953529358],
    [-0.09920049458742142, 0.9441400170326233, -1.6262521743774414],
    [-1.2831242084503174, -0.5181764364242554, -0.6476181149482727],
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_the_generator_gives_the_published_answers(counter: list[int], key: list[int], answer: list[int]) -> None:
    first, second, third, fourth = (torch.tensor([word]) for word in counter)
    words = philox((first, second, third, fourth), (key[0], key[1]))
    assert [int(word[0]) for word in words] == answer


@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), seed=st.integers(0, 2**64 - 1))
def test_a_row_s_numbers_do_not_depend_on_the_rows_it_is_drawn_with(rows: list[int], seed: int) -> None:
    draws = Draws(seed, step=3, stream=1)
    uniform, normal = draws.uniform(np.array(rows), 5), draws.normal(np.array(rows), 3, 2)
    for index, row in enumerate(rows):
        assert torch.equal(uniform[index], draws.uniform(np.array([row]), 5)[0])
        assert torch.equal(normal[index], draws.normal(np.array([row]), 3, 2)[0])


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_sequence_s_first_steps_have_the_numbers_they_have_in_a_longer_one(steps: int) -> None:
    draws, rows = Draws(0, 0, 0), np.arange(4)
    assert torch.equal(draws.normal(rows, steps, 3), draws.normal(rows, 9, 3)[:, :steps])
    assert torch.equal(draws.uniform(rows, steps), draws.uniform(rows, 9)[:, :steps])


def test_shapes_and_types_are_as_requested() -> None:
    draws = Draws(0, 0, 0)
    assert draws.normal(np.arange(3), 5, 7).shape == (3, 5, 7)
    assert draws.normal(np.arange(3), 5).dtype == torch.float32
    assert draws.uniform(np.arange(3), 6).shape == (3, 6)


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    numbers = Draws(1, 2, 3).normal(np.arange(50_000), 10).double()
    for power, moment in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)]:
        assert numbers.pow(power).mean().item() == pytest.approx(moment, abs=0.05)
    assert numbers.abs().max() < 7
    below = (numbers < 1).double().mean().item()
    assert below == pytest.approx(torch.special.ndtr(torch.tensor(1.0)).item(), abs=2e-3)


def test_numbers_are_uncorrelated_between_places_and_between_rows() -> None:
    numbers = Draws(1, 2, 3).normal(np.arange(20_000), 8)
    between_places = torch.corrcoef(numbers.T) - torch.eye(8)
    assert between_places.abs().max() < 0.03
    assert torch.corrcoef(torch.stack([numbers[:-1].flatten(), numbers[1:].flatten()]))[0, 1].abs() < 0.01


def test_uniform_numbers_are_uniform_from_0_to_1() -> None:
    numbers = Draws(5, 0, 0).uniform(np.arange(50_000), 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    histogram = torch.histc(numbers.float(), 10, 0, 1) / numbers.numel()
    assert (histogram - 0.1).abs().max() < 2e-3


@pytest.mark.parametrize(
    "other", [Draws(8, 2, 3), Draws(7 + 2**32, 2, 3), Draws(7, 3, 3), Draws(7, 2 + 2**32, 3), Draws(7, 2, 4)]
)
def test_another_seed_step_or_stream_gives_other_numbers(other: Draws) -> None:
    rows = np.arange(100)
    one, two = Draws(7, 2, 3).normal(rows, 20), other.normal(rows, 20)
    assert not (one == two).any()
    assert torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1].abs() < 0.1
    assert torch.equal(one, Draws(7, 2, 3).normal(rows, 20))


def test_numbers_of_earlier_commits_are_drawn_again() -> None:
    """Computed with NumPy: words are the same bit for bit, normal numbers to rounding."""
    draws, rows = Draws(2**50 + 9, 2**40 + 3, 3), np.array([0, 5, 2**31 + 1])
    assert draws.uniform(rows, 3).tolist() == UNIFORM
    torch.testing.assert_close(draws.normal(rows, 3), torch.tensor(NORMAL), rtol=1e-6, atol=1e-6)


def test_rows_of_several_steps_are_drawn_together() -> None:
    rows, steps = np.array([4, 9, 4, 2**31 + 5]), np.array([0, 3, 2**40 + 1, 3])
    together = Draws(2**50 + 9, steps, 3).normal(rows, 5)
    for index, step in enumerate(steps):
        alone = Draws(2**50 + 9, int(step), 3).normal(rows[index : index + 1], 5)
        assert torch.equal(together[index : index + 1], alone)


@built
@pytest.mark.parametrize("steps", [3, 2**40 + 1, np.array([0, 7, 2**33, 2**40 + 1, 5])], ids=["one", "large", "each"])
def test_the_kernel_gives_the_words_of_the_reference(steps: int | np.ndarray) -> None:
    rows = np.array([0, 5, 2**31 + 1, 2**32 - 1, 5])
    kernel, reference = (Draws(2**50 + 9, steps, 3, backend) for backend in ("kernel", "reference"))
    assert torch.equal(kernel.uniform(rows, 7), reference.uniform(rows, 7))
    assert torch.equal(kernel.normal(rows, 3, 2), reference.normal(rows, 3, 2))


@built
def test_the_kernel_declines_rows_beyond_32_bits_and_other_devices() -> None:
    draws = Draws(0, 0, 0, "kernel")
    with pytest.raises(ops.KernelUnavailable, match="below 2\\^32"):
        draws.uniform(np.array([2**32]), 4)
    with pytest.raises(ops.KernelUnavailable, match="on meta"):
        draws.uniform(torch.tensor([1], device="meta"), 4)


def test_rows_may_be_a_tensor_and_their_device_is_that_of_the_numbers() -> None:
    draws, rows = Draws(7, 2, 3), torch.tensor([3, 1])
    assert torch.equal(draws.uniform(rows, 4), draws.uniform(rows.numpy(), 4))
    assert draws.normal(rows.to("meta"), 4).device.type == "meta"
