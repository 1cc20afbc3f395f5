"The page of a run: complete, self-contained, honest about what is missing, and drawn from records alone."
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from records import FIVE, make_records

from fer_synth import report_pictures
from fer_synth.config import UserError
from fer_synth.figures import png
from fer_synth.report import make_report
from fer_synth.report_pictures import PICTURES, affordable, make_figures
from fer_synth.run_records import read_records
from fer_synth.words import pct, sentence, span


class Page(HTMLParser):
    "Collects what the tests ask about, and checks that every element is closed."
    VOID = {"meta", "link", "img", "source", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID: self.open.append(tag)

    def handle_endtag(self, tag): assert self.open.pop() == tag

    def handle_data(self, data): self.words.append(data)

    def all(self, tag): return [a for t, a in self.tags if t == tag]

    @property
    def text(self): return " ".join(" ".join(self.words).split())


def page_of(run): return Page(make_report(run).read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = make_records(tmp_path_factory.mktemp("report") / "run")
    make_report(path)
    return path


@pytest.fixture
def copy(run, tmp_path): return shutil.copytree(run, tmp_path / "run")


@pytest.fixture
def coarse(monkeypatch):
    "Draws every picture with a fifth of its pixels an inch, for tests of what is drawn rather than how fine."
    monkeypatch.setattr(report_pictures, "png", lambda fig, colours=0: png(fig, dpi=40))


def only(run, pattern):
    "The one file of a run folder that a pattern finds."
    path, = run.glob(pattern)
    return path


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_self_contained(run):
    text = (run / "report.html").read_text()
    page = Page(text)
    assert not {"script", "iframe", "object", "base", "form"} & {t for t, _ in page.tags}
    for tag, attrs in page.tags:
        for name in ("src", "srcset", "href", "poster", "data"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, name)
        assert not any(name.startswith("on") for name in attrs)
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    assert "url(" not in style and "@import" not in style
    assert len(text) < 2_600_000


def test_images_are_described_and_sized(run):
    images = Page((run / "report.html").read_text()).all("img")
    assert len(images) == len(PICTURES)
    assert all(a["alt"] and 100 < int(a["width"]) <= 900 and int(a["height"]) > 50 for a in images)


def test_numbers_of_the_records(run):
    text = Page((run / "report.html").read_text()).text
    metrics = json.loads((run / "metrics.json").read_text())
    answer = sentence(metrics["differences"], metrics["arms"], what="faces")
    assert answer.split(": ")[1].replace(" -", " −") in text
    for e in metrics["arms"].values():
        for name in ("accuracy", "macro_precision", "macro_recall", "macro_f1"):
            low, high = e["interval"][name]
            assert f"{pct(e['mean'][name])} [{pct(low)}, {pct(high)}]" in text
        assert all(pct(v) in text for v in e["mean"]["recall"].values()) and f"{e['mean']['nll']:.3f}" in text
    assert all(span(d) in text for d in metrics["differences"])
    assert all(w in text for w in metrics["selection"]["warnings"])
    assert "14 groups with 31 images; 4 of the groups reach across splits" in text


def test_same_records_same_page(run, copy):
    "Nothing but the records is needed, and they decide every byte."
    for name in ("kept.npy", "validation.npz", "selection.json"):      # what only a run that goes on needs
        for path in copy.glob(f"steps/*/{name}"): path.unlink()
    shutil.rmtree(copy / "figures")
    assert make_report(copy).read_bytes() == (run / "report.html").read_bytes()
    paths = sorted((copy / "figures").iterdir())
    assert all(p.read_bytes() == (run / "figures" / p.name).read_bytes() for p in paths)
    expected = {n + end for n in PICTURES for end in (".png", "-phone.png")}
    assert {p.name for p in paths} == expected      # nothing half-written stays behind
    for p in paths:
        if "recall" in p.name: continue
        with Image.open(p) as picture: assert picture.width == (1800 if "-phone" not in p.name else 720)


def test_images_are_enlarged_by_whole_pixels(run):
    "A generated image stands in the picture pixel for pixel, enlarged by a whole number."
    records = read_records(run)
    with Image.open(run / "figures" / "faces-generated.png") as f:
        sheet = np.asarray(f.convert("RGB"))[..., 0]
    image = records.samples[-1]["images"][0, 0, 0]
    big = image.repeat(6, 0).repeat(6, 1)
    starts = np.argwhere(sheet[:150, :60] == big[0, 0])
    assert any((sheet[y:y + 192, x:x + 192] == big).all() for y, x in starts)


@pytest.mark.parametrize("name", [
    "config.json", "env.json", "data.json", "plan.json", "steps/gan-1-*/stats.jsonl", "metrics.json",
    "predictions.npz", "selection.csv", "steps/pool-2-*/pool.npz", "steps/data-*/real.png"])
def test_missing_record(copy, name):
    (copy / "report.html").unlink()
    path = only(copy, name)
    path.unlink()
    with pytest.raises(UserError, match=re.escape(str(path.relative_to(copy)))): make_report(copy)
    assert not (copy / "report.html").exists()


@pytest.mark.parametrize("name", [
    "config.json", "env.json", "plan.json", "metrics.json", "predictions.npz", "steps/pool-2-*/pool.npz",
    "steps/gan-1-*/samples/000050.png"])
def test_damaged_record(copy, name):
    path = only(copy, name)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(UserError, match=re.escape(str(path.relative_to(copy)))): make_report(copy)


def test_not_a_run_folder(tmp_path):
    with pytest.raises(UserError, match="config.json"): make_report(tmp_path)
    with pytest.raises(UserError, match="config.json"): make_report(tmp_path / "nowhere")


def test_no_samples(copy):
    for p in copy.glob("steps/*/samples/*.png"): p.unlink()
    with pytest.raises(UserError, match="samples"): make_report(copy)


def test_a_run_that_is_not_finished_has_no_report(copy):
    "Also where the results of what it was before still lie there."
    edit(only(copy, "steps/compare-*/step.json"), lambda note: note.update(state="partial"))
    with pytest.raises(UserError, match="no compare yet; continue it with"): make_report(copy)


def test_what_came_from_another_run_is_said(copy, no_pictures):
    assert "taken from another run" not in page_of(copy).text
    for name in ("judge-0", "gan-1"):
        edit(only(copy, f"steps/{name}-*/step.json"), lambda note: note.update(reused_from="runs/<b>other"))
    assert "took there: judge-0, gan-1 from runs/<b>other." in page_of(copy).text


def test_records_of_two_runs(copy):
    def change(m): m["arms"]["augmented"]["confusion"][1][1] -= 1
    edit(copy / "metrics.json", change)
    with pytest.raises(UserError, match="does not agree"): make_report(copy)


def test_half_a_line_of_stats(copy, no_pictures):
    with open(only(copy, "steps/gan-2-*/stats.jsonl"), "a") as f: f.write('{"stage": "gan-2", "st')
    assert "All numbers" in page_of(copy).text


def test_hostile_names(tmp_path, coarse):
    "Class names and messages are text, whatever they look like, on the page and in the pictures."
    names = ("<b>x", "a&b\"'", "$\\frac{x}$", "_under-score", "é ß")
    page = page_of(make_records(tmp_path / "<i>run", classes=names, source="<script>alert(1)</script>.zip"))
    assert all(n in page.text for n in names) and "<script>alert(1)</script>.zip" in page.text
    assert not {"b", "i", "script"} & {t for t, _ in page.tags}


def test_one_round_without_balanced(tmp_path, coarse):
    page = page_of(make_records(tmp_path / "run", rounds=1, arms=("real", "augmented")))
    assert "augmented − real" in page.text and "Round 1" in page.text
    assert not any(words in page.text for words in ("− balanced", "classes are even", "Round 2"))
    assert len(page.all("img")) == len(PICTURES)


def test_without_augmented(tmp_path, coarse):
    page = page_of(make_records(tmp_path / "run", arms=("real", "balanced")))
    assert "Not asked" in page.text and "balanced − real" in page.text and "Kept and dropped" not in page.text
    assert len(page.all("img")) == 4


def test_classifier_alone(tmp_path, coarse):
    run = make_records(tmp_path / "run", arms=("real",), seeds=1)
    assert [p.name for p in make_figures(run)][::2] == ["training-curves.png", "confusion.png", "recall.png"]
    page = page_of(run)
    assert "Not asked" in page.text and "lost recall" not in page.text and len(page.all("img")) == 3


def test_nothing_kept(tmp_path, coarse):
    page = page_of(make_records(tmp_path / "run", threshold=1.0, rounds=1))
    assert "no generated faces were kept" in page.text and "Not shown" not in page.text
    assert "none of" in page.text                                   # the warnings with their advice


def test_many_rgb_classes(tmp_path):
    "Twelve classes in colour, a GAN for each: the page stays small, and every picture is there."
    names = tuple(f"emotion {i}" for i in range(12))
    large = {"channels": 3, "size": 48, "per_class": True}
    run = make_records(tmp_path / "run", classes=names, rounds=1, seeds=2, made=30, **large)
    records, page = read_records(run), page_of(run)
    assert records.samples[0]["images"].shape == (12, 8, 3, 48, 48)
    assert records.samples[-1]["when"] == "round 1\nstep 250"
    assert len(page.all("img")) == len(PICTURES) and (run / "report.html").stat().st_size < 2_600_000
    charts = sum(p.colours > 0 for p in PICTURES.values())
    assert len(page.all("source")) >= charts      # charts keep their form for phones


def test_real_faces_only_when_drawn(tmp_path, run):
    "Pictures of a data set that must not be published do not enter the page."
    assert read_records(run).real is not None
    other = make_records(tmp_path / "run", source="fer2013.zip", rounds=1)
    only(other, "steps/data-*/real.png").unlink()
    assert read_records(other).real is None and not PICTURES["faces-real"].needs(read_records(other))


def test_phone_pictures_give_way(run):
    files = list((run / "figures").glob("*.png"))
    wide = {p for p in files if not p.stem.endswith("-phone")}
    assert affordable(files, 0) == wide and affordable(files, 10 ** 9) == set(files)


def test_claims_need_five_seeds(tmp_path, no_pictures):
    few = make_records(tmp_path / "few", rounds=1)
    enough = make_records(tmp_path / "enough", rounds=1, seeds=5, gain=.6)
    assert "Fewer than five seeds" in page_of(few).text
    assert "Fewer than five seeds" not in page_of(enough).text


def test_command_repeats_the_run(run):
    "The command on the page is one that the command line understands, and gives the same config."
    cli = pytest.importorskip("fer_synth.cli")
    page = Page((run / "report.html").read_text())
    words = re.search(r"fer-synth run (--config \S+)", page.text)[1].split()
    words[1] = str(run.parent / words[1])
    assert cli.starting_config(words) == read_records(run).cfg
    assert FIVE == tuple(read_records(run).classes)


def test_a_report_on_leaves_does_not_speak_of_faces(tmp_path, coarse):
    "The texts speak of images unless the data are known to be faces."
    leaves = make_records(
        tmp_path / "leaves", classes=("oak", "birch"), source="leaves.zip", rounds=1, threshold=.99)
    text = make_report(leaves).read_text()
    described = " ".join(image["alt"] for image in Page(text).all("img"))
    for shown in (Page(text).text, described):
        assert "face" not in shown.lower() and "images" in shown
    assert "images kept" in Page(text).text              # the warnings of the selection are among them


def test_a_report_on_faces_speaks_of_faces(tmp_path, no_pictures):
    faces = make_records(tmp_path / "faces", source="fer2013.zip", rounds=1)
    assert "generated faces" in page_of(faces).text


def test_the_page_shows_the_measures_beside_their_reference_and_the_warnings_of_the_training(
        shared_run, tmp_path, no_pictures):
    path = shutil.copytree(shared_run("tiny_cgan"), tmp_path / "run")
    metrics = json.loads((path / "metrics.json").read_text())
    found = json.loads((path / "measures.json").read_text())
    warning = "gan-1, step 6: The generated faces are alike."
    (path / "metrics.json").write_text(json.dumps(metrics | {"training_warnings": [warning]}))
    page = make_report(path).read_text()
    assert "The generated faces are alike." in page and "How good the faces are" in page
    row = re.search(r"<t[hd][^>]*>Frechet distance</t[hd]>(.*?)</tr>", page, re.S)[1]
    shown = [float(v) for v in re.findall(r">([\d.]+) ±", row)]
    frechet = found["measures"]["frechet"]
    assert shown == pytest.approx([frechet["value"], frechet["real"]["value"]], rel=.2)
    (path / "measures.json").unlink()                     # an older run has none, and still gets its page
    assert "Frechet distance</t" not in make_report(path).read_text()
