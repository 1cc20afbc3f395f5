"Families that turn images into images, have styles or read captions: each goes from data to report."
import csv
from dataclasses import replace

import numpy as np
import pytest
import run_files
from run_files import metrics, with_seeds

from fer_synth import cli, report
from fer_synth.data.load import load_images
from fer_synth.experiment import results, runs
from fer_synth.experiment.results import Run
from fer_synth.models.samplers import Request
from fer_synth.recipes import NEW_FAMILIES, get_recipe
from fer_synth.selection.pools import Pool, read_selection
from fer_synth.settings import UserError
from fer_synth.widgets.browser import ImageBrowser
from fer_synth.widgets.change import CaptionBox, ClassChanger, StyleMixer

FROM_IMAGES = ("stargan", "cyclegan", "pix2pix", "style_transfer")
SAME_CLASS = ("pix2pix", "style_transfer")


@pytest.fixture(scope="module", params=NEW_FAMILIES)
def finished(request, tmp_path_factory):
    "A tiny run of each family, with the images that it learned from."
    cfg = with_seeds(get_recipe(f"tiny_{request.param}"), 1)
    cfg = replace(cfg, rounds=replace(cfg.rounds, count=1))
    path = runs.run(cfg, tmp_path_factory.mktemp(request.param) / "run", show=False)
    return request.param, path, load_images(cfg.data)


def test_it_runs_from_data_to_report(finished, monkeypatch):
    monkeypatch.setattr(report, "draw_pictures", lambda run, folder: [])      # which takes longest
    family, path, images = finished
    assert Run.open(path).cfg.gan.family == family and "augmented" in metrics(path)["arms"]
    assert family in report.make_report(path).read_text()
    pool = Pool.load(run_files.pool(path, 1))
    assert set(pool.labels.tolist()) == set(range(5)) and pool.images.std() > 1


def test_sources_are_training_images_of_the_right_class(finished):
    family, path, images = finished
    pool = Pool.load(run_files.pool(path, 1))
    assert (pool.sources is not None) == (family in FROM_IMAGES)
    if pool.sources is None: return
    rows = {h: i for i, h in enumerate(images.hashes)}
    found = np.array([rows[h] for h in pool.sources])
    assert set(images.split[found]) == {"train"}
    assert ((images.labels[found] == pool.labels) == (family in SAME_CLASS)).all()


def test_an_image_follows_from_its_request(finished, tmp_path):
    path = finished[1]
    files = [results.generate(path, "sad", 4, tmp_path / name, device="cpu") for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    with open(files[0]) as file: assert len(list(csv.DictReader(file))) == 4


@pytest.mark.parametrize("words, told", [
    (("--gan.per-class",), "one network"), (("--gan.task", "colour"), "task")], ids=["per class", "task"])
def test_settings_that_make_no_sense_are_refused(words, told, tmp_path, capsys):

    family = "stargan" if "per" in words[0] else "pix2pix"
    try: status = cli.main(["run", "--recipe", f"tiny_{family}", "--out", str(tmp_path / "run"), *words])
    except SystemExit as stopped: status = stopped.code
    assert status and told in str(capsys.readouterr())
    assert not (tmp_path / "run").exists()


def test_captions_are_asked_for_where_there_are_none(tmp_path):
    cfg = get_recipe("tiny_caption")
    faces = load_images(cfg.data)
    replace(faces, captions=None).save(tmp_path / "faces.npz")
    with pytest.raises(UserError, match="reads captions"):
        runs.run(replace(cfg, data=replace(cfg.data, source=str(tmp_path / "faces.npz"))), tmp_path / "run",
                 show=False)


def test_a_pool_says_what_each_image_was_drawn_for(finished):
    family, path, images = finished
    pool, rows = Pool.load(run_files.pool(path, 1)), read_selection(path / "selection.csv")
    if family != "caption":
        assert pool.captions is None and "caption" not in rows
        return
    known = set(images.captions)
    assert set(pool.captions.tolist()) <= known and rows["caption"].tolist() == pool.captions.tolist()
    assert all(text.startswith(images.classes[c]) for text, c in zip(pool.captions, pool.labels))
    seed, text = pool.seeds[3], str(pool.captions[3])
    sampler = Run.open(path).drawings()[0].sampler
    again = sampler.draw(Request(pool.labels[3:4], np.array([seed]), captions=(text,)))
    np.testing.assert_array_equal(again[0], pool.images[3])      # seed and caption make it again


def test_a_slider_changes_the_class(finished):
    family, path, images = finished
    if family != "stargan":
        with pytest.raises(UserError, match="give one of 'stargan'"): ClassChanger(path)
        return
    changer = ClassChanger(path, n=4)
    shown, stays = changer.shown.value, changer.changed(0.0)
    changer.intensity.value = 1.5
    assert changer.shown.value != shown and not np.array_equal(changer.changed(1.5), stays)
    changer.number.value, changer.target.value = 2, "sad"
    assert changer.parts()[1][0] == f"{changer.classes[changer.labels[2]]} (real)"
    train = {image.tobytes() for image in images.part("train")[0]}
    assert all(image.tobytes() in train for image in changer.images)


def test_a_sentence_draws_images(finished):
    family, path, _ = finished
    if family != "caption":
        with pytest.raises(UserError, match="give one of 'caption'"): CaptionBox(path)
        return
    box = CaptionBox(path, n=3)
    before = box.shown.value
    box.text.value = "sad face, dark skin"
    assert box.shown.value != before and len(box.images) == 3 and box.last_error is None
    kept = box.shown.value
    box.text.value = "sad face, purple skin"
    assert "purple" in str(box.last_error) and box.shown.value == kept


def test_two_images_are_mixed(finished):
    family, path, _ = finished
    if family != "style":
        with pytest.raises(UserError, match="give one of 'style'"): StyleMixer(path)
        return
    mixer = StyleMixer(path)
    shown = mixer.shown.value
    mixer.seeds[1].value, mixer.labels[1].value = 7, "sad"
    assert mixer.shown.value != shown and mixer.last_error is None
    layout, texture, _ = mixer.parts()[0]
    mixer.start.value = 0
    assert np.array_equal(mixer.parts()[0][2], texture) and not np.array_equal(layout, texture)


def test_the_browser_says_what_a_morph_needs(finished):
    family, path, _ = finished
    browser = ImageBrowser(path, threaded=False)
    if family == "style":
        browser.morph.choose(a=0, b=1)
        assert len(browser.morph.mixes.strip.view.children) and browser.last_error is None
        return
    with pytest.raises(UserError, match="latent code"): browser.morph.choose(a=0)
