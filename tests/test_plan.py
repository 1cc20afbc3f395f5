"""A run is a plan of steps with keys: what changed is computed, what did not is taken from where it is, and
the numbers are those of a run that did all of it."""
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import run_files
from run_files import metrics, with_seeds

from fer_synth import cli
from fer_synth.config import RunConfig, UserError
from fer_synth.experiment import runs
from fer_synth.experiment.plan import plan_run
from fer_synth.experiment.results import Run
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.records import RunFolder, Stopped
from fer_synth.training.warmup import WarmUp

TINY = tiny_wgan_gp()


def changed(cfg: RunConfig, group: str, **fields) -> RunConfig:
    "A config with other values in one of its groups."
    return replace(cfg, **{group: replace(getattr(cfg, group), **fields)})


def step_times(run: Path) -> dict[str, int]:
    "When each step of a run was finished, by the name of its folder."
    return {folder.name: (folder / "step.json").stat().st_mtime_ns for folder in run_files.step_folders(run)}


def computed(before: dict[str, int], run: Path) -> set[str]:
    "The steps that were computed since then."
    new = {folder for folder, time in step_times(run).items() if before.get(folder) != time}
    return {run_files.step_name(run / folder) for folder in new}


def assert_equal_runs(one: Path, two: Path) -> None:
    "Both have the same results."
    assert metrics(one) == metrics(two)
    for file in (run_files.selection, run_files.predictions):
        assert file(one).exists() == file(two).exists()
        if file(one).exists(): assert file(one).read_bytes() == file(two).read_bytes(), file.__name__
    assert (one / "measures.json").exists() == (two / "measures.json").exists()


# ---- what a change computes ------------------------------------------------------------------------

AFTER_GAN = {"pool-1", "select-1", "judge-1", "gan-2", "pool-2", "select-2", "measure"}
GROWN = {
    "one more seed": (
        with_seeds(TINY, 1), {"student-real-1", "student-balanced-1", "student-augmented-1"}),
    "one more arm": (
        changed(TINY, "compare", arms=("real", "augmented")), {"student-balanced-0", "student-balanced-1"}),
    "the arm of the generated images": (
        changed(TINY, "compare", arms=("real", "balanced")),
        {"judge-0", "yardstick", "warmup-1", "gan-1", *AFTER_GAN,
         "student-augmented-0", "student-augmented-1"}),
}


@pytest.mark.parametrize("case", GROWN)
def test_a_finished_run_grows(tiny_run, tmp_path, case):
    "A smaller run, made from the steps of the tiny one, grows to it; the tiny one is the fresh run."
    before, new = GROWN[case]
    run = runs.run(before, tmp_path / "run", show=False, reuse=[tiny_run])
    was = step_times(run)
    runs.extend(run, TINY, show=False)
    assert computed(was, run) == {*new, "compare"}
    assert_equal_runs(run, tiny_run)
    assert run_files.same_weights(run, tiny_run)


def test_another_threshold_computes_pools_and_what_follows(tiny_run, tmp_path):
    "To the tiny recipe's threshold, from another one."
    other = with_seeds(changed(TINY, "selection", threshold=.3), 1)
    run = runs.run(other, tmp_path / "run", show=False, reuse=[tiny_run])
    was = step_times(run)
    runs.extend(run, TINY, show=False)
    students = {"student-augmented-0", "student-real-1", "student-balanced-1", "student-augmented-1"}
    assert computed(was, run) == AFTER_GAN | students | {"compare"}
    assert_equal_runs(run, tiny_run)


def test_another_classifier_computes_all_that_learn_from_it(tiny_run, tmp_path):
    """Of real images alone, so that it takes a second; no result of the run before stays at the top.
    The yardstick depends on the images alone, and stays."""
    cfg = changed(with_seeds(TINY, 1), "compare", arms=("real", "balanced"))
    cfg = changed(cfg, "clf", batch=48)
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    was = step_times(run)
    runs.extend(run, cfg, show=False)
    assert computed(was, run) == {"student-real-0", "student-balanced-0", "compare"}
    assert_equal_runs(run, runs.run(cfg, tmp_path / "fresh", show=False))
    assert not run_files.selection(run).exists()
    keys = {step.key for step in plan_run(TINY, facts=RunFolder(tiny_run).read("data.json"))}
    plan = plan_run(changed(TINY, "clf", batch=48), facts=RunFolder(tiny_run).read("data.json"))
    assert [step.name for step in plan if step.key in keys] == ["data", "yardstick"]


def test_a_run_grows_and_shrinks_without_computing_anything_twice(tiny_run, tmp_path):
    "One seed less and back: only the comparison is new, and the last way back finds even that."
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    was = step_times(run)
    runs.extend(run, with_seeds(TINY, 1), show=False)
    assert computed(was, run) == {"compare"} and metrics(run) != metrics(tiny_run)
    was = step_times(run)
    runs.extend(run, TINY, show=False)
    assert not computed(was, run)
    assert_equal_runs(run, tiny_run)


@pytest.mark.parametrize("cfg", [
    changed(TINY, "gan", log_every=1),
    changed(TINY, "gan", sample_every=1),
    changed(TINY, "gan", checkpoint_every=1),
    replace(TINY, threads=2),
    replace(TINY, device="cpu"),
    replace(TINY, recipe="mine"),
], ids=["log_every", "sample_every", "checkpoint_every", "threads", "device", "recipe"])
def test_what_no_result_depends_on_changes_no_key(tiny_run, tmp_path, cfg):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    was = step_times(run)
    runs.extend(run, cfg, show=False)
    assert not computed(was, run) and RunFolder.open(run)[1] == cfg
    assert_equal_runs(run, tiny_run)


def test_more_steps_retrain_the_gan_and_what_follows(tiny_run, tmp_path):
    "Not the judge, not the warm-up, and no student of real images."
    cfg = changed(with_seeds(TINY, 1), "gan", steps=7)
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    was = step_times(run)
    runs.extend(run, cfg, show=False)
    assert computed(was, run) == {"gan-1", *AFTER_GAN, "student-augmented-0", "compare"}
    assert_equal_runs(run, runs.run(cfg, tmp_path / "fresh", show=False))


def test_the_images_of_a_run_cannot_be_changed(tiny_run):
    other = changed(TINY, "data", difficulty=.1)
    with pytest.raises(UserError, match="settings of the data"): runs.extend(tiny_run, other, show=False)


# ---- steps of other runs ---------------------------------------------------------------------------

WORDS = ("run", "--recipe", "tiny_wgan_gp", "--reuse")


def test_the_command_line_takes_judge_and_gan_from_another_run(tiny_run, tmp_path, monkeypatch, capsys):
    "One that came as far as the first GAN; the rest is computed, and ends in the same numbers."
    other, out = tmp_path / "other", tmp_path / "run"
    begun = ("data", "judge-0", "yardstick", "warmup-1", "gan-1")
    (other / "steps").mkdir(parents=True)
    shutil.copy(tiny_run / "config.json", other)
    for name in begun:
        folder = run_files.step_folder(tiny_run, name)
        shutil.copytree(folder, other / "steps" / folder.name)
    monkeypatch.setattr("fer_synth.report.make_report", lambda folder: folder / "report.html")
    assert cli.main([*WORDS, str(other), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[1] for line in lines if line.startswith("done")) == begun
    assert cli.main([*WORDS, str(other), "--out", str(out)]) == 0
    run = Run.open(out)
    notes = {step.name: run.store.note(step) for step in run.plan}
    found = {name: note["reused_from"] for name, note in notes.items() if "reused_from" in note}
    assert found == dict.fromkeys(begun, str(other))
    assert_equal_runs(out, tiny_run)
    assert run_files.same_weights(out, tiny_run)


def test_another_run_that_is_none_is_refused(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main([*WORDS, str(tmp_path / "nothing"), "--out", str(out)]) == 2
    assert "nothing is not a run folder" in capsys.readouterr().err and not out.exists()


# ---- folders that are not what they were -----------------------------------------------------------

@pytest.fixture
def spoilt(tiny_run, tmp_path) -> Path:
    "A copy of the tiny run with a bit of the first judge turned, and no comparison."
    run = Path(shutil.copytree(tiny_run, tmp_path / "spoilt"))
    file = run_files.checkpoint(run, "judge-0")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    shutil.rmtree(run_files.step_folder(run, "compare"))
    return run


def test_a_changed_file_of_a_finished_step_is_named(spoilt, tmp_path):
    file = run_files.checkpoint(spoilt, "judge-0")
    words = f"{file} is not what it was when this step was finished; delete {file.parent} "
    with pytest.raises(UserError, match=words): runs.resume(spoilt, show=False)
    with pytest.raises(UserError, match=words):
        runs.run(with_seeds(TINY, 1), tmp_path / "run", show=False, reuse=[spoilt])
    file.unlink()
    with pytest.raises(UserError, match=words): runs.resume(spoilt, show=False)


def test_a_step_whose_folder_is_deleted_is_computed_again(spoilt, tiny_run):
    "As the message says; what follows from it has its key already, and stays."
    was = step_times(spoilt)
    shutil.rmtree(run_files.step_folder(spoilt, "judge-0"))
    runs.resume(spoilt, show=False)
    assert computed(was, spoilt) == {"judge-0", "compare"}
    assert_equal_runs(spoilt, tiny_run)
    assert run_files.same_weights(spoilt, tiny_run)


@pytest.mark.parametrize("words", [
    ("resume", "old"), ("extend", "old", "--compare.seeds", "5"), ("report", "old"), ("measure", "old"),
    ("generate", "old", "--class", "happy", "--out", "images"),
    ("run", "--recipe", "tiny_wgan_gp", "--reuse", "old", "--out", "new"),
], ids=lambda words: words[0])
def test_a_run_folder_of_an_earlier_version_is_refused_in_a_sentence(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    for name in ("checkpoints", "pool", "samples"): Path("old", name).mkdir(parents=True)
    Path("old/config.json").write_text('{"gan": {"family": "cgan", "augment_strength": 0.3}}')
    Path("old/stats.jsonl").write_text('{"stage": "judge-0", "step": 7, "seconds": 1.0}\n')
    assert cli.main(list(words)) == 2
    said = capsys.readouterr().err
    assert "old was written by an earlier version of fer_synth" in said and said.count("\n") == 1
    assert sorted(os.listdir()) == ["old"]


# ---- Ctrl-C ----------------------------------------------------------------------------------------

def test_ctrl_c_in_the_warm_up_saves_first(tiny_run, tmp_path, monkeypatch, capsys):
    "Long before a checkpoint is due; the resumed run equals one that was never stopped."
    out, real, interrupted = tmp_path / "run", WarmUp.update, []

    def update(self, step, i):
        if step == 3 and not interrupted:
            interrupted.append(step)
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, step, i)

    monkeypatch.setattr(WarmUp, "update", update)
    words = ["run", "--recipe", "tiny_wgan_gp", "--gan.checkpoint-every", "1000", "--out", str(out)]
    assert cli.main(words) == 130
    assert f"fer-synth resume {out}" in capsys.readouterr().err
    run = Run.open(out)
    states = [run.store.state(run.plan[name]) for name in ("judge-0", "warmup-1", "gan-1")]
    assert states == ["done", "partial", "to do"]
    assert run.store.folder(run.plan["warmup-1"]).load(notes_only=True)[1]["step"] == 4
    runs.resume(out, show=False)
    assert_equal_runs(out, tiny_run)
    assert run_files.same_weights(out, tiny_run)
    assert run_files.stats(out) == run_files.stats(tiny_run)


def test_a_second_ctrl_c_does_not_wait(tmp_path, monkeypatch):
    "And what was saved before is there."
    out, before = tmp_path / "run", signal.getsignal(signal.SIGINT)     # ignored in a job of the background

    def update(self, step, i):
        for _ in range(2): os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second Ctrl-C was not heard")

    monkeypatch.setattr(WarmUp, "update", update)
    with pytest.raises(KeyboardInterrupt) as caught: runs.run(TINY, out, show=False)
    assert not isinstance(caught.value, Stopped)
    run = Run.open(out)
    assert [run.store.state(run.plan[name]) for name in ("judge-0", "warmup-1")] == ["done", "partial"]
    assert signal.getsignal(signal.SIGINT) is before


# ---- a dry run -------------------------------------------------------------------------------------

def test_a_dry_run_prints_all_steps_and_writes_nothing(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--recipe", "tiny_wgan_gp", "--dry-run"]) == 0
    *lines, end = capsys.readouterr().out.splitlines()
    plan = Run.open(tiny_run).plan
    assert [line[8:].split()[0] for line in lines] == [step.name for step in plan]
    assert all(step.title in line for step, line in zip(plan, lines))
    assert end.startswith(f"{len(plan)} steps, {len(plan)} to do") and not os.listdir()


@pytest.mark.parametrize("words", [("extend", "RUN", "--dry-run"),
                                   ("run", "--recipe", "tiny_wgan_gp", "--reuse", "RUN", "--dry-run")])
def test_after_a_run_there_is_nothing_to_do(tiny_run, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(tiny_run) if word == "RUN" else word for word in words]) == 0
    assert " 0 to do" in capsys.readouterr().out.splitlines()[-1] and not os.listdir()


def test_a_dry_run_of_a_change_tells_what_is_new(tiny_run, capsys):
    assert cli.main(["extend", str(tiny_run), "--compare.seeds", "3", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    new = [line.split()[2] for line in lines if line.startswith("to do")]
    assert new == ["student-real-2", "student-balanced-2", "student-augmented-2", "compare"]
