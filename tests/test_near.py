"""Groups of near-duplicates on pictures that no notebook shows: few, equal, flat, mirrored, in any order."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_synth.config import UserError
from fer_synth.data.near import LEAST, SIDE, near_groups, near_pairs, similarity


def pictures(seed: int, n: int) -> np.ndarray:
    "Thumbnails: smooth random pictures, copies of them with noise, mirrored ones, equal ones, flat ones."
    rng = np.random.default_rng(seed)
    grid = np.linspace(0, np.pi, SIDE)
    waves = np.cos(grid[:, None] * np.arange(7))
    base = np.einsum("nkl,yk,xl->nyx", rng.normal(0, 1, (n, 7, 7)), waves, waves)
    base = 128 + 30 * base / base.std((1, 2), keepdims=True)
    noisy = base[:n // 2] + rng.normal(0, 2, (n // 2, SIDE, SIDE))
    flat = np.full((3, SIDE, SIDE), rng.integers(256))
    every = np.concatenate([base, noisy, base[:n // 3, :, ::-1], base[:1], flat])
    return every.clip(0, 255).astype(np.uint8)


def partition(group: np.ndarray, rows: np.ndarray) -> set:
    "The groups as sets of rows."
    return {frozenset(rows[group == g].tolist()) for g in np.unique(group)}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2 ** 16), st.integers(1, 30))
def test_groups_do_not_depend_on_the_order_of_rows(seed, n):
    thumbs = pictures(seed, n)
    rows = np.random.default_rng(seed + 1).permutation(len(thumbs))
    group = near_groups(thumbs)
    assert partition(near_groups(thumbs[rows]), rows) == partition(group, np.arange(len(thumbs)))
    assert len(set(group[-3:])) == 1 and group[-4] == group[0]          # the flat ones; an equal one
    assert (group[n:n + n // 2] == group[:n // 2]).all()                 # the noisy ones


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2 ** 16), st.integers(1, 30))
def test_mirroring_pictures_leaves_their_groups(seed, n):
    "A picture that is mirrored once is near to itself, twice it is itself."
    thumbs = pictures(seed, n)
    some = np.random.default_rng(seed + 2).random(len(thumbs)) < .5
    changed = np.where(some[:, None, None], thumbs[:, :, ::-1], thumbs)
    assert (near_groups(changed)[:n // 3] == near_groups(changed)[n + n // 2:][:n // 3]).all()
    rows = np.arange(len(thumbs))
    assert partition(near_groups(changed), rows) == partition(near_groups(thumbs), rows)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2 ** 16), st.integers(1, 30))
def test_pairs_are_what_they_say(seed, n):
    thumbs = pictures(seed, n)
    pairs = near_pairs(thumbs)
    a, b = thumbs[pairs.rows[:, 0]], thumbs[pairs.rows[:, 1]]
    assert (pairs.rows[:, 0] < pairs.rows[:, 1]).all()
    assert len(np.unique(pairs.rows, axis=0)) == len(pairs.rows)
    alike = similarity(a, np.where(pairs.mirrored[:, None, None], b[:, :, ::-1], b))
    equal = (a == b).all((1, 2))
    assert (pairs.similarity >= LEAST).all() and (pairs.similarity[equal] == 1).all()
    np.testing.assert_allclose(pairs.similarity[~equal], alike[~equal], atol=1e-4)


def test_ten_thousand_copies_of_one_picture_are_one_group():
    thumbs = np.concatenate([np.repeat(pictures(0, 1)[:1], 10_000, 0), pictures(1, 4)[:4]])
    group = near_groups(thumbs)
    assert (group[:10_000] == 0).all() and group[10_000:].tolist() == [1, 2, 3, 4]
    assert len(near_pairs(thumbs).rows) == 9_999


@pytest.mark.parametrize("shape, kind", [((3, 8, 8), np.uint8), ((3, SIDE, SIDE), float), ((3,), np.uint8)])
def test_what_is_no_thumbnail_is_refused(shape, kind):
    wrong = np.zeros(shape, kind)
    with pytest.raises(UserError, match="as `thumbnail` makes them"): near_pairs(wrong)
