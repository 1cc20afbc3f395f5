"Properties of chains of selectors that hold for any candidates, found by trying many small ones."
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from fer_synth.selection.candidates import Candidates
from fer_synth.selection.selectors import (SELECTORS, Quota, Selector, apply_selector, kept_of,
                                           parse_selector, select_chain)
from fer_synth.settings import UserError

settings.register_profile("any machine", deadline=None)     # a slow moment of a busy machine is no failure
settings.load_profile("any machine")

SHARES = st.integers(1, 20).map(lambda v: v / 20)
NUMBERS = {"least": st.integers(0, 20).map(lambda v: (v / 20,)),
           "count": st.integers(1, 2).map(lambda v: (float(v),)),
           "share": SHARES.map(lambda v: (v,)),
           "band": st.tuples(SHARES, SHARES).map(lambda v: tuple(sorted(v))),
           "plain": st.just(())}
GIVEN = sorted(set(SELECTORS) - {"views"})      # without a network; the notebook tests the views


@st.composite
def links(draw, names=GIVEN):
    name = draw(st.sampled_from(names))
    return Selector(name, *draw(NUMBERS[SELECTORS[name].form]))


@st.composite
def candidates(draw):
    "A small pool with everything that needs no network; scores and features repeat, so that ties are common."
    n, k = draw(st.integers(0, 30)), draw(st.integers(2, 4))
    gen = np.random.default_rng(draw(st.integers(0, 999)))
    def probs(m): return np.round(gen.dirichlet(np.full(k, .5), m), 1) + .01
    images = gen.integers(0, 255, (n, 1, 4, 4), dtype=np.uint8)
    images[gen.random(n) < .1] = 7
    return Candidates(
        images=images, labels=gen.integers(0, k, n), classes=tuple("abcd"[:k]), seed=draw(st.integers(0, 9)),
        answers={"judge": probs(n), "teacher": probs(n)}, student=probs(n), critic=gen.integers(0, 5, n),
        val_probs=probs(20), val_labels=gen.integers(0, k, 20),
        features=gen.integers(0, 4, (n, 2)).astype(np.float32), real_labels=gen.integers(0, k - 1, 12),
        real_features=gen.integers(0, 4, (12, 2)).astype(np.float32))


QUOTAS = st.one_of(st.none(), st.builds(Quota, st.one_of(st.none(), st.integers(0, 5)),
                                        st.sampled_from(["first", "random"])))


@given(candidates(), st.lists(links(), max_size=4), QUOTAS)
def test_a_chain_is_its_links_one_after_another(c, selectors, quota):
    chosen = select_chain(c, tuple(map(str, selectors)), quota)
    span = c.images.max((1, 2, 3), initial=0).astype(int) - c.images.min((1, 2, 3), initial=255)
    rows = np.flatnonzero(span >= 8)
    for number, selector in enumerate(selectors, 1):
        passed, reasons, _ = apply_selector(selector, c, rows)
        gone = rows[~passed]
        assert (chosen.step[gone] == number).all() and (chosen.reasons[gone] == reasons[~passed]).all()
        rows = rows[passed]
    left = np.isin(np.arange(len(c)), rows)
    assert not (chosen.kept & ~left).any()
    if quota is None: assert (chosen.kept == left).all()
    else:
        counts = np.bincount(c.labels[left], minlength=len(c.classes))
        kept = np.bincount(c.labels[chosen.kept], minlength=len(c.classes))
        assert kept.tolist() == np.minimum(counts, quota.counts(counts)).tolist()
    assert ((chosen.reasons == "kept") == chosen.kept).all()
    assert chosen.dropped.sum() + chosen.kept.sum() == len(c)
    again = select_chain(c, ",".join(map(str, selectors)), quota)
    assert (again.step == chosen.step).all()


@given(candidates(), links(), st.data())
def test_a_stricter_number_keeps_a_part_of_what_a_looser_one_keeps(c, loose, data):
    form = SELECTORS[loose.name].form
    other = Selector(loose.name, *data.draw(NUMBERS[form]))
    if form == "share": strict = Selector(loose.name, min(loose.low, other.low))
    elif form == "band": strict = Selector(loose.name, max(loose.low, other.low), min(loose.high, other.high))
    elif form == "plain": strict = loose
    else: strict = Selector(loose.name, max(loose.low, other.low))
    rows = np.arange(len(c))
    of_strict, of_loose = (apply_selector(s, c, rows)[0] for s in (strict, looser_of(loose, other, form)))
    assert not (of_strict & ~of_loose).any()


def looser_of(a: Selector, b: Selector, form: str) -> Selector:
    "The looser of two selectors of one name; for a band the first."
    if form == "share": return max(a, b, key=lambda s: s.low)
    if form in ("least", "count"): return min(a, b, key=lambda s: s.low)
    return a


@given(candidates(), links([name for name in GIVEN if SELECTORS[name].form == "share"]))
def test_a_share_is_that_of_each_class_and_at_least_one(c, selector):
    passed = apply_selector(selector, c, np.arange(len(c)))[0]
    for k in range(len(c.classes)):
        n = (c.labels == k).sum()
        kept = passed[c.labels == k].sum()
        exact = selector.low * n
        assert kept == kept_of(selector.low, n) and abs(kept - exact) <= max(.5, 1 - exact) + 1e-9
        assert kept or not n


@given(links(sorted(SELECTORS)))
def test_a_selector_is_read_back_from_its_text(selector):
    assert parse_selector(str(selector)) == selector
    assert "{" not in selector.words()


@given(st.text(alphabet="abcdefghiklmnoprstuvy0123456789.-:>= ", max_size=24))
def test_any_other_text_is_refused_in_a_sentence(text):
    try: selector = parse_selector(text)
    except UserError as e: assert str(e)
    else: assert parse_selector(str(selector)) == selector


def test_a_pool_without_images_is_no_error():
    c = Candidates(images=np.zeros((0, 1, 4, 4), np.uint8), labels=np.zeros(0, int), classes=("a", "b"),
                   answers={"judge": np.zeros((0, 2))}, student=np.zeros((0, 2)))
    chain = ("agree", "margin>=0", "entropy:0-1", "hard:0.5", "random:0.5")
    chosen = select_chain(c, chain, Quota(4, "best"))
    assert not len(chosen.kept) and chosen.dropped.shape == (7, 2)


def test_a_chain_that_lacks_something_says_so_before_it_computes():
    c = Candidates(images=np.zeros((2, 1, 4, 4), np.uint8), labels=np.zeros(2, int), classes=("a", "b"))
    for name, kind in SELECTORS.items():
        if name in ("random", "all"): continue
        with pytest.raises(UserError, match=f"'{name}.*needs"): select_chain(c, (kind.example,))
