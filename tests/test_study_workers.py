"A study computed by several processes, one of which is killed, ends as one that was computed by one process."
import json
import os
import signal
import threading
import time
from dataclasses import replace

import pytest

from fer_synth.experiment import studies
from fer_synth.experiment.study_config import get_study
from fer_synth.experiment.studies import Executor

distributed = pytest.importorskip("distributed")


def settings():
    "One seed of half of the rows: a dozen steps, some of which can be computed side by side."
    tiny = replace(get_study("tiny_study"), seeds=1, robust_images=0)
    return replace(tiny, fractions=(0.5,), arms=("soft", "ceiling"))


def results(folder) -> dict:
    "What a study has found, and the bytes of all answers; without time and machine."
    found = json.loads((folder / "study.json").read_text())
    found = {name: value for name, value in found.items() if name not in ("costs", "made", "command")}
    files = sorted((folder / "steps").glob("answer-*/*.npz"))
    return found | {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "The results of one process."
    return results(studies.run_study(settings(), tmp_path_factory.mktemp("alone") / "study", show=False))


def done(folder) -> int:
    "How many steps are finished."
    notes = [json.loads(path.read_text()) for path in folder.glob("steps/*/step.json")]
    return sum(note["state"] == "done" for note in notes)


def kill_after(folder, steps: int, pid) -> threading.Thread:
    "Kill the process that `pid()` names as soon as so many steps are finished."
    def wait_and_kill() -> None:
        while done(folder) < steps: time.sleep(0.02)
        os.kill(pid(), signal.SIGKILL)
    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def test_local_workers_give_the_same(alone, tmp_path):
    by = Executor(workers=2)
    assert results(studies.run_study(settings(), tmp_path / "study", by, show=False)) == alone


def test_a_dask_cluster_that_loses_a_worker_gives_the_same(alone, tmp_path):
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        worker = cluster.workers[0]
        killer = kill_after(tmp_path / "study", 5, lambda: worker.pid)
        by = Executor(scheduler=cluster.scheduler_address)
        folder = studies.run_study(settings(), tmp_path / "study", by, show=False)
        killer.join(10)
    assert not killer.is_alive() and results(folder) == alone


def test_a_worker_without_the_images_says_so(tmp_path):
    cfg = settings()
    with pytest.raises(studies.UserError, match="holds other images"):
        studies.find_images(cfg, "0" * 32)
    missing = replace(cfg, data=replace(cfg.data, source=str(tmp_path / "faces.zip")))
    with pytest.raises(studies.UserError, match="is not on this machine; name .* in FER_SYNTH_DATA"):
        studies.find_images(missing, "0" * 32)
