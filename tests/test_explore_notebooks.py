"The notebooks that people open, here and on Colab: a badge, an install cell that acts on Colab only, and nothing heavy or private inside."
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for folder in ("explore", "results") for p in (ROOT / "nbs" / folder).glob("*.ipynb"))
EXPLORE = {"confusion", "inspect_images", "tour", "tune_thresholds", "watch_training"}
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")


def cells(path: Path, kind: str = "code") -> list[str]:
    return ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def code(text: str) -> str:
    "A cell's Python; magics and shell lines would not be."
    return "\n".join(line for line in text.splitlines() if not line.startswith("#|"))


def test_the_notebooks_are_there():
    assert {p.stem for p in NOTEBOOKS if p.parent.name == "explore"} == EXPLORE


@each
def test_the_badge_leads_to_this_notebook(path):
    where = path.relative_to(ROOT).as_posix()
    assert f"](https://colab.research.google.com/github/fer-synth/fer_synth/blob/main/{where})" in cells(path, "markdown")[0]


@each
def test_the_first_cell_installs_on_colab_only(path, tmp_path):
    first = cells(path)[0]
    assert re.match(r"#\|\s*eval:\s*false\n", first), "the tests of the notebooks would run it"
    assert "pip install" in first and "fer-synth/fer_synth" in first
    assert not re.search(r"\s-U\b|--upgrade|--force-reinstall|==", first.replace('== "', "")), "an upgrade of ipywidgets leaves Colab's widgets blank"
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


@each
def test_cells_are_plain_python_and_import_what_colab_has(path):
    trees = [ast.parse(code(c)) for c in cells(path)]
    names = {n.split(".")[0] for t in trees for node in ast.walk(t) for n in (
        [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])}
    assert not names & {"nbdev", "fastcore", "execnb", "pytest", "nbformat", "ipyevents", "torchmetrics"}
    assert not [c for c in cells(path) if "plt." in c or "pyplot" in c], "figures are drawn without pyplot, or they appear twice"


@each
def test_size_and_widget_state(path):
    "Widget state would carry every picture of a page as base64."
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 1 << 20
    assert "widgets" not in notebook["metadata"] and not [c for c in notebook["cells"] if "widgets" in c["metadata"]]
    assert not [1 for c in notebook["cells"] if c["cell_type"] == "code" and c["execution_count"] is not None], "run 'make prepare'"


@each
def test_a_picture_is_left_for_readers_without_a_kernel(path):
    "What a person sees on GitHub, in the documentation, or before the first cell has run."
    shown = json.dumps([c.get("outputs", []) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]])
    assert "image/png" in shown


@each
def test_nothing_saves_a_file_when_all_cells_run(path):
    "'Run All' and `make app` run every cell, `eval: false` or not; they shall not leave files beside the notebook."
    calls = [n for c in cells(path) for n in ast.walk(ast.parse(code(c))) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    assert not [ast.unparse(n) for n in calls if n.func.attr in ("save", "savefig", "write_text", "to_csv")
                and any(isinstance(a, ast.Constant) and isinstance(a.value, str) for a in n.args)]
