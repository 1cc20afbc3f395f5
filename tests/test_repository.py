"What holds for the repository as a whole: its size, its layers, and what is generated from what."
import ast
import configparser
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fer_synth"
MIB = 1 << 20
NOT_OURS = {".git", ".venv", "__pycache__", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", "runs", "build", "dist"}


def tracked() -> list[Path]:
    "Files that are, or on the next commit would be, in the repository."
    git = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True) \
        if (ROOT / ".git").exists() and shutil.which("git") else None
    if git is not None and git.returncode == 0: found = [ROOT / name for name in git.stdout.split("\0") if name]
    else: found = [p for p in ROOT.rglob("*") if not any(part in NOT_OURS or part.endswith(".egg-info") for part in p.relative_to(ROOT).parts)]
    return sorted(p for p in found if p.is_file())


def notebooks() -> dict[Path, dict]:
    return {p: json.loads(p.read_text(encoding="utf-8")) for p in tracked() if p.suffix == ".ipynb"}


def source(cell: dict) -> str:
    return "".join(cell["source"])


def rooms() -> dict[str, int]:
    "Number of each module, by its dotted name: {'config': 0, 'data.images': 11, ...}."
    found = {}
    for path in (ROOT / "nbs").glob("[0-9]*.ipynb"):
        number, name = path.stem.split("_", 1)
        first = next(source(c) for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if "default_exp" in source(c))
        assert first.split()[-1] == name, f"{path.name} exports to {first.split()[-1]}; its name says {name}"
        found[name] = int(number)
    return found


def modules() -> dict[str, ast.Module]:
    "The parsed exported modules, by dotted name."
    return {str(p.relative_to(PACKAGE).with_suffix("")).replace(os.sep, "."): ast.parse(p.read_text(encoding="utf-8"))
            for p in PACKAGE.rglob("*.py") if p.name not in ("__init__.py", "_modidx.py")}


def imported(name: str, tree: ast.Module) -> set[str]:
    "Everything that a module imports, anywhere in it, as absolute dotted names; `from a import b` gives a and a.b."
    package, found = ("fer_synth." + name).split(".")[:-1], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[:len(package) - node.level + 1] if node.level else []) + ("." if node.level and node.module else "") + (node.module or "")
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def test_the_repository_stays_small():
    sizes = {p: p.stat().st_size for p in tracked()}
    assert sizes, "no files were found to measure"
    assert sum(sizes.values()) < 30 * MIB
    recorded = PACKAGE / "recorded"      # the run that the package carries: generator, judge, pools
    assert not [f"{p}: {n} bytes" for p, n in sizes.items() if n > (4 * MIB if p.is_relative_to(recorded) else MIB)]
    assert sum(n for p, n in sizes.items() if p.is_relative_to(recorded)) < 10 * MIB


def test_notebooks_hold_no_widget_state():
    "Widget state carries pictures as base64, and with them faces that may not be published."
    assert notebooks() and not [p.name for p, nb in notebooks().items() if "widgets" in nb["metadata"]]


def test_no_paths_of_one_machine():
    places = "|".join(("work", "home", "root", "Users"))
    local = re.compile(rf"(?<![\w.}})>*])/({places})/\w")
    text_kinds = {".py", ".ipynb", ".md", ".txt", ".ini", ".toml", ".yml", ".csv", ".json", ".jsonl", ".html", ""}
    found = []
    for path in (p for p in tracked() if p.suffix in text_kinds):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if '"image/png"' not in line and (hit := local.search(line)): found.append(f"{path.relative_to(ROOT)}:{number}: {line[hit.start():][:60]}")
    assert not found


def test_the_search_for_local_paths_finds_one():
    assert re.search(r"(?<![\w.})>*])/(work)/\w", 'open("' + "/wor" + 'k/data.zip")') and not re.search(r"(?<![\w.})>*])/(work)/\w", "net" + "work/of")


@pytest.mark.parametrize("name", sorted(modules()))
def test_modules_do_not_need_the_tools_that_export_them(name):
    roots = {n.split(".")[0] for n in imported(name, modules()[name])}
    assert not roots & {"fastcore", "nbdev", "execnb", "nbformat", "nbconvert", "pytest"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_to_lower_rooms(name):
    number = rooms()
    assert name in number, f"fer_synth/{name.replace('.', '/')}.py comes from no notebook"
    inside = {n.removeprefix("fer_synth.") for n in imported(name, modules()[name]) if n.startswith("fer_synth.")}
    assert not [f"{name} ({number[name]}) imports {other} ({number[other]})" for other in inside & set(number) if number[other] >= number[name]]


def test_the_layer_test_sees_every_way_to_import():
    tree = ast.parse("from . import cli\ndef f():\n    from ..config import UserError\n    import fer_synth.data.images\n    from fer_synth import report")
    assert imported("data.x", tree) >= {"fer_synth.data.cli", "fer_synth.config", "fer_synth.data.images", "fer_synth.report"}


def test_rooms_have_numbers_of_their_own():
    assert len(set(rooms().values())) == len(rooms()) and set(rooms()) == set(modules())


def test_export_cells_can_be_read_at_a_glance():
    long = [f"{p.name}: {source(c).splitlines()[1][:60]} has {source(c).count(chr(10))} lines" for p, nb in notebooks().items()
            for c in nb["cells"] if c["cell_type"] == "code" and re.match(r"#\|\s*export", source(c)) and source(c).count("\n") > 45]
    assert not long


def test_lines_fit_the_screen():
    wide = [f"{p.relative_to(ROOT)}:{i}" for p in PACKAGE.rglob("*.py") if p.name != "_modidx.py"
            for i, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1) if len(line) > 140]
    assert not wide


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_symbols_are_documented(name):
    tree = modules()[name]
    public = next((ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"), [])
    bare = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name in public and not ast.get_docstring(n)]
    assert not bare


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_is_made_from_the_index():
    pytest.importorskip("nbconvert")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text == load_tool("readme").render(), "run 'make readme'"
    assert text.index("make demo") < text.index("make test") < text.index("\n## ")


def test_readme_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)|(?:src|href)=\"([^\"#]+)", text)
    assert not [t for pair in links for t in pair if t and "://" not in t and not (ROOT / t).exists()]


def test_make_targets_of_the_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for name in ("README.md", ".github/CONTRIBUTING.md", ".ci/run"):
        assert set(re.findall(r"(?:`|^ *|\n)make ([a-z]+)", (ROOT / name).read_text())) <= targets, name


def requirements() -> dict[str, list[Requirement]]:
    ini = configparser.ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return {key: [Requirement(r) for r in ini["DEFAULT"][key].split()] for key in ("requirements", "lab_requirements", "several_requirements", "dev_requirements")}


def test_dependencies_are_declared_once():
    names = {r.name for group in requirements().values() for r in group} - {"setuptools"}
    assert {"torch", "nbdev", "jupyterlab"} <= names
    for file in ("setup.py", "pyproject.toml", "Makefile", ".github/workflows/test.yml"):
        declared = re.findall(r"[\"']([A-Za-z][\w-]*)\s*(?:\[[\w,]*\])?\s*[<>=~!]=?[\d.]", (ROOT / file).read_text())
        assert not names & set(declared), file


def test_the_package_runs_without_the_tools_that_build_it():
    assert not {r.name for r in requirements()["requirements"]} & {"nbdev", "fastcore", "execnb", "jupyterlab", "pytest", "nbconvert"}


def test_constraints_pin_every_requirement_and_nothing_else():
    lines = [l for l in (ROOT / "constraints.txt").read_text().splitlines() if l and not l.startswith("#")]
    assert not [l for l in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", l)], "only exact versions, no addresses or options"
    pins = dict(l.split("==") for l in lines)
    assert len(pins) == len(lines)
    for group in requirements().values():
        for r in group: assert r.specifier.contains(pins[r.name], prereleases=True), f"{r} excludes the pinned {pins[r.name]}"


def test_installed_metadata_comes_from_settings():
    shown = subprocess.run([sys.executable, "setup.py", "--name", "--version"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert shown[-2:] == ["fer_synth", re.search(r"__version__ = \"(.+)\"", (PACKAGE / "__init__.py").read_text())[1]]


def test_export_and_clean_leave_no_difference(tmp_path):
    tools = [Path(sys.executable).with_name(name) for name in ("nbdev_export", "nbdev_clean")]
    if not all(t.exists() for t in tools): pytest.skip("nbdev is not installed here")
    for path in tracked():
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for tool in tools: subprocess.run([tool], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    for folder, kind in (("fer_synth", "*.py"), ("nbs", "*.ipynb")):
        here = {p.relative_to(ROOT) for p in tracked() if p.is_relative_to(ROOT / folder) and p.match(kind)}
        there = {p.relative_to(tmp_path) for p in (tmp_path / folder).rglob(kind)}
        assert here == there
        assert not [str(p) for p in here if (ROOT / p).read_bytes() != (tmp_path / p).read_bytes()], "run 'make prepare'"


def test_ci_calls_the_test_command_of_readme():
    script = (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK) and script.rstrip().endswith("\nmake test")
    workflow = (ROOT / ".github/workflows/test.yml").read_text()
    assert "run: .ci/run" in workflow and all(v in workflow for v in ('"3.11"', '"3.12"', '"3.13"'))
