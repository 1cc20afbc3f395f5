"The image browser: lists against a slow reference, undo, decisions, neighbours, generators, every control."
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cdist

from fer_synth.config import UserError
from fer_synth.data.batches import to_uint8
from fer_synth.families.vanilla import PlainGenerator
from fer_synth.families.wgan_gp import Generator
from fer_synth.models.blocks import AdaIN, latents_of
from fer_synth.selection.decisions import Decisions
from fer_synth.widgets.browser import Classes, ImageBrowser, Mixes, origin_of
from fer_synth.widgets.browser_state import BrowserState, count_images, decisions_of, take_decisions
from fer_synth.widgets.kit import Candidates, from_arrays
from fer_synth.widgets.sources import Neighbours, morph

CLASSES = ("angry", "a class with a rather long name", "sad")
once = pytest.mark.once
few = settings(max_examples=60, deadline=None, derandomize=True)


def table(n, seed=0, size=8, channels=1, judged=True, rounds=2):
    "Noise with everything that a table can hold; scores with ties, one of them with gaps."
    rng = np.random.default_rng(seed)
    scores = {"density": np.where(rng.random(n) < .3, np.nan, rng.integers(0, 5, n) / 4)}
    probs = rng.dirichlet(np.ones(3), n) if judged and n else None
    if probs is not None: scores["tied"] = np.round(probs[:, 0], 1)
    images = rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return from_arrays(
        images, rng.integers(0, 3, n), CLASSES, probs,
        scores=scores,
        kept=rng.random(n) < .5,
        reason=rng.choice(["kept", "quota full", "below threshold"], n),
        round=rng.integers(1, rounds + 1, n),
        seed=rng.permutation(n) - 1,
        generator=rng.choice(["aa", "bb"], n))


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch) -> None:
    "Decisions stay out of the shared runs; test_select.py is about those that are kept."
    monkeypatch.setattr("fer_synth.widgets.browser.decisions_home", lambda source: None)


@pytest.fixture
def show():
    "Browsers that do long work at once."
    return lambda *a, **k: ImageBrowser(*a, threaded=False, **k)


# ---- lists and pages -------------------------------------------------------------------------------------

def slow_list(state):
    "What `state.list` has to be, image by image."
    f, t, ledger, rows = state.filters, state.table, state.ledger, []
    for i in range(len(t)):
        v = float(t.scores[f.score][i]) if f.score in t.scores else float("nan")
        if f.label is not None and t.classes[ledger.label[i]] != f.label: continue
        if f.kept is not None and bool(ledger.kept[i]) != f.kept: continue
        if f.reason is not None and str(t.reason[i]) != f.reason: continue
        if f.round is not None and int(t.round[i]) != f.round: continue
        if f.mine is not None and bool(ledger.mine[i]) != f.mine: continue
        if f.low is not None and not v >= f.low: continue
        if f.high is not None and not v <= f.high: continue
        rows.append(i)
    if state.sort == state.MADE and not state.descending: return rows
    def key(i): return float(i) if state.sort == state.MADE else float(t.scores[state.sort][i])
    known, unknown = [i for i in rows if key(i) == key(i)], [i for i in rows if key(i) != key(i)]
    return sorted(known, key=lambda i: -key(i) if state.descending else key(i)) + unknown


def slow_pairs(state, rows):
    "What `state.list` has to be when two sides are compared."
    kind, a, b = state.sides
    t = state.table
    value = getattr(t, kind)
    left, right = [i for i in rows if value[i] == a], [i for i in rows if value[i] == b]
    pairs, taken = {}, set()
    for i in left:
        twin = [j for j in right if t.intended[i] == t.intended[j] and t.seed[i] == t.seed[j] >= 0]
        if not twin: continue
        pairs[i] = twin[0]
        taken.add(twin[0])
    for i in left:
        if i in pairs: continue
        same = [j for j in right if j not in taken and t.intended[i] == t.intended[j]]
        pairs[i] = same[0] if same else -1
        taken.add(pairs[i])
    return [[i, pairs[i]] for i in left] + [[-1, j] for j in right if j not in taken]


@once
@few
@given(st.data())
def test_list_and_pages_equal_a_slow_reference(data):
    n = data.draw(st.integers(0, 40))
    state = BrowserState(table(n, data.draw(st.integers(0, 5))), per_page=data.draw(st.integers(1, 12)))
    def one(options): return data.draw(st.sampled_from([None, *options]))
    rows = data.draw(st.lists(st.integers(0, n - 1), max_size=6)) if n else []
    for row in rows: state.ledger.change(row, kept=True, label=row % 3)
    score = data.draw(st.sampled_from(state.choices("score")))
    state.filter(label=one(CLASSES), kept=one([True, False]), reason=one(state.choices("reason")),
                 round=one(state.choices("round")), mine=one([True, False]), score=score,
                 low=one([0., .25, .5]), high=one([.5, .75]))
    state.sort_by(data.draw(st.sampled_from(state.choices("sort"))), data.draw(st.booleans()))
    rows = slow_list(state)
    assert state.list[:, 0].tolist() == rows
    seen = []
    for page in range(1, state.pages + 1):
        state.go(page)
        assert len(state.shown) <= state.per_page
        seen += state.shown[:, 0].tolist()
    assert seen == rows
    counts = count_images(state)
    assert (counts["listed"], counts["all"], counts["stale"]) == (len(rows), n, 0)
    assert counts["listed_kept"] == sum(bool(state.ledger.kept[i]) for i in rows)


@once
@few
@given(st.data())
def test_pairs_equal_a_slow_reference(data):
    first, second = table(data.draw(st.integers(1, 30)), 1), table(data.draw(st.integers(1, 30)), 2)
    state = BrowserState(first, second, per_page=6)
    kind = data.draw(st.sampled_from(["side", "round", "generator"]))
    a, b = (data.draw(st.sampled_from(state.choices(kind))) for _ in range(2))
    state.sort_by(data.draw(st.sampled_from(state.choices("sort"))), data.draw(st.booleans()))
    state.table.seed = np.where(state.table.side == 0, state.table.seed, state.table.seed[::-1])
    state.compare(kind, a, b)
    if kind == "side" and a != b: assert state.list.tolist() == slow_pairs(state, slow_list(state))
    pairs, c = state.list[(state.list >= 0).all(1)], state.table.intended
    assert (c[pairs[:, 0]] == c[pairs[:, 1]]).all(), "neighbours are of one class"
    for side in (0, 1):
        there = state.list[:, side][state.list[:, side] >= 0]
        assert len(set(there.tolist())) == len(there), "nobody stands twice on one side"
    assert len(state.shown) <= 3


@once
def test_a_page_size_keeps_the_first_image_and_the_focus_turns_pages():
    state = BrowserState(table(50), per_page=10)
    state.go(3)
    state.resize(7)
    assert 20 in state.shown[:, 0]
    state.go(99)
    assert state.page == state.pages == 8
    state.go(-5)
    assert state.page == 1
    seen = []
    for _ in range(60):
        state.move(1)
        assert state.current in state.shown
        seen.append(state.current)
    assert seen[:50] == list(range(50)) and set(seen[50:]) == {49}
    state.move(-1)
    assert state.current == 48


@once
def test_wrong_names_are_said_with_the_right_ones():
    state = BrowserState(table(9))
    for wrong in (lambda: state.filter(label="angri"),
                  lambda: state.filter(round=7),
                  lambda: state.sort_by("confidense"),
                  lambda: state.compare("round", 1, 9)):
        with pytest.raises(UserError, match="did you mean|known:"): wrong()
    with pytest.raises(UserError, match="two with the same"):
        BrowserState(table(3), replace(table(3), classes=("a", "b", "c")))
    with pytest.raises(UserError, match="a row for each image"):
        BrowserState(replace(table(3), probs=np.zeros((3, 2))))


@once
def test_a_hundred_thousand_images():
    "Nothing here walks over images one by one in Python; the picture costs no more than that of a hundred."
    n = 100_000
    images = np.broadcast_to(np.zeros((1, 1, 8, 8), np.uint8), (n, 1, 8, 8))
    rng = np.random.default_rng(0)
    intended, scores = rng.integers(0, 3, n), {"confidence": rng.random(n)}
    state = BrowserState(Candidates(images, CLASSES, intended, scores=scores))
    state.filter(low=.5)
    state.sort_by("confidence", True)
    assert state.pages > 2000 and state.table.blocks[0] is images, "the pictures are not copied"
    state.go(state.pages)
    assert (state.table.scores["confidence"][state.shown] >= .5).all()


# ---- decisions -------------------------------------------------------------------------------------------

def snapshot(ledger): return [getattr(ledger, name).tolist() for name in ("kept", "label", "mine")]


action = st.sampled_from(["keep", "drop", "label", "clear", "undo", "redo"])


@once
@few
@given(st.lists(st.tuples(action, st.lists(st.integers(0, 11), max_size=5)), max_size=25))
def test_undoing_everything_is_the_start_and_redoing_everything_the_end(actions):
    ledger = BrowserState(table(12)).ledger
    start = snapshot(ledger)
    for action, rows in actions:
        rows = np.array(rows, np.int64)
        if action in ("keep", "drop"): ledger.change(rows, kept=action == "keep")
        elif action == "label": ledger.change(rows, label=1)
        elif action == "clear": ledger.clear(rows)
        else: getattr(ledger, action)()
    end, undone = snapshot(ledger), len(ledger.undone)
    while ledger.undo(): pass
    assert snapshot(ledger) == start
    while len(ledger.undone) > undone: ledger.redo()
    assert snapshot(ledger) == end


@once
@few
@given(st.lists(st.tuples(st.integers(0, 19), st.booleans(), st.integers(0, 2)), max_size=10), st.booleans())
def test_decisions_survive_a_file(tmp_path_factory, actions, judged):
    path = tmp_path_factory.mktemp("d") / "decisions.csv"
    def make(): return BrowserState(table(12, judged=judged), table(8, 3, judged=judged))
    state = make()
    for row, kept, label in actions: state.ledger.change(row, kept=kept, label=label)
    before = decisions_of(state)
    after = Decisions.load(before.save(path))
    for name in Decisions.HEADER:
        a, b = before.columns[name], after.columns[name]
        if name == "confidence": assert np.allclose(a, b, atol=1e-6, equal_nan=True)
        else: assert a.tolist() == b.tolist()
    again = make()
    assert take_decisions(again, after) == len({row for row, *_ in actions})
    assert snapshot(again.ledger) == snapshot(state.ledger)
    for side, source in enumerate("AB"):
        rows = np.flatnonzero(state.table.side == side)
        result = after.apply(make().table.of(side), source)
        assert result.kept.tolist() == state.ledger.kept[rows].tolist()
        assert result.intended.tolist() == state.ledger.label[rows].tolist()


@once
def test_a_relabelled_image_gets_the_confidence_of_its_new_class():
    given = table(10)
    state = BrowserState(given)
    state.ledger.change(4, kept=True, label=(given.intended[4] + 1) % 3)
    result = decisions_of(state).apply(given)
    assert result.scores["confidence"][4] == pytest.approx(given.probs[4, result.intended[4]], abs=1e-6)
    assert result.reason[4] == "kept by a person"
    assert (result.scores["confidence"][:4] == given.scores["confidence"][:4]).all()
    assert given.reason[4] != "kept by a person", "the table that was given stays as it is"


def with_cell(text, column, value):
    "A file of decisions with another value in one column of the image 1-3."
    rows = [line.split(",") for line in text.splitlines()]
    for row in rows:
        if row[1] == "1-3": row[column] = value
    return "\n".join(",".join(row) for row in rows)


def with_row_again(text):
    "A file of decisions with the row of the image 1-3 twice."
    return text + next(line for line in text.splitlines() if ",1-3," in line) + "\n"


NO_NUMBER = "'round' holds something that is not a number"
MISSING = "1 of the 2 decisions are about images that are not in this table, the first about '9-3'"


@pytest.mark.parametrize("name, spoil, said", [
    ("no such file", lambda text: None, "does not exist"),
    ("not CSV", lambda text: b"\xff\xfe\x00", "is not text in UTF-8"),
    ("empty", lambda text: "", "lacks the column 'source'"),
    ("a column is gone", lambda text: text.replace("decision", "verdict"), "lacks the column 'decision'"),
    ("a torn row", lambda text: text.rsplit(",", 3)[0], "row 10 has"),
    ("an unknown word", lambda text: text.replace("kept,person", "maybe,person"), "'maybe' as decision"),
    ("no number", lambda text: text.replace("A,1-0,", "A,1-0,x"), NO_NUMBER),
    ("images of another run", lambda text: text.replace("A,1-3,", "A,9-3,"), MISSING),
    ("another seed", lambda text: with_cell(text, 3, "77"), "'1-3' has another seed"),
    ("an unknown class", lambda text: with_cell(text, 6, "bored"), "Unknown class 'bored'"),
    ("an image twice", with_row_again, "twice"),
])
def test_a_spoilt_file_is_refused_and_changes_nothing(tmp_path, name, spoil, said):
    state = BrowserState(table(10))
    state.ledger.change(3, kept=True)
    state.ledger.change(5, kept=True)
    path = decisions_of(state).save(tmp_path / "decisions.csv")
    spoilt = spoil(path.read_text())
    if spoilt is None: path.unlink()
    else: path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    fresh = ImageBrowser(table(10), threaded=False)
    start = snapshot(fresh.state.ledger)
    fresh.files.path.value = str(path)
    fresh.files.load.click()
    assert isinstance(fresh.last_error, UserError) and said in str(fresh.last_error)
    assert snapshot(fresh.state.ledger) == start and not fresh.state.ledger.done


# ---- neighbours ------------------------------------------------------------------------------------------

@once
@pytest.mark.parametrize("channels, size, chunk", [(1, 8, 7), (3, 8, 64), (1, 64, 1000)])
def test_neighbours_equal_scipy(channels, size, chunk):
    rng = np.random.default_rng(4)
    real = rng.integers(0, 256, (90, channels, size, size), dtype=np.uint8)
    generated = rng.integers(0, 256, (30, channels, size, size), dtype=np.uint8)
    generated[3], generated[4], real[5] = real[60], 7, 200                       # a copy, and flat images
    near = Neighbours(real, np.zeros(90), chunk)
    def plain(x):
        x = x.reshape(len(x), -1).astype(np.float64)
        deviation = x.std(1, keepdims=True)
        return (x - x.mean(1, keepdims=True)) / np.where(deviation == 0, np.inf, deviation)
    far = cdist(plain(generated), plain(real)) / np.sqrt(channels * size * size)
    found = near.nearest(generated)
    assert np.allclose(found, far.min(1), atol=1e-6) and found[3] == found[4] == 0
    for i in (0, 3, 9):
        rows, distances = near.closest(generated[i], 6)
        assert np.allclose(distances, np.sort(far[i])[:6], atol=1e-6) and rows[0] == far[i].argmin()
    assert len(near.closest(generated[0], 500)[0]) == 90
    assert len(near.nearest(generated[:0])) == 0
    with pytest.raises(UserError, match="cannot be compared"): near.nearest(generated[:, :, 1:])


def test_measuring_can_be_cancelled_and_leaves_the_order(show):
    real = table(30, 9)
    b = show(table(1200), real=(real.images, real.intended))
    b.near.measure.click()
    assert b.state.sort == "distance" and b.filters.sort.value == "distance" and b.last_error is None
    values = b.state.table.scores["distance"][b.state.list[:, 0]]
    assert (np.diff(values) >= 0).all()
    assert b.cells[0].toggle.description.split()[1].rstrip(",") == f"{values[0]:.2f}"
    b = show(table(1200), real=(real.images, real.intended))
    real_step = b.work.step
    def step(done, total, fresh=False):
        if done: b.work.stop.set()
        real_step(done, total, fresh)
    b.work.step = step
    b.filters.sort.value = "distance"
    assert "Cancelled" in b.status.value and b.state.sort == b.filters.sort.value == "as made"
    assert "distance" not in b.state.table.scores


# ---- generators ------------------------------------------------------------------------------------------

def close(a, b):
    "Equal but for rounding, which may differ with the batch size."
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_a_morph_ends_at_its_images(tiny_run, show):
    b = show(tiny_run)
    second = np.flatnonzero(b.state.table.round == 2)
    for row, use in ((second[0], b.morph.panel.card.a), (second[-1], b.card.b)):
        b.pick(int(row))
        use.click()
    assert b.last_error is None and not b.morph.slider.disabled
    t, (a, z) = b.state.table, (b.state.a, b.state.b)
    for value, row in ((0., a), (1., z)):
        b.morph.slider.value = value
        assert close(b.morph.strip.shown[1][0], t.image(row))
    b.morph.slider.value = .5
    middle = b.morph.strip.shown[1][0]
    assert not close(middle, t.image(a)) and not close(middle, t.image(z))
    classes = b.morph.classes.strip.shown
    assert [c for _, c in classes] == list(t.classes) and close(classes[t.intended[a]][0], t.image(a))
    mixes = b.morph.mixes.strip.shown
    assert len(mixes) == 6 and close(mixes[0][0], t.image(a)) and not close(mixes[-1][0], t.image(a))
    b.pick(int(np.flatnonzero(t.round == 1)[0]))
    b.card.b.click()
    assert b.morph.slider.disabled and "two generators" in b.morph.note.value and b.last_error is None


class Plain(torch.nn.Module):
    "A generator with an embedding of classes and without styles."
    def __init__(self):
        super().__init__()
        self.z, self.embed = 8, torch.nn.Embedding(3, 8)


def test_classes_and_mixtures_only_where_the_family_has_them():
    alone, z = Generator(8, 1, 8, 16).eval(), latents_of([3], 8)                # the GAN of one class
    classes, mixes = Classes(CLASSES), Mixes()
    classes.show((alone, 0, z))
    assert not classes.strip.shown and "a GAN of its own" in classes.about.value
    mixes.show((alone, 0, z), (Generator(8, 1, 8, 16), 0, z))
    assert not mixes.strip.shown, "two generators have no styles in common"
    plain = Plain()
    assert not any(isinstance(m, AdaIN) for m in plain.modules())
    mixes.show((plain, 0, z), (plain, 1, z))
    assert not mixes.strip.shown and "cannot be mixed" in mixes.about.value


def test_a_family_without_classes_can_be_morphed_all_the_same():
    gen, (a, b) = PlainGenerator(8, 8, 16).eval(), latents_of([3, 4], 8).split(1)
    with torch.no_grad(): ends = [to_uint8(gen(z))[0].numpy() for z in (a, b)]
    for t, wanted in zip((0.0, 1.0), ends): assert close(morph(gen, (a, b), (0, 0), t), wanted)
    classes, mixes = Classes(CLASSES), Mixes()
    classes.show((gen, 0, a))
    mixes.show((gen, 0, a), (gen, 0, b))
    assert not classes.strip.shown and not mixes.strip.shown


def test_new_images_are_judged_decided_saved_and_made_again(tiny_run, show, tmp_path):
    b = show(tiny_run)
    n = len(b.state.table)
    b.maker.label.value, b.maker.count.value = "sad", 5
    b.maker.make.click()
    b.maker.make.click()
    t = b.state.table
    assert b.last_error is None and len(t) == n + 10 and set(t.reason[n:]) == {"made here"}
    assert len(set(t.seed.tolist())) == n + 10
    assert np.isfinite(t.scores["confidence"][n:]).all() and not b.state.ledger.kept[n:].any()
    assert b.state.list[:, 0].tolist() == list(range(n + 9, n - 1, -1))
    b.cells[0].toggle.click()
    path = b.save(tmp_path / "decisions.csv")
    again = show(tiny_run)
    again.load(path)
    row = again.state.table.find[0, str(t.ids[n + 9])]
    assert close(again.state.table.image(row), t.image(n + 9)) and again.state.ledger.kept[row]
    assert again.candidates.ids[-1] == t.ids[n + 9] and again.decision.mine.sum() == 1
    kept = again.decision.apply(again.candidates)
    assert kept.kept[-1] and kept.reason[-1] == "kept by a person"


def test_making_is_cancelled_in_a_thread(tiny_run):
    b = ImageBrowser(tiny_run)
    n, asked, go = len(b.state.table), threading.Event(), threading.Event()
    real_step = b.work.step
    def step(done, total, fresh=False):
        if done:
            asked.set()
            go.wait(30)
        real_step(done, total, fresh)
    b.work.step = step
    b.maker.count.value = 96
    b.maker.make.click()
    assert asked.wait(60)
    b.maker.make.click()
    assert "Something is still being made" in b.status.value
    b.work.cancel.click()
    go.set()
    b.work.thread.join(30)
    assert len(b.state.table) == n and "Cancelled" in b.status.value and b.work.view.layout.display == "none"


def test_a_run_shows_its_real_training_images_and_writes_nothing(tiny_run, show):
    before = sorted((p, p.stat().st_mtime_ns) for p in tiny_run.rglob("*"))
    b = show(tiny_run)
    for press in (b.pages.next, b.cells[0].pick, b.near.find): press.click()
    assert b.last_error is None and len(b.near.strip.shown) == 5
    assert "Closest real training image" in b.status.value
    b.card.next.click()
    assert not b.near.strip.shown, "the real images go when the focus moves on"
    assert sorted((p, p.stat().st_mtime_ns) for p in tiny_run.rglob("*")) == before


def test_without_checkpoints_the_reasons_are_said(tmp_path, show):
    from records import make_records
    b = show(make_records(tmp_path / "run", made=10))
    assert b.maker.make.disabled and "no checkpoint" in b.maker.note.value
    assert b.card.a.disabled and "no checkpoint" in b.morph.note.value
    with pytest.raises(UserError, match="no checkpoint"): origin_of(b, 0)
    b.sides.kind.value = "generator"
    assert b.state.sides[0] == "generator" and len(b.state.shown) == 12 and b.last_error is None


# ---- the view --------------------------------------------------------------------------------------------

def visible(b): return [c for c in b.cells if c.view.layout.display != "none"]


def use_filters(b):
    s, f = b.state, b.filters
    for control, value, field, want in ((f.label, "sad", "label", "sad"),
                                        (f.kept, "dropped", "kept", False),
                                        (f.reason, "quota full", "reason", "quota full"),
                                        (f.round, 2, "round", 2),
                                        (f.mine, "the records", "mine", False),
                                        (f.score, "tied", "score", "tied")):
        control.value = value
        assert getattr(s.filters, field) == want
        assert [c.row for c in visible(b)] == s.shown[:, 0].tolist() and s.list[:, 0].tolist() == slow_list(s)
    f.range.value = (.3, .6)
    assert (s.filters.low, s.filters.high) == (.3, .6)
    f.clear.click()
    assert len(s.list) == 130 and f.label.value == f.ALL and f.range.value == (f.range.min, f.range.max)
    f.sort.value, f.direction.value = "confidence", "descending"
    assert s.sort == "confidence" and s.descending


def turn_pages(b, size):
    s, p = b.state, b.pages
    for press, page in ((p.next, 2), (p.last, 6), (p.next, 6), (p.previous, 5), (p.first, 1)):
        press.click()
        assert s.page == page == p.page.value and [c.row for c in visible(b)] == s.shown[:, 0].tolist()
    p.page.value = 3
    assert s.page == 3
    p.per_page.value = 48
    assert len(visible(b)) == 48 and s.page == 2
    p.size.value = 160
    assert b.grid.side == 160 // size * size and b.cells[0].image.layout.width == f"{b.grid.side}px"


def decide_about_a_page(b):
    s, bar = b.state, b.bar
    rows, ledger = s.shown[:, 0], s.ledger
    for press, want in ((bar.drop, False), (bar.keep, True)):
        press.click()
        assert (ledger.kept[rows] == want).all() and ledger.mine[rows].all()
    bar.invert.click()
    assert not ledger.kept[rows].any()
    bar.clear.click()
    assert not ledger.mine.any() and (ledger.kept == s.table.recorded).all()
    for _ in range(4): bar.undo.click()
    assert not ledger.done and bar.redo.description == "Redo (4)"
    bar.redo.click()
    assert not ledger.kept[rows].any()
    bar.undo.click()
    bar.undo.click()
    assert "nothing to undo" in b.status.value


def decide_about_an_image(b):
    s, cell, card = b.state, b.cells[2], b.card
    was = s.ledger.kept[cell.row]
    cell.toggle.click()
    assert s.ledger.kept[cell.row] != was and cell.toggle.description.endswith(", me")
    assert cell.toggle.description.startswith("dropped" if was else "kept")
    cell.pick.click()
    assert s.current == cell.row and cell.pick.description.startswith("> #")
    card.keep.click()
    assert s.ledger.kept[s.current]
    card.drop.click()
    assert not s.ledger.kept[s.current]
    here, intended = s.current, s.table.intended[s.current]
    card.label.value = CLASSES[(intended + 1) % 3]
    assert s.ledger.label[here] == (intended + 1) % 3 and " as " in cell.pick.description
    card.clear.click()
    assert s.ledger.label[here] == intended and not s.ledger.mine[here]
    card.next.click()
    assert s.current != here
    card.previous.click()
    assert s.current == here


def find_neighbours(b):
    b.near.find.click()
    assert len(b.near.strip.shown) == 5
    b.near.k.value = 3
    assert len(b.near.strip.shown) == 3


def compare_sides(b):
    s, sides = b.state, b.sides
    for kind in ("round", "generator", "side"):
        sides.kind.value = kind
        assert s.sides[0] == kind and len(s.shown[0]) == 2 and b.grid.heads[0].layout.display == "block"
        sides.b.value = sides.a.value
        assert s.sides[1] == s.sides[2]
    sides.kind.value = ""
    assert s.sides is None and b.grid.heads[0].layout.display == "none"


@pytest.mark.parametrize("channels, size", [(1, 32), (3, 64), (1, 8)])
def test_every_control_changes_the_state(show, channels, size, tmp_path):
    first, second, real = (table(n, seed, size, channels) for n, seed in ((90, 0), (40, 3), (20, 9)))
    b = show(first, other=second, real=(real.images, real.intended))
    assert len(visible(b)) == 24 and b.pages.of.value == "of 6"
    use_filters(b)
    turn_pages(b, size)
    decide_about_a_page(b)
    decide_about_an_image(b)
    find_neighbours(b)
    compare_sides(b)
    b.cells[2].toggle.click()
    b.files.path.value = str(tmp_path / "d.csv")
    b.files.save.click()
    b.files.load.click()
    assert "1 decisions of a person were read" in b.status.value
    assert b.last_error is None and b.picture().size[0] > 300


def test_every_control_has_a_text(show):
    b = show(table(5))
    def walk(w):
        yield w
        for child in getattr(w, "children", ()): yield from walk(child)
    def control(w):
        described = hasattr(w, "description") and not hasattr(w, "bar_style")
        return described and type(w).__name__ not in ("HTML", "Label") and w.layout.display != "none"
    seen = [w for w in walk(b.view) if control(w)]
    empty = [w for c in b.cells if c.row < 0 for w in (c.toggle, c.pick)]
    for w in seen: assert w.description or w in empty, w
    assert len(seen) > 40


def test_a_decision_does_not_pull_an_image_from_under_the_hand(show):
    b = show(table(60))
    b.filters.kept.value = "kept"
    rows = b.state.shown[:, 0].tolist()
    b.cells[0].toggle.click()
    assert [c.row for c in visible(b)] == rows and "1 no longer fit" in b.bar.where.value
    b.filters.refresh.click()
    assert rows[0] not in [c.row for c in visible(b)] and "no longer" not in b.bar.where.value


def test_nothing_to_show_is_a_sentence(show):
    b = show(table(30))
    b.filters.round.value = 2
    b.filters.score.value = "density"
    b.filters.range.value = (.001, .002)
    assert not visible(b) and "No image fits these filters" in b.grid.note.value
    for press in (b.pages.next, b.bar.keep, b.bar.undo, b.card.next): press.click()
    assert b.last_error is None and b.picture().size[0] > 100
    empty = show(from_arrays(np.zeros((0, 8, 8), np.uint8), [], CLASSES))
    empty.pages.next.click()
    assert empty.last_error is None and "No image fits" in empty.grid.note.value
    assert empty.picture() and len(empty.decision) == 0
    empty.card.keep.click()
    assert "No image is chosen" in str(empty.last_error) and "No image is chosen" in empty.status.value


def test_an_error_in_a_callback_is_shown_and_the_next_click_works(show):
    b = show(table(30))
    whole, b.state.go = b.state.go, lambda page: 1 / 0
    b.pages.next.click()
    assert isinstance(b.last_error, ZeroDivisionError)
    assert "ZeroDivisionError" in b.status.value and "fer-error" in b.status.value
    b.state.go, b.last_error = whole, None
    b.pages.next.click()
    assert b.state.page == 2 and b.last_error is None and "Error" not in b.status.value


def test_names_are_text_and_not_markup(show):
    evil = "<img src=x onerror=alert(1)>"
    ids = np.array([evil + str(i) for i in range(4)])
    b = show(replace(table(4), classes=(evil, "b", "c"), reason=np.full(4, evil), ids=ids))
    b.cells[0].pick.click()
    shown = b.card.text.value + b.grid.note.value + b.bar.where.value + b.morph.note.value
    assert evil not in shown and b.last_error is None


def test_a_class_or_reason_may_have_any_name_and_a_round_any_number(show):
    reason, round = np.array(["", "all", "", "", "", ""]), np.array([0, 0, 0, 0, 1, 1])
    b = show(replace(table(6), classes=("", "all", "c"), reason=reason, round=round))
    b.filters.round.value = 0
    assert len(b.state.list) == 4
    b.filters.reason.value = ""
    assert len(b.state.list) == 3 and b.last_error is None
    b.filters.label.value = "all"
    assert b.state.filters.label == "all"
