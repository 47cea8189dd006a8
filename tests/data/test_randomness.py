import itertools

import numpy as np
import pytest

from bertsmith.data.randomness import KeyedPermutation, generator


def test_the_same_key_gives_the_same_numbers_for_ever() -> None:
    # Written down on purpose: if these change, every run that is resumed sees other masks.
    assert generator(7, "masking", 2, 11).integers(0, 1000, 5).tolist() == [932, 912, 374, 348, 257]
    assert KeyedPermutation(10, seed=7, epoch=2)(np.arange(10)).tolist() == [0, 7, 2, 8, 4, 5, 6, 1, 3, 9]


def test_each_part_of_the_key_matters() -> None:
    keys = itertools.product((0, 1, 2**63), ("masking", "pairs"), (0, 1), (0, 1, 2**40))
    drawn = {tuple(generator(*key).integers(0, 2**62, 4).tolist()) for key in keys}
    assert len(drawn) == 3 * 2 * 2 * 3


def test_neighbouring_indices_never_share_numbers() -> None:
    """Index is a higher word of the counter than the number of draws: long draws do not run into the next index."""
    one, two = (generator(0, "masking", 0, index).integers(0, 2**63, 20_000) for index in (0, 1))
    assert not set(one.tolist()) & set(two.tolist())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 37, 64, 1000, 4097])
def test_every_index_appears_once(size: int) -> None:
    for epoch in range(3):
        order = KeyedPermutation(size, seed=3, epoch=epoch)(np.arange(size))
        assert sorted(order.tolist()) == list(range(size))


def test_an_index_alone_gives_what_all_of_them_give() -> None:
    order = KeyedPermutation(1234, seed=5, epoch=0)
    together = order(np.arange(1234).reshape(2, 617))
    assert together.shape == (2, 617)
    assert [int(order(i)) for i in range(1234)] == together.ravel().tolist()


def test_it_works_on_sizes_that_no_table_could_hold() -> None:
    size = 10**12 + 39
    order = KeyedPermutation(size, seed=1, epoch=0)(np.arange(size - 100_000, size))
    assert len(set(order.tolist())) == 100_000
    assert 0 <= order.min() < size / 1000
    assert size * 0.999 < order.max() < size


def test_seeds_and_epochs_give_other_orders() -> None:
    orders = {tuple(KeyedPermutation(50, seed=s, epoch=e)(np.arange(50)).tolist()) for s in range(6) for e in range(6)}
    assert len(orders) == 36


def test_places_are_close_to_uniform() -> None:
    """Over 2,000 keys each of 37 indices goes to each place about equally often (chi-square, 36 x 36 degrees)."""
    size, keys = 37, 2000
    counts = np.zeros((size, size))
    for epoch in range(keys):
        counts[np.arange(size), KeyedPermutation(size, seed=0, epoch=epoch)(np.arange(size))] += 1
    chi_square = ((counts - keys / size) ** 2 / (keys / size)).sum()
    degrees = (size - 1) ** 2
    assert abs(chi_square - degrees) < 5 * np.sqrt(2 * degrees)


def test_an_order_has_no_trend() -> None:
    size = 20_000
    order = KeyedPermutation(size, seed=9, epoch=1)(np.arange(size))
    assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 0.03
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.03


def test_what_lies_outside_is_refused() -> None:
    with pytest.raises(IndexError, match=r"outside 0 \.\. 9"):
        KeyedPermutation(10, seed=0, epoch=0)(np.array([3, 10]))
    with pytest.raises(ValueError, match="at least 1"):
        KeyedPermutation(0, seed=0, epoch=0)
