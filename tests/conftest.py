"""What all tests share: one thread a process, tiny runs made once a session, and groups of tests.

`make test` has two workers. The tests of a group run one after the other in the same worker; where nothing
else is said, a file is a group."""
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")     # before PyTorch is imported; for child processes, too

import pytest
import run_files

# The groups that take longest come first, so that no worker is left alone with one of them at the end.
LONGEST = ("browser", "test_report", "second environment", "test_big_data", "test_widget_monitor",
           "test_experiment", "test_plan", "processes")


def group(item) -> str:
    "The group that a test is marked with."
    mark = item.get_closest_marker("xdist_group")
    return mark.args[0] if mark.args else mark.kwargs["name"]


@pytest.hookimpl(tryfirst=True)      # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items) -> None:
    "A test without a group belongs to that of its file; groups are put in order."
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(Path(item.fspath).stem))
    place = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(group(item), len(LONGEST)))


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
