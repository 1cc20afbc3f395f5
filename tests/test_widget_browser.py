"The face browser: lists against a slow reference, history, decisions, neighbours, generators, and every control of the view."
import threading
from dataclasses import replace

import numpy as np
import torch
import pytest
from hypothesis import given, settings, strategies as st
from scipy.spatial.distance import cdist

from fer_synth.data.batches import to_uint8
from fer_synth.config import UserError
from fer_synth.widgets import browser as wb
from fer_synth.widgets.browser import BrowserState, Decisions, ImageBrowser, Neighbours
from fer_synth.widgets.parts import Candidates, from_arrays

CLASSES = ("angry", "a class with a rather long name", "sad")
few = settings(max_examples=60, deadline=None, derandomize=True)


def table(n, seed=0, size=8, channels=1, judged=True, rounds=2):
    "Noise with everything that a table can hold; scores with ties, one of them with gaps."
    rng = np.random.default_rng(seed)
    scores = {"density": np.where(rng.random(n) < .3, np.nan, rng.integers(0, 5, n) / 4)}
    probs = rng.dirichlet(np.ones(3), n) if judged and n else None
    if probs is not None: scores["tied"] = np.round(probs[:, 0], 1)
    return from_arrays(rng.integers(0, 256, (n, channels, size, size), dtype=np.uint8), rng.integers(0, 3, n), CLASSES, probs,
                       scores=scores, kept=rng.random(n) < .5, reason=rng.choice(["kept", "quota full", "below threshold"], n),
                       round=rng.integers(1, rounds + 1, n), seed=rng.permutation(n) - 1, generator=rng.choice(["aa", "bb"], n))


@pytest.fixture
def show():
    "Browsers that do long work at once."
    return lambda *a, **k: ImageBrowser(*a, threaded=False, **k)


# ---- lists and pages --------------------------------------------------------------------------------------------------------------

def slow_list(state):
    "What `state.list` has to be, face by face."
    f, t, l, rows = state.filters, state.faces, state.ledger, []
    for i in range(len(t)):
        v = float(t.scores[f.score][i]) if f.score in t.scores else float("nan")
        if f.label is not None and t.classes[l.label[i]] != f.label: continue
        if f.kept is not None and bool(l.kept[i]) != f.kept: continue
        if f.reason is not None and str(t.reason[i]) != f.reason: continue
        if f.round is not None and int(t.round[i]) != f.round: continue
        if f.mine is not None and bool(l.mine[i]) != f.mine: continue
        if f.low is not None and not v >= f.low: continue
        if f.high is not None and not v <= f.high: continue
        rows.append(i)
    if state.sort != state.MADE or state.descending:
        key = lambda i: float(i) if state.sort == state.MADE else float(t.scores[state.sort][i])
        known = [i for i in rows if key(i) == key(i)]
        rows = sorted(known, key=lambda i: -key(i) if state.descending else key(i)) + [i for i in rows if key(i) != key(i)]
    return rows


def slow_pairs(state, rows):
    kind, a, b = state.sides
    t = state.faces
    value = getattr(t, kind)
    left, right = [i for i in rows if value[i] == a], [i for i in rows if value[i] == b]
    pairs, taken = {}, set()
    for i in left:
        twin = [j for j in right if t.intended[i] == t.intended[j] and t.seed[i] == t.seed[j] >= 0]
        if twin: pairs[i] = twin[0]; taken.add(twin[0])
    for i in left:
        if i in pairs: continue
        same = [j for j in right if j not in taken and t.intended[i] == t.intended[j]]
        pairs[i] = same[0] if same else -1
        taken.add(pairs[i])
    return [[i, pairs[i]] for i in left] + [[-1, j] for j in right if j not in taken]


@few
@given(st.data())
def test_list_and_pages_equal_a_slow_reference(data):
    n = data.draw(st.integers(0, 40))
    state = BrowserState(table(n, data.draw(st.integers(0, 5))), per_page=data.draw(st.integers(1, 12)))
    one = lambda options: data.draw(st.sampled_from([None, *options]))
    for row in data.draw(st.lists(st.integers(0, n - 1), max_size=6)) if n else (): state.ledger.change(row, kept=True, label=row % 3)
    score = data.draw(st.sampled_from(state.choices("score")))
    state.filter(label=one(CLASSES), kept=one([True, False]), reason=one(state.choices("reason")), round=one(state.choices("round")),
                 mine=one([True, False]), score=score, low=one([0., .25, .5]), high=one([.5, .75]))
    state.sort_by(data.draw(st.sampled_from(state.choices("sort"))), data.draw(st.booleans()))
    rows = slow_list(state)
    assert state.list[:, 0].tolist() == rows
    seen = []
    for page in range(1, state.pages + 1):
        state.go(page)
        assert len(state.shown) <= state.per_page
        seen += state.shown[:, 0].tolist()
    assert seen == rows
    counts = wb.count_images(state)
    assert (counts["listed"], counts["all"], counts["stale"]) == (len(rows), n, 0)
    assert counts["listed_kept"] == sum(bool(state.ledger.kept[i]) for i in rows)


@few
@given(st.data())
def test_pairs_equal_a_slow_reference(data):
    first, second = table(data.draw(st.integers(1, 30)), 1), table(data.draw(st.integers(1, 30)), 2)
    state = BrowserState(first, second, per_page=6)
    kind = data.draw(st.sampled_from(["side", "round", "generator"]))
    a, b = (data.draw(st.sampled_from(state.choices(kind))) for _ in range(2))
    state.sort_by(data.draw(st.sampled_from(state.choices("sort"))), data.draw(st.booleans()))
    state.faces.seed = np.where(state.faces.side == 0, state.faces.seed, state.faces.seed[::-1])
    state.compare(kind, a, b)
    if kind == "side" and a != b: assert state.list.tolist() == slow_pairs(state, slow_list(state))
    pairs, c = state.list[(state.list >= 0).all(1)], state.faces.intended
    assert (c[pairs[:, 0]] == c[pairs[:, 1]]).all(), "neighbours are of one class"
    for side in (0, 1):
        there = state.list[:, side][state.list[:, side] >= 0]
        assert len(set(there.tolist())) == len(there), "nobody stands twice on one side"
    assert len(state.shown) <= 3


def test_a_page_size_keeps_the_first_face_and_the_focus_turns_pages():
    state = BrowserState(table(50), per_page=10)
    state.go(3)
    state.resize(7)
    assert 20 in state.shown[:, 0]
    state.go(99); assert state.page == state.pages == 8
    state.go(-5); assert state.page == 1
    seen = []
    for _ in range(60):
        state.move(1)
        assert state.current in state.shown
        seen.append(state.current)
    assert seen[:50] == list(range(50)) and set(seen[50:]) == {49}
    state.move(-1)
    assert state.current == 48


def test_wrong_names_are_said_with_the_right_ones():
    state = BrowserState(table(9))
    for wrong in (lambda: state.filter(label="angri"), lambda: state.filter(round=7), lambda: state.sort_by("confidense"),
                  lambda: state.compare("round", 1, 9)):
        with pytest.raises(UserError, match="did you mean|known:"): wrong()
    with pytest.raises(UserError, match="two with the same"): BrowserState(table(3), replace(table(3), classes=("a", "b", "c")))
    with pytest.raises(UserError, match="a row for each image"): BrowserState(replace(table(3), probs=np.zeros((3, 2))))


def test_a_hundred_thousand_faces():
    "Nothing here walks over faces one by one in Python; the picture costs no more than that of a hundred."
    images = np.broadcast_to(np.zeros((1, 1, 8, 8), np.uint8), (100_000, 1, 8, 8))
    rng = np.random.default_rng(0)
    state = BrowserState(Candidates(images, CLASSES, rng.integers(0, 3, 100_000), scores={"confidence": rng.random(100_000)}))
    state.filter(low=.5)
    state.sort_by("confidence", True)
    assert state.pages > 2000 and state.faces.blocks[0] is images, "the pictures are not copied"
    state.go(state.pages)
    assert (state.faces.scores["confidence"][state.shown] >= .5).all()


# ---- decisions --------------------------------------------------------------------------------------------------------------------

def snapshot(ledger): return [getattr(ledger, name).tolist() for name in ("kept", "label", "mine")]


@few
@given(st.lists(st.tuples(st.sampled_from(["keep", "drop", "label", "clear", "undo", "redo"]), st.lists(st.integers(0, 11), max_size=5)), max_size=25))
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


@few
@given(st.lists(st.tuples(st.integers(0, 19), st.booleans(), st.integers(0, 2)), max_size=10), st.booleans())
def test_decisions_survive_a_file(tmp_path_factory, actions, judged):
    path = tmp_path_factory.mktemp("d") / "decisions.csv"
    make = lambda: BrowserState(table(12, judged=judged), table(8, 3, judged=judged))
    state = make()
    for row, kept, label in actions: state.ledger.change(row, kept=kept, label=label)
    before = wb.decisions_of(state)
    after = Decisions.load(before.save(path))
    for name in Decisions.HEADER:
        a, b = before.columns[name], after.columns[name]
        assert np.allclose(a, b, atol=1e-6, equal_nan=True) if name == "confidence" else a.tolist() == b.tolist()
    again = make()
    assert wb.take_decisions(again, after) == len({row for row, *_ in actions})
    assert snapshot(again.ledger) == snapshot(state.ledger)
    for side, source in enumerate("AB"):
        rows = np.flatnonzero(state.faces.side == side)
        result = after.apply(make().faces.of(side), source)
        assert result.kept.tolist() == state.ledger.kept[rows].tolist() and result.intended.tolist() == state.ledger.label[rows].tolist()


def test_a_relabelled_face_gets_the_confidence_of_its_new_class():
    faces = table(10)
    state = BrowserState(faces)
    state.ledger.change(4, kept=True, label=(faces.intended[4] + 1) % 3)
    result = wb.decisions_of(state).apply(faces)
    assert result.scores["confidence"][4] == pytest.approx(faces.probs[4, result.intended[4]], abs=1e-6)
    assert result.reason[4] == "kept by a person" and (result.scores["confidence"][:4] == faces.scores["confidence"][:4]).all()
    assert faces.reason[4] != "kept by a person", "the table that was given stays as it is"


@pytest.mark.parametrize("name, spoil, said", [
    ("no such file", lambda text: None, "does not exist"),
    ("not CSV", lambda text: b"\xff\xfe\x00", "cannot be read"),
    ("empty", lambda text: "", "lacks the column 'source'"),
    ("a column is gone", lambda text: text.replace("decision", "verdict"), "lacks the column 'decision'"),
    ("a torn row", lambda text: text.rsplit(",", 3)[0], "row 10 has"),
    ("an unknown word", lambda text: text.replace("kept,person", "maybe,person"), "'maybe' as decision"),
    ("a seed of letters", lambda text: text.replace("A,1-0,", "A,1-0,x"), "'round' holds something that is not a number"),
    ("faces of another run", lambda text: text.replace("A,1-3,", "A,9-3,"), "1 of the 2 decisions are about faces that are not in this table, the first about '9-3'"),
    ("another seed", lambda text: "\n".join(",".join([*c[:3], "77", *c[4:]]) if c[1] == "1-3" else ",".join(c) for c in (l.split(",") for l in text.split("\n")) if c[0]), "'1-3' has another seed"),
    ("an unknown class", lambda text: "\n".join(",".join([*c[:6], "bored", *c[7:]]) if c[1] == "1-3" else ",".join(c) for c in (l.split(",") for l in text.split("\n")) if c[0]), "Unknown class 'bored'"),
    ("a face twice", lambda text: text + next(l for l in text.splitlines() if ",1-3," in l) + "\n", "twice"),
])
def test_a_spoilt_file_is_refused_and_changes_nothing(tmp_path, name, spoil, said):
    state = BrowserState(table(10))
    state.ledger.change(3, kept=True)
    state.ledger.change(5, kept=True)
    path = wb.decisions_of(state).save(tmp_path / "decisions.csv")
    spoilt = spoil(path.read_text())
    if spoilt is None: path.unlink()
    else: path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    fresh = ImageBrowser(table(10), threaded=False)
    start = snapshot(fresh.state.ledger)
    fresh.files.path.value = str(path)
    fresh.files.load.click()
    assert isinstance(fresh.last_error, UserError) and said in str(fresh.last_error)
    assert snapshot(fresh.state.ledger) == start and not fresh.state.ledger.done


# ---- neighbours -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("channels, size, chunk", [(1, 8, 7), (3, 8, 64), (1, 64, 1000)])
def test_neighbours_equal_scipy(channels, size, chunk):
    rng = np.random.default_rng(4)
    real = rng.integers(0, 256, (90, channels, size, size), dtype=np.uint8)
    fakes = rng.integers(0, 256, (30, channels, size, size), dtype=np.uint8)
    fakes[3], fakes[4], real[5] = real[60], 7, 200                               # a copy, and flat pictures
    near = Neighbours(real, np.zeros(90), chunk)
    def plain(x):
        x = x.reshape(len(x), -1).astype(np.float64)
        spread = x.std(1, keepdims=True)
        return (x - x.mean(1, keepdims=True)) / np.where(spread == 0, np.inf, spread)
    far = cdist(plain(fakes), plain(real)) / np.sqrt(channels * size * size)
    assert np.allclose(near.nearest(fakes), far.min(1), atol=1e-6) and near.nearest(fakes)[3] == near.nearest(fakes)[4] == 0
    for i in (0, 3, 9):
        rows, gaps = near.closest(fakes[i], 6)
        assert np.allclose(gaps, np.sort(far[i])[:6], atol=1e-6) and rows[0] == far[i].argmin()
    assert len(near.closest(fakes[0], 500)[0]) == 90
    assert len(near.nearest(fakes[:0])) == 0
    with pytest.raises(UserError, match="cannot be compared"): near.nearest(fakes[:, :, 1:])


def test_measuring_can_be_cancelled_and_leaves_the_order(show):
    real = table(30, 9)
    b = show(table(1200), real=(real.images, real.intended))
    b.near.measure.click()
    assert b.state.sort == "distance" and b.filters.sort.value == "distance" and b.last_error is None
    values = b.state.faces.scores["distance"][b.state.list[:, 0]]
    assert (np.diff(values) >= 0).all() and b.cells[0].toggle.description.split()[1].rstrip(",") == f"{values[0]:.2f}"
    b = show(table(1200), real=(real.images, real.intended))
    real_step = b.work.step
    b.work.step = lambda done, total, fresh=False: (b.work.stop.set() if done else None, real_step(done, total, fresh))
    b.filters.sort.value = "distance"
    assert "Cancelled" in b.status.value and b.state.sort == b.filters.sort.value == "as made" and "distance" not in b.state.faces.scores


# ---- generators -------------------------------------------------------------------------------------------------------------------

def close(a, b): return np.abs(a.astype(int) - b.astype(int)).max() <= 1           # another batch size may round otherwise


def test_a_morph_ends_at_its_faces(tiny_run, show):
    b = show(tiny_run)
    second = np.flatnonzero(b.state.faces.round == 2)
    for row, use in ((second[0], b.morph.panel.card.a), (second[-1], b.card.b)):
        b.pick(int(row))
        use.click()
    assert b.last_error is None and not b.morph.slider.disabled
    t, (a, z) = b.state.faces, (b.state.a, b.state.b)
    for value, row in ((0., a), (1., z)):
        b.morph.slider.value = value
        assert close(b.morph.strip.shown[1][0], t.image(row))
    b.morph.slider.value = .5
    assert not close(b.morph.strip.shown[1][0], t.image(a)) and not close(b.morph.strip.shown[1][0], t.image(z))
    emotions = b.morph.emotions.strip.shown
    assert [c for _, c in emotions] == list(t.classes) and close(emotions[t.intended[a]][0], t.image(a))
    mixes = b.morph.mixes.strip.shown
    assert len(mixes) == 6 and close(mixes[0][0], t.image(a)) and not close(mixes[-1][0], t.image(a))
    b.pick(int(np.flatnonzero(t.round == 1)[0]))
    b.card.b.click()
    assert b.morph.slider.disabled and "two generators" in b.morph.note.value and b.last_error is None


def test_emotions_and_mixtures_only_where_the_family_has_them():
    import torch
    from fer_synth.models.blocks import AdaIN, latents_of
    from fer_synth.models.wgan_gp import Generator
    alone, z = Generator(8, 1, 8, 16).eval(), latents_of([3], 8)                # the GAN of one class
    emotions, mixes = wb.Emotions(CLASSES), wb.Mixes()
    emotions.show((alone, 0, z))
    assert not emotions.strip.shown and "a GAN of its own" in emotions.about.value
    mixes.show((alone, 0, z), (Generator(8, 1, 8, 16), 0, z))
    assert not mixes.strip.shown, "two generators have no styles in common"
    class Plain(torch.nn.Module):
        z, embed = 8, torch.nn.Embedding(3, 8)
    plain = Plain()
    assert not any(isinstance(m, AdaIN) for m in plain.modules())
    mixes.show((plain, 0, z), (plain, 1, z))
    assert not mixes.strip.shown and "cannot be mixed" in mixes.about.value


def test_a_family_without_classes_can_be_morphed_all_the_same():
    from fer_synth.families.vanilla import PlainGenerator
    from fer_synth.models.blocks import latents_of
    gen, (a, b) = PlainGenerator(8, 8, 16).eval(), latents_of([3, 4], 8).split(1)
    with torch.no_grad(): ends = [to_uint8(gen(z))[0].numpy() for z in (a, b)]
    for t, wanted in zip((0.0, 1.0), ends): assert np.abs(wb.morph(gen, (a, b), (0, 0), t).astype(int) - wanted).max() <= 1
    emotions, mixes = wb.Emotions(CLASSES), wb.Mixes()
    emotions.show((gen, 0, a)); mixes.show((gen, 0, a), (gen, 0, b))
    assert not emotions.strip.shown and not mixes.strip.shown


def test_new_faces_are_judged_decided_saved_and_made_again(tiny_run, show, tmp_path):
    b = show(tiny_run)
    n = len(b.state.faces)
    b.maker.label.value, b.maker.count.value = "sad", 5
    b.maker.make.click(); b.maker.make.click()
    t = b.state.faces
    assert b.last_error is None and len(t) == n + 10 and set(t.reason[n:]) == {"made here"} and len(set(t.seed.tolist())) == n + 10
    assert np.isfinite(t.scores["confidence"][n:]).all() and not b.state.ledger.kept[n:].any() and b.state.list[:, 0].tolist() == list(range(n + 9, n - 1, -1))
    b.cells[0].toggle.click()
    path = b.save(tmp_path / "decisions.csv")
    again = show(tiny_run)
    again.load(path)
    row = again.state.faces.find[0, str(t.ids[n + 9])]
    assert close(again.state.faces.image(row), t.image(n + 9)) and again.state.ledger.kept[row]
    assert again.candidates.ids[-1] == t.ids[n + 9] and again.decision.mine.sum() == 1
    kept = again.decision.apply(again.candidates)
    assert kept.kept[-1] and kept.reason[-1] == "kept by a person"


def test_making_is_cancelled_in_a_thread(tiny_run):
    b = ImageBrowser(tiny_run)
    n, asked, go = len(b.state.faces), threading.Event(), threading.Event()
    real_step = b.work.step
    def step(done, total, fresh=False):
        if done: asked.set(); go.wait(30)
        real_step(done, total, fresh)
    b.work.step = step
    b.maker.count.value = 96
    b.maker.make.click()
    assert asked.wait(60)
    b.maker.make.click()
    assert "Something is still being made" in b.status.value
    b.work.cancel.click(); go.set()
    b.work.thread.join(30)
    assert len(b.state.faces) == n and "Cancelled" in b.status.value and b.work.view.layout.display == "none"


def test_a_run_shows_its_real_training_faces_and_writes_nothing(tiny_run, show):
    before = sorted((p, p.stat().st_mtime_ns) for p in tiny_run.rglob("*"))
    b = show(tiny_run)
    b.pages.next.click(); b.cells[0].pick.click(); b.near.find.click()
    assert b.last_error is None and len(b.near.strip.shown) == 5 and "Closest real training face" in b.status.value
    b.card.next.click()
    assert not b.near.strip.shown, "the real faces go when the focus moves on"
    assert sorted((p, p.stat().st_mtime_ns) for p in tiny_run.rglob("*")) == before


def test_without_checkpoints_the_reasons_are_said(tmp_path, show):
    from records import make_records
    b = show(make_records(tmp_path / "run", made=10))
    assert b.maker.make.disabled and "no checkpoint" in b.maker.note.value and b.card.a.disabled and "no checkpoint" in b.morph.note.value
    with pytest.raises(UserError, match="no checkpoint"): wb.origin_of(b, 0)
    b.sides.kind.value = "generator"
    assert b.state.sides[0] == "generator" and len(b.state.shown) == 12 and b.last_error is None


# ---- the view ---------------------------------------------------------------------------------------------------------------------

def visible(b): return [c for c in b.cells if c.view.layout.display != "none"]


@pytest.mark.parametrize("channels, size", [(1, 32), (3, 64), (1, 8)])
def test_every_control_changes_the_state(show, channels, size, tmp_path):
    real = table(20, 9, size, channels)
    b = show(table(90, size=size, channels=channels), other=table(40, 3, size, channels), real=(real.images, real.intended))
    s = b.state
    assert len(visible(b)) == 24 and b.pages.of.value == "of 6"
    for control, value, field, want in ((b.filters.label, "sad", "label", "sad"), (b.filters.kept, "dropped", "kept", False),
                                        (b.filters.reason, "quota full", "reason", "quota full"), (b.filters.round, 2, "round", 2),
                                        (b.filters.mine, "the records", "mine", False), (b.filters.score, "tied", "score", "tied")):
        control.value = value
        assert getattr(s.filters, field) == want
        assert [c.row for c in visible(b)] == s.shown[:, 0].tolist() and s.list[:, 0].tolist() == slow_list(s)
    b.filters.range.value = (.3, .6)
    assert (s.filters.low, s.filters.high) == (.3, .6)
    b.filters.clear.click()
    assert len(s.list) == 130 and b.filters.label.value == b.filters.ALL and b.filters.range.value == (b.filters.range.min, b.filters.range.max)
    b.filters.sort.value, b.filters.direction.value = "confidence", "descending"
    assert s.sort == "confidence" and s.descending
    for press, page in ((b.pages.next, 2), (b.pages.last, 6), (b.pages.next, 6), (b.pages.previous, 5), (b.pages.first, 1)):
        press.click()
        assert s.page == page == b.pages.page.value and [c.row for c in visible(b)] == s.shown[:, 0].tolist()
    b.pages.page.value = 3
    assert s.page == 3
    b.pages.per_page.value = 48
    assert len(visible(b)) == 48 and s.page == 2
    b.pages.size.value = 160
    assert b.grid.side == 160 // size * size and b.cells[0].image.layout.width == f"{b.grid.side}px"
    rows = s.shown[:, 0]
    for press, want in ((b.bar.drop, False), (b.bar.keep, True)):
        press.click()
        assert (s.ledger.kept[rows] == want).all() and s.ledger.mine[rows].all()
    b.bar.invert.click(); assert not s.ledger.kept[rows].any()
    b.bar.clear.click(); assert not s.ledger.mine.any() and (s.ledger.kept == s.faces.recorded).all()
    for _ in range(4): b.bar.undo.click()
    assert not s.ledger.done and b.bar.redo.description == "Redo (4)"
    b.bar.redo.click(); assert not s.ledger.kept[rows].any()
    b.bar.undo.click(); b.bar.undo.click()
    assert "nothing to undo" in b.status.value
    cell = b.cells[2]
    was = s.ledger.kept[cell.row]
    cell.toggle.click()
    assert s.ledger.kept[cell.row] != was and cell.toggle.description.endswith(", me") and cell.toggle.description.startswith("dropped" if was else "kept")
    cell.pick.click()
    assert s.current == cell.row and cell.pick.description.startswith("> #")
    b.card.keep.click(); assert s.ledger.kept[s.current]
    b.card.drop.click(); assert not s.ledger.kept[s.current]
    b.card.label.value = CLASSES[(s.faces.intended[s.current] + 1) % 3]
    assert s.ledger.label[s.current] == (s.faces.intended[s.current] + 1) % 3 and " as " in cell.pick.description
    b.card.clear.click(); assert s.ledger.label[s.current] == s.faces.intended[s.current] and not s.ledger.mine[s.current]
    here = s.current
    b.card.next.click(); assert s.current != here
    b.card.previous.click(); assert s.current == here
    b.near.find.click(); assert len(b.near.strip.shown) == 5
    b.near.k.value = 3; assert len(b.near.strip.shown) == 3
    for kind in ("round", "generator", "side"):
        b.sides.kind.value = kind
        assert s.sides[0] == kind and len(s.shown[0]) == 2 and b.grid.heads[0].layout.display == "block"
        b.sides.b.value = b.sides.a.value
        assert s.sides[1] == s.sides[2]
    b.sides.kind.value = ""
    assert s.sides is None and b.grid.heads[0].layout.display == "none"
    cell.toggle.click()
    b.files.path.value = str(tmp_path / "d.csv")
    b.files.save.click(); b.files.load.click()
    assert "1 decisions of a person were read" in b.status.value
    assert b.last_error is None and b.picture().size[0] > 300


def test_every_control_has_a_text(show):
    b, seen = show(table(5)), 0
    def walk(w):
        nonlocal seen
        for child in getattr(w, "children", ()): walk(child)
        if hasattr(w, "description") and not hasattr(w, "bar_style") and type(w).__name__ not in ("HTML", "Label") and w.layout.display != "none":
            seen += 1
            hidden = any(w in (c.toggle, c.pick) and c.row < 0 for c in b.cells)
            assert w.description or hidden, w
    walk(b.view)
    assert seen > 40


def test_a_decision_does_not_pull_a_face_from_under_the_hand(show):
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
    assert not visible(b) and "No face fits these filters" in b.grid.note.value
    for press in (b.pages.next, b.bar.keep, b.bar.undo, b.card.next): press.click()
    assert b.last_error is None and b.picture().size[0] > 100
    empty = show(from_arrays(np.zeros((0, 8, 8), np.uint8), [], CLASSES))
    empty.pages.next.click()
    assert empty.last_error is None and "No face fits" in empty.grid.note.value and empty.picture() and len(empty.decision) == 0
    empty.card.keep.click()
    assert "No face is chosen" in str(empty.last_error) and "No face is chosen" in empty.status.value


def test_an_error_in_a_callback_is_shown_and_the_next_click_works(show):
    b = show(table(30))
    whole, b.state.go = b.state.go, lambda page: 1 / 0
    b.pages.next.click()
    assert isinstance(b.last_error, ZeroDivisionError) and "ZeroDivisionError" in b.status.value and "fer-error" in b.status.value
    b.state.go, b.last_error = whole, None
    b.pages.next.click()
    assert b.state.page == 2 and b.last_error is None and "Error" not in b.status.value


def test_names_are_text_and_not_markup(show):
    evil = "<img src=x onerror=alert(1)>"
    b = show(replace(table(4), classes=(evil, "b", "c"), reason=np.full(4, evil), ids=np.array([evil + str(i) for i in range(4)])))
    b.cells[0].pick.click()
    assert evil not in b.card.text.value + b.grid.note.value + b.bar.where.value + b.morph.note.value and b.last_error is None


def test_a_class_or_reason_may_have_any_name_and_a_round_any_number(show):
    b = show(replace(table(6), classes=("", "all", "c"), reason=np.array(["", "all", "", "", "", ""]), round=np.array([0, 0, 0, 0, 1, 1])))
    b.filters.round.value = 0
    assert len(b.state.list) == 4
    b.filters.reason.value = ""
    assert len(b.state.list) == 3 and b.last_error is None
    b.filters.label.value = "all"
    assert b.state.filters.label == "all"
