"""The widgets with the versions of Colab: ipywidgets 7.7.1 and IPython 7.34. A second environment holds these and what they need; the rest,
PyTorch above all, it borrows from the environment of this test. FER_SECOND_ENV names a folder that keeps it for the next time."""
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
COLAB = {**OLD, "torch": "2.11.0", "torchvision": "0.26.0", "numpy": "2.1.3", "scikit-learn": "1.6.1", "scipy": "1.16.3", "matplotlib": "3.10.0",
         "seaborn": "0.13.2", "safetensors": "0.8.0"}     # as published in August 2026, with Python 3.13
# ipywidgets 7 asks for widgetsnbextension 3, which asks for the notebook server and all of JupyterLab; no test here needs a server.
STEPS = (["ipython==7.34.0", "ipykernel==6.17.1", "ipython_genutils"], ["--no-deps", "ipywidgets==7.7.1", "widgetsnbextension==3.6.10"])
NO_INDEX = r"from versions: none|NewConnectionError|ConnectTimeout|Temporary failure in name resolution|Max retries exceeded"
NOTEBOOKS = [p for p in sorted((ROOT / "nbs" / "explore").glob("*.ipynb")) if p.stem != "tour"]   # the tour trains, and shows no widget


def make(folder: Path) -> Path:
    "The second environment's python; made in seconds where pip has its packages at hand."
    python, done = folder / "bin" / "python", folder / f"ready-{sys.version_info[0]}.{sys.version_info[1]}-{'-'.join(OLD.values())}"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", folder], check=True)
        for step in STEPS:
            got = subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-input", "--disable-pip-version-check",
                                  "--retries", "1", "--timeout", "30", *step], capture_output=True, text=True, timeout=600)
            if got.returncode and re.search(NO_INDEX, got.stderr): pytest.skip(f"pip reaches no package index here: {got.stderr.strip().splitlines()[-1][:200]}")
            assert got.returncode == 0, got.stderr
        done.touch()
    ours = [str(ROOT), *dict.fromkeys(sysconfig.get_paths()[k] for k in ("purelib", "platlib"))]
    inside = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True).stdout.strip()
    (Path(inside) / "zz_borrowed.pth").write_text("\n".join(ours) + "\n")     # comes after the environment's own packages
    return python


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    "Runs that python with some arguments and gives the finished process."
    kept = os.environ.get("FER_SECOND_ENV")
    python = make(Path(kept).absolute() if kept else tmp_path_factory.mktemp("second") / "env")
    home = tmp_path_factory.mktemp("home")
    def run(*args, timeout=300):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "VIRTUAL_ENV"))}
        return subprocess.run([python, *args], cwd=ROOT, env={**env, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "IPYTHONDIR": str(home)},
                              capture_output=True, text=True, timeout=timeout)
    run.python = python
    return run


def test_the_versions_are_the_old_ones(old):
    got = old("-c", "import json, ipywidgets, IPython, ipykernel, torch, fer_synth; print(json.dumps({'ipywidgets': ipywidgets.__version__, "
                    "'ipython': IPython.__version__, 'ipykernel': ipykernel.__version__, 'where': [ipywidgets.__file__, fer_synth.__file__]}))")
    assert got.returncode == 0, got.stderr
    found = json.loads(got.stdout)
    where = found.pop("where")
    assert found == OLD and Path(where[1]).is_relative_to(ROOT) and Path(where[0]).is_relative_to(Path(old.python).parent.parent)


def test_widgets_behave_the_same(old):
    files = sorted(p.name for p in (ROOT / "tests").glob("test_widget_*.py"))
    if not files: pytest.skip("no tests of widgets are written yet")
    got = old("-c", "import ipywidgets, IPython, sys, pytest; assert (ipywidgets.__version__, IPython.__version__) == ('7.7.1', '7.34.0'); "
                    "sys.exit(pytest.main(sys.argv[1:]))", *[f"tests/{f}" for f in files], "-q", "-x", "-p", "no:cacheprovider", timeout=900)
    assert got.returncode == 0, got.stdout[-4000:] + got.stderr[-2000:]
    assert re.search(r"\d+ passed", got.stdout)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_explore_notebooks_run_in_a_kernel_of_colab(old, path, tmp_path):
    "A real kernel of IPython 7.34, without a front end: no cell fails, and each leaves its still picture."
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    class Manager(AsyncKernelManager):
        @property
        def kernel_spec(self): return KernelSpec(argv=[str(old.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python",
                                                 env={"IPYTHONDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"})
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(
        "import ipywidgets, IPython\nfrom fer_synth.widgets.kit import Panel\nprint(ipywidgets.__version__, IPython.__version__, "
        "sorted({repr(p.last_error) for p in list(globals().values()) if isinstance(p, Panel)}))"))
    nbclient.NotebookClient(notebook, kernel_manager_class=Manager, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert notebook.cells[-1].outputs[0]["text"].strip() in ("7.7.1 7.34.0 ['None']", "7.7.1 7.34.0 []")
    shown = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs if "data" in o]
    assert any("application/vnd.jupyter.widget-view+json" in o["data"] for o in shown) and any("image/png" in json.dumps(o["data"]) for o in shown)


@pytest.mark.parametrize("requirement", [r for r in requirements()["requirements"] if r.name in COLAB], ids=str)
def test_installing_on_colab_changes_nothing_that_is_there(requirement):
    assert requirement.specifier.contains(COLAB[requirement.name])


def test_nothing_borrowed_is_at_odds_with_the_old_versions(old):
    "pip, asked for the runtime requirements in that environment, has nothing to do."
    wanted = [str(r) for r in requirements()["requirements"]]
    got = subprocess.run([sys.executable, "-m", "pip", "--python", old.python, "install", "--dry-run", "--no-input", "--disable-pip-version-check", "--no-deps", *wanted],
                         capture_output=True, text=True, timeout=300)
    assert got.returncode == 0 and "Would install" not in got.stdout, got.stdout + got.stderr
    assert not [r for r in map(Requirement, wanted) if r.name in OLD and not r.specifier.contains(OLD[r.name])]
