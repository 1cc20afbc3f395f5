"""What all tests share: one thread a process, tiny runs made once a session, and the order of the files.

`make test` has two workers. The tests of a file run one after the other in the same worker."""
import os
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")     # before PyTorch is imported; for child processes, too

import pytest
import run_files

# The files that take longest come first, so that no worker is left alone with one of them at the end.
LONGEST = ("test_browser", "test_report", "test_second_environment", "test_big_data", "test_study",
           "test_executors", "test_widget_monitor", "test_experiment", "test_plan", "test_processes",
           "test_study_page", "test_audit", "test_families", "test_generator_measures")


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "once: knows nothing of ipywidgets; not done again with version 7")


def pytest_collection_modifyitems(items) -> None:
    if version("ipywidgets").startswith("7"):
        again = [item for item in items if item.get_closest_marker("once")]
        for item in again: item.add_marker(pytest.mark.skip(reason="done with version 8"))
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    "Reports get no pictures, which take longer than a tiny run; test_report.py is about them."
    monkeypatch.setattr("fer_synth.report.draw_pictures", lambda records, folder: [])


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory) -> Path:
    "The folder of the shared runs, the same for all workers, and for the second environment's tests."
    if given := os.environ.get("FER_SHARED_RUNS"): return Path(given)
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared-runs"


@pytest.fixture(scope="session")
def shared_run(shared_runs):
    "A function from a name in `run_files.SHARED` to the folder of that run. Who changes it takes a copy."
    used = set()

    def get(name: str) -> Path:
        used.add(name)
        return run_files.made_once(shared_runs, name)

    yield get
    for name in used:
        assert not run_files.changes(shared_runs, name), f"a test wrote into the shared run {name}"


@pytest.fixture(scope="session")
def tiny_run(shared_run) -> Path:
    "A finished run of the recipe tiny_wgan_gp that nothing disturbed."
    return shared_run("tiny_wgan_gp")
