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
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fer_synth"
MIB = 1 << 20
NOT_OURS = {".git", ".venv", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis",
            ".ipynb_checkpoints", "runs", "build", "dist"}
GROUPS = tuple(f"{name}requirements" for name in ("", "lab_", "several_", "cluster_", "dev_"))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def listed_by_git() -> list[Path] | None:
    "Files that git knows or would add; None where this is no checkout."
    if not (ROOT / ".git").exists() or not shutil.which("git"): return None
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return None if done.returncode else [ROOT / name for name in done.stdout.split("\0") if name]


def is_ours(path: Path) -> bool:
    return not any(part in NOT_OURS or part.endswith(".egg-info") for part in path.relative_to(ROOT).parts)


@cache
def tracked() -> list[Path]:
    "Files that are, or on the next commit would be, in the repository."
    found = listed_by_git()
    if found is None: found = filter(is_ours, ROOT.rglob("*"))
    return sorted(path for path in found if path.is_file())


@cache
def notebooks() -> dict[Path, dict]:
    return {path: json.loads(read(path)) for path in tracked() if path.suffix == ".ipynb"}


def source(cell: dict) -> str:
    return "".join(cell["source"])


@cache
def rooms() -> dict[str, int]:
    "Number of each module, by its dotted name: {'config': 0, 'data.images': 11, ...}."
    found = {}
    for path in (ROOT / "nbs").glob("[0-9]*.ipynb"):
        number, name = path.stem.split("_", 1)
        first = next(source(c) for c in json.loads(read(path))["cells"] if "default_exp" in source(c))
        assert first.split()[-1] == name, f"{path.name} exports to {first.split()[-1]}; its name says {name}"
        found[name] = int(number)
    return found


@cache
def modules() -> dict[str, ast.Module]:
    "The parsed exported modules, by dotted name."
    paths = [path for path in PACKAGE.rglob("*.py") if path.name not in ("__init__.py", "_modidx.py")]
    dotted = {path: ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in paths}
    return {dotted[path]: ast.parse(read(path)) for path in paths}


def import_base(node: ast.ImportFrom, package: list[str]) -> str:
    "The absolute dotted name from which `from ... import` takes names, inside a package."
    above = package[:len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


def imported(name: str, tree: ast.Module) -> set[str]:
    "All that a module imports, anywhere in it, as absolute dotted names; `from a import b` gives a and a.b."
    package, found = ("fer_synth." + name).split(".")[:-1], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = import_base(node, package)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def test_the_repository_stays_small():
    sizes = {path: path.stat().st_size for path in tracked()}
    assert sizes, "no files were found to measure"
    assert sum(sizes.values()) < 30 * MIB
    run = {path for path in sizes if path.is_relative_to(PACKAGE / "recorded")}      # generator, judge, pools
    models = {path for path in sizes if path.is_relative_to(PACKAGE / "pretrained_models")}
    most = {path: 4 * MIB if path in run | models else MIB for path in sizes}
    assert not [f"{path}: {n} bytes" for path, n in sizes.items() if n > most[path]]
    assert sum(sizes[path] for path in run) < 10 * MIB and sum(sizes[path] for path in models) < 14 * MIB


def test_notebooks_hold_no_widget_state():
    "Widget state carries pictures as base64, and with them faces that may not be published."
    assert notebooks() and not [path.name for path, nb in notebooks().items() if "widgets" in nb["metadata"]]
    kind = "application/vnd.jupyter.widget-state" + "+json"
    assert not [path.name for path in notebooks() if kind in read(path)]


LOCAL_PATH = re.compile(rf"(?<![\w.}})>*])/({'|'.join(('work', 'home', 'root', 'Users'))})/\w")


def test_no_paths_of_one_machine():
    kinds = {".py", ".ipynb", ".md", ".txt", ".ini", ".toml", ".yml", ".csv", ".json", ".jsonl", ".html", ""}
    found = []
    for path in tracked():
        if path.suffix not in kinds: continue
        for number, line in enumerate(read(path).splitlines(), 1):
            hit = LOCAL_PATH.search(line)
            if hit and '"image/png"' not in line: found.append(f"{path}:{number}: {line[hit.start():][:60]}")
    assert not found


def test_the_search_for_local_paths_finds_one():
    assert LOCAL_PATH.search('open("' + "/wor" + 'k/data.zip")')
    assert not LOCAL_PATH.search("net" + "work/of")


@pytest.mark.parametrize("name", sorted(modules()))
def test_modules_do_not_need_the_tools_that_export_them(name):
    roots = {n.split(".")[0] for n in imported(name, modules()[name])}
    assert not roots & {"fastcore", "nbdev", "execnb", "nbformat", "nbconvert", "pytest"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_to_lower_rooms(name):
    number = rooms()
    assert name in number, f"fer_synth/{name.replace('.', '/')}.py comes from no notebook"
    others = {other.removeprefix("fer_synth.") for other in imported(name, modules()[name])}
    wrong = {other: number[other] for other in others & set(number) if number[other] >= number[name]}
    assert not wrong, f"{name} ({number[name]}) imports {wrong}"


def test_the_layer_test_sees_every_way_to_import():
    text = """
from . import cli
def f():
    from ..config import UserError
    import fer_synth.data.faces
    from fer_synth import report
"""
    found = imported("data.x", ast.parse(text))
    assert found >= {"fer_synth.data.cli", "fer_synth.config", "fer_synth.data.faces", "fer_synth.report"}


def test_rooms_have_numbers_of_their_own():
    assert len(set(rooms().values())) == len(rooms()) and set(rooms()) == set(modules())


def exported_cells(notebook: dict) -> list[str]:
    texts = [source(cell) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [text for text in texts if re.match(r"#\|\s*export", text)]


def test_export_cells_can_be_read_at_a_glance():
    long = []
    for path, notebook in notebooks().items():
        for lines in map(str.splitlines, exported_cells(notebook)):
            if len(lines) > 46: long.append(f"{path.name}: {lines[1][:60]} has {len(lines) - 1} lines")
    assert not long


def test_lines_fit_the_screen():
    "Ruff checks the notebooks; this is what becomes of them. nbdev writes the names of `__all__` itself."
    wide = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "_modidx.py": continue
        body = re.sub(r"^__all__ = \[.*?\]$", "", read(path), flags=re.S | re.M)
        wide += [f"{path}: {line}" for line in body.splitlines() if len(line) > 110]
    assert not wide


def public_names(tree: ast.Module) -> list[str]:
    "What stands in `__all__`."
    for node in tree.body:
        names = [getattr(target, "id", "") for target in node.targets] if isinstance(node, ast.Assign) else []
        if "__all__" in names: return ast.literal_eval(node.value)
    return []


@pytest.mark.parametrize("name", sorted(modules()))
def test_public_symbols_are_documented(name):
    tree = modules()[name]
    public = public_names(tree)
    symbols = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert not [node.name for node in symbols if node.name in public and not ast.get_docstring(node)]


def load_tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_is_made_from_the_index():
    pytest.importorskip("nbconvert")
    text = read(ROOT / "README.md")
    assert text == load_tool("readme").render(), "run 'make readme'"
    assert text.index("make demo") < text.index("make test") < text.index("\n## ")


def test_readme_links_lead_somewhere():
    pairs = re.findall(r"\]\(([^)#\s]+)|(?:src|href)=\"([^\"#]+)", read(ROOT / "README.md"))
    links = [link for pair in pairs for link in pair if link and "://" not in link]
    assert not [link for link in links if not (ROOT / link).exists()]


def test_make_targets_of_the_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.M))
    for name in ("README.md", ".github/CONTRIBUTING.md", ".ci/run"):
        assert set(re.findall(r"(?:`|^ *|\n)make ([a-z]+)", read(ROOT / name))) <= targets, name


def requirements() -> dict[str, list[Requirement]]:
    ini = configparser.ConfigParser(delimiters=["="], interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return {group: [Requirement(r) for r in ini["DEFAULT"][group].split()] for group in GROUPS}


def test_dependencies_are_declared_once():
    names = {r.name for group in requirements().values() for r in group} - {"setuptools"}
    assert {"torch", "nbdev", "jupyterlab"} <= names
    declaration = r"[\"']([A-Za-z][\w-]*)\s*(?:\[[\w,]*\])?\s*[<>=~!]=?[\d.]"
    for file in ("setup.py", "pyproject.toml", "Makefile", ".github/workflows/test.yml"):
        assert not names & set(re.findall(declaration, read(ROOT / file))), file


def test_the_package_runs_without_the_tools_that_build_it():
    tools = {"nbdev", "fastcore", "execnb", "jupyterlab", "pytest", "nbconvert", "ruff"}
    assert not {r.name for r in requirements()["requirements"]} & tools


def test_constraints_pin_every_requirement_and_nothing_else():
    lines = read(ROOT / "constraints.txt").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    other = [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line)]
    assert not other, "only exact versions, no addresses or options"
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    for r in (r for group in requirements().values() for r in group):
        assert r.specifier.contains(pins[r.name], prereleases=True), f"{r} excludes the pinned {pins[r.name]}"


def test_installed_metadata_comes_from_settings():
    command = [sys.executable, "setup.py", "--name", "--version"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    version = re.search(r"__version__ = \"(.+)\"", read(PACKAGE / "__init__.py"))[1]
    assert shown[-2:] == ["fer_synth", version]


def test_export_and_clean_leave_no_difference(tmp_path):
    "In a copy of the files that are, or would be, in the repository: none changes, none is new."
    commands = [Path(sys.executable).with_name(name) for name in ("nbdev_export", "nbdev_clean")]
    if not all(command.exists() for command in commands): pytest.skip("nbdev is not installed here")
    here = {path.relative_to(ROOT) for path in tracked()}
    for path in here:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    for command in commands:
        subprocess.run([command], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    there = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert there == here, "run 'make prepare' and commit what is new"
    changed = [str(path) for path in here if (ROOT / path).read_bytes() != (tmp_path / path).read_bytes()]
    assert not changed, "run 'make prepare'"


def test_ci_calls_the_test_command_of_readme():
    script = read(ROOT / ".ci/run")
    assert os.access(ROOT / ".ci/run", os.X_OK) and script.rstrip().endswith("\nmake test")
    workflow = read(ROOT / ".github/workflows/test.yml")
    assert "run: .ci/run" in workflow and all(v in workflow for v in ('"3.11"', '"3.12"', '"3.13"'))
