"""The notebooks that people open, here and on Colab: a badge, an install cell that acts on Colab only, and
nothing heavy or private inside."""
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import browser
import numpy as np
import pytest
from PIL import Image
from records import make_records

from fer_synth.settings import UserError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for folder in ("explore", "results") for p in (ROOT / "nbs" / folder).glob("*.ipynb"))
EXPLORE = {"confusion", "inspect_images", "study", "tour", "tune_thresholds", "watch_training"}
COLAB = "https://colab.research.google.com/github/fer-synth/fer_synth/blob/main"
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def cells(path: Path, kind: str = "code") -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def code(text: str) -> str:
    "A cell's Python; magics and shell lines would not be."
    return "\n".join(line for line in text.splitlines() if not line.startswith("#|"))


def nodes(path: Path) -> list[ast.AST]:
    "Every node of the syntax trees of a notebook."
    return [node for text in cells(path) for node in ast.walk(ast.parse(code(text)))]


def test_the_notebooks_are_there():
    assert {p.stem for p in NOTEBOOKS if p.parent.name == "explore"} == EXPLORE


@each
def test_the_badge_leads_to_this_notebook(path):
    assert f"]({COLAB}/{path.relative_to(ROOT).as_posix()})" in cells(path, "markdown")[0]


@each
def test_the_first_cell_installs_on_colab_only(path, tmp_path):
    first = cells(path)[0]
    assert re.match(r"#\|\s*eval:\s*false\n", first), "the tests of the notebooks would run it"
    assert "pip install" in first and "fer-synth/fer_synth" in first
    upgrade = re.search(r"\s-U\b|--upgrade|--force-reinstall|==", first.replace('== "', ""))
    assert not upgrade, "an upgrade of ipywidgets leaves Colab's widgets blank"
    play = f"""
import sys, types
asked = []
class Shell:
    def system(self, command): asked.append(command)
def run(): exec(compile({code(first)!r}, "cell", "exec"), {{"get_ipython": Shell}})
run(); assert not asked, "it installs where this is not Colab"
sys.modules["google.colab"] = types.ModuleType("google.colab")
run(); assert len(asked) == 1 and asked[0].startswith("pip install "), asked
"""
    done = subprocess.run([sys.executable, "-I", "-c", play], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def roots(node: ast.AST) -> list[str]:
    "The top-level packages that an import statement names."
    if isinstance(node, ast.Import): return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom): return [(node.module or "").split(".")[0]]
    return []


@each
def test_cells_are_plain_python_and_import_what_colab_has(path):
    names = {name for node in nodes(path) for name in roots(node)}
    assert not names & {"nbdev", "fastcore", "execnb", "pytest", "nbformat", "ipyevents", "torchmetrics"}
    twice = [text for text in cells(path) if "plt." in text or "pyplot" in text]
    assert not twice, "figures are drawn without pyplot, or they appear twice"


@each
def test_size_and_widget_state(path):
    "Widget state would carry every picture of a page as base64."
    notebook = read(path)
    assert path.stat().st_size < 1 << 20
    assert not [part for part in (notebook, *notebook["cells"]) if "widgets" in part["metadata"]]
    counts = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [count for count in counts if count is not None], "run 'make prepare'"


@each
def test_a_picture_is_left_for_readers_without_a_kernel(path):
    "What a person sees on GitHub, in the documentation, or before the first cell has run."
    if path.stem == "study" and not (ROOT / "fer_synth" / "recorded" / "study").is_dir():
        pytest.skip("the package carries no study yet")
    assert "image/png" in json.dumps([cell.get("outputs", []) for cell in read(path)["cells"]])


def names_a_file(call: ast.Call) -> bool:
    return any(isinstance(arg, ast.Constant) and isinstance(arg.value, str) for arg in call.args)


@each
def test_nothing_saves_a_file_when_all_cells_run(path):
    "'Run All' and `make app` run every cell, `eval: false` or not; no file may be left beside the notebook."
    calls = [node for node in nodes(path) if isinstance(node, ast.Call)]
    methods = [call for call in calls if isinstance(call.func, ast.Attribute)]
    writers = [call for call in methods if call.func.attr in ("save", "savefig", "write_text", "to_csv")]
    assert not [ast.unparse(call) for call in writers if names_a_file(call)]


def run_cells(name: str, changes: dict, before: str = "") -> dict:
    """The names that are left when the cells of a notebook have run, up to one that holds `before`.

    `changes`: the beginning of a cell -> what runs in its place."""
    space = {}
    for text in cells(ROOT / "nbs" / "explore" / f"{name}.ipynb"):
        if re.match(r"#\|\s*eval:\s*false\n", text): continue
        if before and before in text: break
        begins = [start for start in changes if text.startswith(start)]
        exec(changes[begins[0]] if begins else text, space)
    return space


RUNS = {
    "three classes": {"classes": ("cat", "dog", "owl")},
    "two classes with odd names": {"classes": ("害怕", "a b/c")},
    "RGB": {"classes": ("cat", "dog", "owl"), "channels": 3, "source": "pets.zip", "per_class": True},
    "nothing kept": {"classes": ("cat", "dog"), "threshold": 1.0},
}


@pytest.fixture(scope="module", params=RUNS)
def other_run(request, tmp_path_factory) -> Path:
    "The records of a run that is not about drawn faces."
    return make_records(tmp_path_factory.mktemp("other") / "run", made=20, **RUNS[request.param])


@pytest.mark.parametrize("name", ["inspect_images", "tune_thresholds"])
def test_a_run_without_generated_images_is_one_sentence(tmp_path, name):
    run = make_records(tmp_path / "run", classes=("cat", "dog"), arms=("real",))
    with pytest.raises(UserError, match="holds no generated images yet; open a run that has selected some"):
        run_cells(name, {"run = ": f"run = {str(run)!r}"})


@pytest.mark.parametrize("name", sorted(EXPLORE - {"study", "tour"}))
def test_a_notebook_opens_any_run(other_run, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    left = run_cells(name, {"run = ": f"run = {str(other_run)!r}"}, before="= train_here(")
    assert left["run"] == str(other_run)
    if name == "inspect_images": assert 0 < len(left["mine"].candidates) == left["chosen"].sum()
    assert not list(tmp_path.iterdir())


BRIEF = """
from fer_synth.recipes import tiny_wgan_gp
recipe = tiny_wgan_gp()
data = replace(recipe.data, source="pets", channels=3, size=16)
cfg = replace(recipe, data=data, compare=replace(recipe.compare, seeds=1))
job = begin(cfg, "tour", show=False)
image_grid(first_of_each(job.real.images, job.real.labels), 12, zoom=2)
"""


def test_the_tour_leads_through_other_images(tmp_path, monkeypatch, capsys):
    "Three classes in colour, equally many of each; the training is cut short."
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "pets" / ("cat", "dog", "owl")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    left = run_cells("tour", {"recipe = ": BRIEF})
    assert list(left["metrics"]["classes"]) == ["cat", "dog", "owl"]
    assert "augmented - real" in capsys.readouterr().out


@pytest.mark.skipif(not browser.missing("jupyterlab"), reason="test_browser.py runs it in JupyterLab")
def test_the_tour_runs(tmp_path):
    "In a real kernel, where no browser can be driven; `make test` leaves it out of nbdev_test."
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    notebook = nbformat.read(ROOT / "nbs" / "explore" / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 10
    assert not list(tmp_path.iterdir())
