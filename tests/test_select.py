"From a look to an act: a person's decisions, or another rule, change a finished run without training a GAN."
import csv
import shutil

import numpy as np
import pytest
import torch
from run_files import metrics
from torch.utils.data import ConcatDataset, DataLoader

from fer_synth import cli
from fer_synth.data.load import load_images
from fer_synth.experiment.plan import selection_rule
from fer_synth.experiment.results import Run
from fer_synth.kept import KeptImages
from fer_synth.records import RunFolder
from fer_synth.selection.decisions import Decisions
from fer_synth.selection.pools import read_selection
from fer_synth.widgets.browser import ImageBrowser
from fer_synth.widgets.kit import recorded_copy, recorded_run
from fer_synth.widgets.tuner import ThresholdTuner

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def done(path) -> dict:
    "When each step ended."
    return {f.parent.name: f.stat().st_mtime_ns for f in (path / "steps").glob("*/step.json")}


def new_steps(path, was: dict) -> set[str]:
    "The names of the steps that were computed since then."
    return {folder[:-9] for folder, when in done(path).items() if was.get(folder) != when}


def drop_and_relabel(path) -> list[str]:
    "Drop two kept images of the last round, and give a third another class, in a browser; their ids."
    browser = ImageBrowser(path, threaded=False)
    table = browser.state.table
    rows = np.flatnonzero((table.round == 2) & table.recorded)[:3]
    browser.change(rows[:2], kept=False)
    browser.change(rows[2:], label=(table.intended[rows[2]] + 1) % len(table.classes))
    return table.ids[rows].tolist()


def test_decisions_are_saved_at_once_and_read_back(run):
    ids = drop_and_relabel(run)
    found = Decisions.load(run / "decisions.csv")
    assert found.columns["id"].tolist() == ids and found.kept.tolist() == [False, False, True]
    again = ImageBrowser(run, threaded=False)
    assert again.state.ledger.mine.sum() == 3 and "3 decisions" in again.status.value
    assert not again.state.ledger.done                     # undo ends where this browser was opened
    again.pick(int(np.flatnonzero(again.state.ledger.mine)[0]))
    again.clear()
    assert len(Decisions.load(run / "decisions.csv")) == 2
    again.back(again.state.ledger.undo(), "undo")
    assert len(Decisions.load(run / "decisions.csv")) == 3


def test_decisions_about_another_run_are_told_about_and_not_taken(run):
    drop_and_relabel(run)
    text = (run / "decisions.csv").read_text().splitlines()
    cells = text[1].split(",")
    cells[text[0].split(",").index("seed")] = "12345"
    (run / "decisions.csv").write_text("\n".join([text[0], ",".join(cells)]) + "\n")
    browser = ImageBrowser(run, threaded=False)
    assert "another seed" in browser.status.value and not browser.state.ledger.mine.any()
    before = metrics(run)
    assert cli.main(["select", str(run)]) == 2 and metrics(run) == before


def test_the_run_of_the_package_is_not_written_to():
    browser = ImageBrowser(recorded_run(), threaded=False)
    browser.change(np.array([0]), kept=not browser.state.ledger.kept[0])
    assert browser.last_error is None and not (recorded_run() / "decisions.csv").exists()


def test_a_run_folder_that_cannot_be_written_is_told_about_once(run, monkeypatch):
    browser = ImageBrowser(run, threaded=False)
    def refuse(self, path): raise OSError(30, "Read-only file system")
    monkeypatch.setattr(Decisions, "save", refuse)
    browser.change(np.array([0]), kept=not browser.state.ledger.kept[0])
    assert "Read-only" in browser.status.value and browser.homes[0] is None
    browser.change(np.array([1]), kept=not browser.state.ledger.kept[1])
    assert browser.state.ledger.mine.sum() == 2


def test_what_a_person_decided_counts_in_the_comparison_and_in_the_next_round(run, capsys):
    ids, before, was = drop_and_relabel(run), metrics(run), done(run)
    assert cli.main(["select", str(run)]) == 0
    assert "3 decisions of a person count in round 2" in capsys.readouterr().out
    assert new_steps(run, was) == {"select-2", "student-augmented-0", "student-augmented-1", "compare"}
    rows = read_selection(run / "selection.csv")
    mine = np.isin(rows["id"], ids)
    assert (rows["reason"][mine] == ["dropped by a person"] * 2 + ["kept by a person"]).all()
    assert (rows["label"][mine] != rows["intended"][mine]).tolist() == [False, False, True]
    after = metrics(run)
    kept = [sum(e["kept"] for e in m["selection"]["rounds"][1]["classes"].values()) for m in (before, after)]
    assert kept[1] == kept[0] - 2 and after["arms"]["real"] == before["arms"]["real"]
    assert "a person kept 0" in (run / "report.html").read_text()
    was = done(run)
    assert cli.main(["extend", str(run), "--rounds.count", "3"]) == 0
    folder, cfg = RunFolder.open(run)
    gan = Run.open(run).plan["gan-3"]
    assert gan.input("select").settings["decisions"] == cfg.decided[0].split(":")[1]
    assert not {"gan-1", "gan-2", "select-2"} & new_steps(run, was)


def test_another_rule_keeps_other_images_of_the_same_pool(run):
    before, was, config = metrics(run), done(run), RunFolder.open(run)[1]
    assert cli.main(["select", str(run), "--selection.threshold", "0.22"]) == 0
    cfg = RunFolder.open(run)[1]
    assert cfg.selection == config.selection and selection_rule(cfg, 2).threshold == 0.22
    now = metrics(run)["selection"]["rounds"]
    assert now[0] == before["selection"]["rounds"][0] and now[1] != before["selection"]["rounds"][1]
    assert cli.main(["select", str(run), "--selection.threshold", str(config.selection.threshold)]) == 0
    assert RunFolder.open(run)[1] == config
    again = metrics(run)
    assert {k: v for k, v in again.items() if k != "resources"} == {
        k: v for k, v in before.items() if k != "resources"}
    assert "gan-2" not in new_steps(run, was)


def test_a_rule_by_another_score_looks_at_the_pool_again(run):
    assert cli.main(["select", str(run), "--selection.score", "density", "--selection.threshold", "0.9"]) == 0
    rows = read_selection(run / "selection.csv")
    last = rows["round"] == 2
    kept = rows["decision"] == "kept"
    assert (last & kept).any() and (rows["density"][last & kept] >= 0.9).all()
    assert np.isnan(rows["density"][~last]).all()


@pytest.mark.parametrize("words, told", [
    ([], "Say which run first"), (["nowhere"], "nowhere"),
    (["RUN", "--selection.threshold", "2"], "between 0 and 1"),
    (["RUN", "--decisions", "no.csv"], "no.csv"), (["RUN", "--rule", "no.json"], "no.json")])
def test_wrong_words_change_nothing(run, words, told, capsys):
    before = (run / "config.json").read_bytes()
    assert cli.main(["select", *(str(run) if w == "RUN" else w for w in words)]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1 and (run / "config.json").read_bytes() == before


def test_kept_images_train_a_plain_loop_beside_real_ones(run):
    drop_and_relabel(run)
    assert cli.main(["select", str(run)]) == 0
    kept, found = KeptImages(run, transform=lambda image: image.float() / 255), Run.open(run)
    rows = read_selection(run / "selection.csv")
    last = rows["round"] == 2
    assert len(kept) == (last & (rows["decision"] == "kept")).sum()
    assert "dropped by a person" in rows["reason"]
    real = load_images(found.cfg.data)
    images, labels = real.part("train")
    mine = [(image, int(y)) for image, y in zip(torch.tensor(np.asarray(images)).float() / 255, labels)]
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(5))
    for x, y in DataLoader(ConcatDataset([mine, kept]), batch_size=64, shuffle=True):
        torch.nn.functional.cross_entropy(net(x), y).backward()
    assert net[1].weight.grad.abs().sum() > 0


def test_export_writes_what_counts_and_refuses_what_is_for_studies(run, tmp_path, capsys):
    ids = drop_and_relabel(run)
    assert cli.main(["select", str(run)]) == 0
    assert cli.main(["export", str(run), "--out", str(tmp_path / "kept"), "--licence", "Anybody's."]) == 0
    rows = list(csv.DictReader((tmp_path / "kept" / "images.csv").open()))
    names = {row["id"]: row for row in rows}
    assert not {*ids[:2]} & names.keys() and names[ids[2]]["class"] != names[ids[2]]["intended"]
    assert names[ids[2]]["file"].startswith(names[ids[2]]["class"] + "/")
    card = (tmp_path / "kept" / "README.md").read_text()
    assert "Anybody's." in card and "for 1 of them another one that a person chose" in card
    assert cli.main(["export", str(run), "--out", str(tmp_path / "more"), "--n", "7"]) == 2
    assert "--n is for studies" in capsys.readouterr().err and not (tmp_path / "more").exists()


def test_a_button_compares_with_the_tuned_rule(run):
    tuner, was = ThresholdTuner(run), done(run)
    tuner.state.move_all(0.22)
    tuner.compare.start()
    assert tuner.compare.wait(300) == 0 and tuner.status.value.count("Compared again") == 1
    assert new_steps(run, was) == {"select-2", "student-augmented-0", "student-augmented-1", "compare"}
    rule = selection_rule(RunFolder.open(run)[1], 2)
    assert set(rule.class_thresholds.values()) == {0.22}
    assert ThresholdTuner(run).decision.thresholds == tuner.decision.thresholds
    tuner.state.go_to(1)
    tuner.compare.button.click()
    assert "choose round 2" in str(tuner.last_error)


def test_buttons_that_cannot_work_say_why(run):
    browser = ImageBrowser(run, threaded=False)
    browser.files.compare.button.click()
    assert "Nothing was decided yet" in str(browser.last_error)
    fixed, arrays = ThresholdTuner(recorded_run()), ImageBrowser(browser.candidates, threaded=False)
    assert fixed.compare.button.disabled and "recorded_copy" in fixed.compare.line.value
    assert arrays.files.compare.button.disabled and "arrays" in arrays.files.compare.line.value


def test_the_recorded_run_has_a_copy_that_can_be_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    copy = recorded_copy()
    browser = ImageBrowser(copy, threaded=False)
    browser.change(np.arange(3), kept=~browser.state.ledger.kept[:3])
    assert recorded_copy() == copy and len(Decisions.load(copy / "decisions.csv")) == 3
    assert not ThresholdTuner(copy).compare.button.disabled
    plan = Run.open(copy)
    assert {plan.store.state(s) for s in plan.plan.of("gan")} == {"done"}
