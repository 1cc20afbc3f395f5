"""The widgets with the versions of Colab: ipywidgets 7.7.1 and IPython 7.34.

A second environment holds these and what they need; the rest, PyTorch above all, it borrows from the
environment of this test. FER_SECOND_ENV names a folder that keeps it for the next time. What no widget takes
part in is not done again there: `once` marks such tests, and the runs are those that the other tests made."""
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from test_repository import ROOT, requirements

OLD = {"ipywidgets": "7.7.1", "ipython": "7.34.0", "ipykernel": "6.17.1"}
COLAB = {     # as published in August 2026, with Python 3.13
    **OLD, "torch": "2.11.0", "torchvision": "0.26.0", "numpy": "2.1.3", "scikit-learn": "1.6.1",
    "scipy": "1.16.3", "matplotlib": "3.10.0", "seaborn": "0.13.2", "safetensors": "0.8.0"}
PIP = (sys.executable, "-m", "pip", "--python")
QUIET = ("--no-input", "--disable-pip-version-check")
# ipywidgets 7 asks for widgetsnbextension 3, and that for the notebook server and all of JupyterLab; here no
# server is needed.
STEPS = (["ipython==7.34.0", "ipykernel==6.17.1", "ipython_genutils"],
         ["--no-deps", "ipywidgets==7.7.1", "widgetsnbextension==3.6.10"])
NO_INDEX = ("from versions: none", "NewConnectionError", "ConnectTimeout", "Max retries exceeded",
            "Temporary failure in name resolution")
EXPLORE = sorted((ROOT / "nbs" / "explore").glob("*.ipynb"))
CARRIED = {"study"} if (ROOT / "fer_synth" / "recorded" / "study").is_dir() else set()
NOTEBOOKS = [path for path in EXPLORE if path.stem not in {"study", "tour"} - CARRIED]   # the tour trains


def run_quietly(*command, **more) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, **more)


def install(python: Path, packages: list[str]) -> None:
    "Let pip put packages there; skip where it reaches no index."
    options = ("--quiet", "--retries", "1", "--timeout", "30")
    got = run_quietly(*PIP, python, "install", *QUIET, *options, *packages, timeout=600)
    if got.returncode and any(words in got.stderr for words in NO_INDEX):
        pytest.skip(f"pip reaches no package index here: {got.stderr.strip().splitlines()[-1][:200]}")
    assert got.returncode == 0, got.stderr


def borrow(python: Path) -> None:
    "Let the environment find this repository and the packages of this test's environment, after its own."
    ours = [str(ROOT), *dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))]
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    inside = run_quietly(python, "-c", ask, check=True).stdout.strip()
    (Path(inside) / "zz_borrowed.pth").write_text("\n".join(ours) + "\n")


def make(folder: Path) -> Path:
    "The second environment's python; made in seconds where pip has its packages at hand."
    python = folder / "bin" / "python"
    versions = "-".join(OLD.values())
    done = folder / f"ready-{sys.version_info[0]}.{sys.version_info[1]}-{versions}"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
        for packages in STEPS: install(python, packages)
        done.touch()
    borrow(python)
    return python


@pytest.fixture(scope="module")
def old_python(tmp_path_factory) -> Path:
    kept = os.environ.get("FER_SECOND_ENV")
    return make(Path(kept).absolute() if kept else tmp_path_factory.mktemp("second") / "env")


@pytest.fixture(scope="module")
def old(old_python, tmp_path_factory, shared_runs):
    "Runs that python with some arguments and gives the finished process."
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "VIRTUAL_ENV"))}
    env = {**inherited, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
           "IPYTHONDIR": str(tmp_path_factory.mktemp("home")), "FER_SHARED_RUNS": str(shared_runs)}
    return lambda *args, timeout=300: run_quietly(old_python, *args, cwd=ROOT, env=env, timeout=timeout)


VERSIONS = """
import json, ipywidgets, IPython, ipykernel, torch, fer_synth
packages = {"ipywidgets": ipywidgets, "ipython": IPython, "ipykernel": ipykernel}
versions = {name: package.__version__ for name, package in packages.items()}
print(json.dumps([versions, ipywidgets.__file__, fer_synth.__file__]))
"""


def test_the_versions_are_the_old_ones(old, old_python):
    got = old("-c", VERSIONS)
    assert got.returncode == 0, got.stderr
    found, widgets, ours = json.loads(got.stdout)
    assert found == OLD
    assert Path(ours).is_relative_to(ROOT) and Path(widgets).is_relative_to(old_python.parent.parent)


WIDGET_TESTS = """
import ipywidgets, IPython, sys, pytest
assert (ipywidgets.__version__, IPython.__version__) == ('7.7.1', '7.34.0')
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_widgets_behave_the_same(old):
    files = sorted(f"tests/{p.name}" for p in (ROOT / "tests").glob("test_widget_*.py"))
    assert files
    got = old("-c", WIDGET_TESTS, *files, "-q", "-x", "-p", "no:cacheprovider", timeout=900)
    assert got.returncode == 0, got.stdout[-4000:] + got.stderr[-2000:]
    assert re.search(r"\d+ passed", got.stdout)


LAST_CELL = """
import ipywidgets, IPython
from fer_synth.widgets.kit import Panel
panels = [value for value in list(globals().values()) if isinstance(value, Panel)]
print(ipywidgets.__version__, IPython.__version__, sorted({repr(panel.last_error) for panel in panels}))
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_explore_notebooks_run_in_a_kernel_of_colab(old_python, path, tmp_path):
    "A real kernel of IPython 7.34, without a front end: no cell fails, and each leaves its still picture."
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    argv = [str(old_python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    env = {"IPYTHONDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self): return KernelSpec(argv=argv, language="python", env=env)

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(LAST_CELL))
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_manager_class=Manager, timeout=300, resources=place).execute()
    assert notebook.cells[-1].outputs[0]["text"].strip() in ("7.7.1 7.34.0 ['None']", "7.7.1 7.34.0 []")
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output["data"] for cell in cells for output in cell.outputs if "data" in output]
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)
    assert any("image/png" in json.dumps(data) for data in shown)


HAD_THERE = [r for r in requirements()["requirements"] if r.name in COLAB]


@pytest.mark.parametrize("requirement", HAD_THERE, ids=str)
def test_installing_on_colab_changes_nothing_that_is_there(requirement):
    assert requirement.specifier.contains(COLAB[requirement.name])


def test_nothing_borrowed_is_at_odds_with_the_old_versions(old_python):
    "pip, asked for the runtime requirements in that environment, has nothing to do."
    wanted = [str(r) for r in requirements()["requirements"]]
    got = run_quietly(*PIP, old_python, "install", "--dry-run", *QUIET, "--no-deps", *wanted, timeout=300)
    assert got.returncode == 0 and "Would install" not in got.stdout, got.stdout + got.stderr
    others = [r for r in map(Requirement, wanted) if r.name in OLD]
    assert not [r for r in others if not r.specifier.contains(OLD[r.name])]
