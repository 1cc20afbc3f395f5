"A study from its settings to its record: equal however it is computed, and no test row is learned from."
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from fer_synth import cli
from fer_synth.evaluation.statistics import read_answers
from fer_synth.experiment import studies
from fer_synth.experiment.arms import ARMS, Arm
from fer_synth.experiment.study_config import get_study
from fer_synth.experiment.study_plan import plan_study
from fer_synth.experiment.study_pools import StudyJob
from fer_synth.experiment.study_students import chosen_images, extra_images, real_images
from fer_synth.experiment.study_work import check_study_provenance, table_of
from fer_synth.experiment.work import trained_classifier
from fer_synth.records import RunFolder
from fer_synth.settings import UserError
from fer_synth.steps import Store
from fer_synth.training.classifier import predict

CONTROLS = ("placebo", "noise", "copies", "ceiling", "round-2", "round-2-control", "soft-searched")


def small(**changes):
    "A study of one share and few arms."
    return replace(get_study("tiny_study"), fractions=(0.5,), arms=("soft", "distilled"), **changes)


def record(folder) -> dict:
    "study.json without what depends on the moment and the machine."
    found = json.loads((folder / "study.json").read_text())
    return {name: value for name, value in found.items() if name not in ("costs", "made", "command")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A study with every kind of extra images, two seeds, half of the rows."
    own = {"alone": Arm(real=False, extra="generated"),
           "topped-up": Arm(extra="generated", balance="topped_up")}
    cfg = small(own=own)
    return studies.run_study(replace(cfg, arms=(*cfg.arms, "augmented", *CONTROLS, *own)),
                             tmp_path_factory.mktemp("study") / "whole", show=False)


@pytest.fixture(scope="module")
def study(finished):
    "Its settings, plan, images and a job to look into it."
    again = studies.reopen_study(finished, show=False)
    return again, again.plan(), StudyJob(again.cfg, again.store, again.images, "cpu", False)


def student_of(study, arm: str):
    "The first student of an arm, with what it learned from."
    again, plan, job = study
    step = next(s for key, s in table_of(plan.of("answer")[0]).items() if key[0] == arm)
    choices = again.cfg.all_arms()[0][arm]
    return step, real_images(job, step, choices), extra_images(job, step, choices)


def test_the_record_speaks_of_every_arm(finished):
    found = record(finished)
    assert set(found["arms"]) >= {"real", "balanced", "soft", "augmented", *CONTROLS, "alone"}
    assert {s["arm"] for s in found["scores"]} == set(found["arms"])
    twins = {name: arm["twin"] for name, arm in found["arms"].items()}
    assert twins["augmented"] == "balanced" and twins["soft-searched"] == "real" and twins["real"] is None
    roles = [found["arms"][name]["role"] for name in ("real", "soft", "ceiling")]
    assert roles == ["baseline", "generated", "control"]
    assert found["memorisation"]["planted"]["put"] > 0 and len(found["provenance"]) == 2 * 3
    assert {(r["round"], r["feedback"]) for r in found["rounds"]} == {(1, True), (2, True), (2, False)}
    assert all(c["steps"] == 16 for c in found["convergence"])
    table = (finished / "study.csv").read_text().splitlines()
    assert table[0] == "arm,fraction,seed,student,class,metric,value" and len(table) > 400


def test_exploring_leaves_the_test_rows_unread(finished, study, tmp_path, monkeypatch):
    images = study[0].images
    part = type(images).part
    def unread(self, split):
        assert split != "test", "a study that explores has read test rows"
        return part(self, split)
    cfg = replace(study[0].cfg, explore=True)
    begun = studies.begin_study(cfg, tmp_path / "look", (finished,), show=False)
    monkeypatch.setattr(type(images), "part", unread)
    folder = studies.finish_study(begun, studies.HERE)
    monkeypatch.undo()
    found, plan = record(folder), studies.reopen_study(folder, show=False).plan()
    answers = read_answers(folder / "answers" / "val-50.npz")
    assert not list(folder.rglob("test-*.npz")) and found["split"] == "val" and not found["robustness"]
    scores = {(s["arm"], s["metric"]): s["per_seed"] for s in found["scores"]}
    per_seed = scores["soft", "accuracy"]
    mine = answers.probs[answers.arms.index("soft"), :, 0].argmax(-1)
    np.testing.assert_allclose(per_seed, (mine == answers.y_true).mean(1))
    assert any("Test rows were not read" in warning for warning in found["warnings"])
    store = studies.reopen_study(folder, show=False).store
    assert all(store.note(step).get("reused_from") for step in plan.of("student"))


def test_what_controls_learn_from(study):
    images = study[0].images
    step, real, extra = student_of(study, "placebo")
    _, _, plain = student_of(study, "soft")
    assert (extra.images == plain.images).all() and (extra.labels != plain.labels).any()
    assert (np.bincount(extra.labels) == np.bincount(plain.labels)).all()

    _, real, copies = student_of(study, "copies")
    known = {image.tobytes(): label for image, label in zip(real.images, real.labels)}
    assert all(known[image.tobytes()] == label for image, label in zip(copies.images, copies.labels))

    step, real, held = student_of(study, "ceiling")
    train = {image.tobytes() for image in images.part("train")[0]}
    mine = {image.tobytes() for image in real.images}
    held = {image.tobytes() for image in held.images}
    assert held <= train and not held & mine and held | mine == train

    assert student_of(study, "noise")[2].images.std() > 70


def test_soft_labels_come_from_the_teacher_and_hard_ones_stay(study):
    step, real, extra = student_of(study, "soft")
    assert real.soft is None and extra.soft.shape == (len(extra), 5)
    np.testing.assert_allclose(extra.soft.sum(1), 1, atol=1e-5)
    _, taught, nothing = student_of(study, "distilled")
    assert nothing is None and (taught.soft[np.arange(len(taught)), taught.labels] >= 0.3 - 1e-6).all()


def test_soft_labels_of_two_teachers_are_the_mean_of_their_answers(finished, study, tmp_path):
    cfg = replace(study[0].cfg, teachers=2, arms=("distilled",), seeds=1)
    folder = studies.run_study(cfg, tmp_path / "two", reuse=(finished,), show=False)
    again = studies.reopen_study(folder, show=False)
    plan, job = again.plan(), StudyJob(again.cfg, again.store, again.images, "cpu", False)
    step, real, _ = student_of((again, plan, job), "distilled")
    cell, folders = job.job(step), [again.store.folder(s) for s in plan.of("teacher")]
    each = [predict(trained_classifier(f, cfg.teacher, cell.real), cell.real.images) for f in folders]
    assert len(each) == 2 and np.abs(each[0] - each[1]).max() > 0.01
    own = np.eye(5)[cell.real.labels]
    np.testing.assert_allclose(real.soft, 0.3 * own + 0.7 * np.mean(each, 0), atol=1e-5)


def test_topping_up_evens_the_classes(study):
    again, plan, job = study
    _, real, extra = student_of(study, "topped-up")
    lacking = real.counts.max() - real.counts
    assert (extra.counts <= lacking).all() and extra.counts.sum() > 0


def test_a_stopped_study_ends_with_the_same_numbers(tmp_path):
    cfg = small(seeds=1)
    whole = studies.run_study(cfg, tmp_path / "whole", show=False)
    stopped = studies.begin_study(cfg, tmp_path / "stopped", show=False)
    plan = stopped.plan()
    studies.compute(stopped, studies.up_to(plan.of("draw")[0]), studies.Executor())
    folder = studies.resume_study(tmp_path / "stopped", show=False)
    assert record(folder) == record(whole)


def test_all_students_go_on_until_they_are_finished(tmp_path, monkeypatch):
    "The first look finds students that still improve, the second none: a study of twice the steps comes out."
    looks = iter([3, 0])
    monkeypatch.setattr(studies, "marked_students", lambda study, plan: next(looks))
    cfg = small(seeds=1, until_converged=True)
    lengthened = record(studies.run_study(replace(cfg, steps=8), tmp_path / "lengthened", show=False))
    assert lengthened["steps"] == 16 and next(looks, "none") == "none"
    fresh = replace(cfg, steps=16, validations=2 * cfg.validations, until_converged=False)
    at_once = record(studies.run_study(fresh, tmp_path / "at-once", show=False))
    parts = "scores", "differences", "convergence"
    assert [at_once[part] for part in parts] == [lengthened[part] for part in parts]


def test_the_budget_is_not_lengthened_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "marked_students", lambda study, plan: 1)
    cfg = small(seeds=1, until_converged=True, longest=2.0)
    assert record(studies.run_study(replace(cfg, steps=4), tmp_path / "study", show=False))["steps"] == 8


def test_a_row_of_the_test_split_is_refused_by_name(finished, study, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(finished, copied)
    again, plan, _ = study
    job = StudyJob(again.cfg, Store(RunFolder(copied)), again.images, "cpu", False)
    answer = plan.of("answer")[0]
    check_study_provenance(job, answer)
    rows = job.store.folder(plan.of("rows")[0]).path / "hashes.npy"
    test = np.flatnonzero(again.images.split == "test")[0]
    np.save(rows, np.append(np.load(rows), again.images.hashes[test]))
    with pytest.raises(UserError, match=f"'{again.images.names[test]}' \\(test\\)"):
        check_study_provenance(job, answer)


def test_a_generator_of_other_rows_is_refused(finished, study, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(finished, copied)
    again, plan, _ = study
    job = StudyJob(again.cfg, Store(RunFolder(copied)), again.images, "cpu", False)
    path = job.store.folder(plan.of("draw")[0]).path / "provenance.json"
    lines = json.loads(path.read_text())
    path.write_text(json.dumps([{**line, "rows": "0" * 12} for line in lines]))
    with pytest.raises(UserError, match="none of this study's"):
        check_study_provenance(job, plan.of("answer")[0])


def test_an_arm_that_keeps_nothing_learns_as_its_twin_does(study, tmp_path):
    again, plan, job = study
    choice = plan.of("choose")[0]
    store = Store(RunFolder(tmp_path))
    for step in (choice, choice.input("draw")):
        shutil.copytree(again.store.folder(step).path, store.folder(step).path)
    nothing = {name: np.zeros(0, int) for name in ("index", "labels", "weights")}
    np.savez(store.folder(choice).path / "chosen.npz", **nothing)
    empty = StudyJob(again.cfg, store, again.images, "cpu", False)
    assert chosen_images(empty, choice, ARMS["soft"]) is None
    with pytest.raises(UserError, match="no generated image was kept"):
        chosen_images(empty, choice, ARMS["generated-alone"])


@pytest.mark.parametrize("words, told", [
    (["study"], "Say where to start"),
    (["study", "--recipe", "study_drwn32"], "did you mean 'study_drawn32'"),
    (["study", "--recipe", "tiny_study", "--arms", "sofd"], "did you mean 'soft'"),
    (["study", "--recipe", "tiny_study", "--arms", "soft[ratio=7]"], "ratio is 7"),
    (["study", "--recipe", "tiny_study", "--fractions", "1.5"], "fractions has 1.5"),
    (["study", "--recipe", "tiny_study", "--workers", "0"], "--workers is 0"),
    (["study", "--recipe", "tiny_study", "--arms", "ceiling", "--fractions", "1"], "needs held-back rows"),
    (["study", "--config", "missing.toml"], "missing.toml does not exist"),
    (["study", "--recipe", "tiny_study", "--gan.stepz", "3"], "did you mean '--gan.steps'"),
    (["resume", "nowhere"], "nowhere is not a run folder"),
])
def test_mistakes_on_the_command_line(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study", "--recipe", "tiny_study", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "student" in told and "In all about" in told and not list(tmp_path.iterdir())


def test_an_arm_more_takes_over_the_rest(finished, tmp_path):
    again, cfg = studies.open_study(finished)
    images = studies.reopen_study(finished, show=False).images
    plan = plan_study(replace(cfg, arms=(*cfg.arms, "mixup")), images)
    store = Store(RunFolder(finished))
    lacking = [s.kind for s in plan if store.state(s) != "done"]
    assert sorted(lacking) == ["answer", "student", "student"]
