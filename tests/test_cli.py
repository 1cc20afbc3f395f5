"The command line from outside: what it calls, what it prints, and how it ends."
import dataclasses
import errno
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fer_synth
from fer_synth import cli
from fer_synth.config import RunConfig, UserError, diff_config, save_config
from fer_synth.recipes import RECIPES, get_recipe
from fer_synth.selection.rules import SelectionRule

TINY = ("--recipe", "tiny_wgan_gp")


@pytest.fixture
def rooms(monkeypatch, tmp_path):
    "Stand-ins for the rooms that train and draw; `calls` is what they were asked."
    calls = []

    def note(name, answer):
        def called(*args, **named):
            calls.append((name, *args, *(v for v in named.values() if v not in (None, ()))))
            return answer(*args)
        return called

    fakes = {
        "experiment.runs": {
            "run": note("run", lambda cfg, out: out),
            "resume": note("resume", lambda out: out),
            "extend": note("extend", lambda out, cfg: out),
            "baseline": note("baseline", lambda cfg, n, out: ("a table", out)),
            "dry_run": note("dry_run", lambda cfg, out=None, reuse=(): "a plan"),
        },
        "experiment.results": {
            "generate": note("generate", lambda run, name, n, out: out),
            "measure": note("measure", lambda run, n, cas: "a table"),
        },
        "experiment.studies": {"is_study": lambda folder: False},
        "report": {"make_report": note("make_report", lambda run: run / "report.html")},
        "data.load": {"load_images": note("load_images", lambda cfg: "images")},
        "data.images": {"describe": note("describe", lambda images: "facts")},
    }
    for name, members in fakes.items(): replace_module(monkeypatch, name, members)
    monkeypatch.chdir(tmp_path)
    return types.SimpleNamespace(calls=calls, runs=sys.modules["fer_synth.experiment.runs"])


def replace_module(monkeypatch, name: str, members: dict) -> None:
    "Put a stand-in in the place of a module, and of the package that it is in."
    *above, last = name.split(".")
    module = types.ModuleType("fer_synth." + name)
    module.__dict__.update(members)
    package = fer_synth
    for part in above:
        full = f"fer_synth.{part}"
        if type(sys.modules.get(full)) is not Package: monkeypatch.setitem(sys.modules, full, Package(full))
        package = sys.modules[full]
    monkeypatch.setitem(sys.modules, "fer_synth." + name, module)
    monkeypatch.setattr(package, last, module, raising=False)


class Package(types.ModuleType):
    "A stand-in for a package."


def shell(*words, **more):
    "Run the command in a process of its own."
    command = [sys.executable, "-c", "import sys; from fer_synth.cli import main; sys.exit(main())", *words]
    quiet = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL}
    return subprocess.run(command, timeout=120, **quiet, **more)


def changed(recipe: str, cfg: RunConfig) -> dict:
    "The fields in which a config differs from a recipe, with their new values."
    return {name: new for name, (_, new) in diff_config(get_recipe(recipe), cfg).items()}


def is_one_sentence(text: str) -> bool:
    if not text.startswith("fer-synth: ") or text.count("\n") != 1: return False
    return len(text) > 25 and not re.search(r"Traceback|[│╭─]|\?\.$", text)


def test_run_changes_the_named_fields_of_the_recipe_only(rooms, capsys):
    words = ["--seed", "3", "--data", "faces.zip", "--data.size=24", "--gan.per-class", "--skip-bad"]
    assert cli.main(["run", *TINY, *words, "--out", "here"]) == 0
    name, cfg, out = rooms.calls[0]
    assert name == "run" and out == Path("here") and type(cfg) is RunConfig
    assert changed("tiny_wgan_gp", cfg) == {
        "seed": 3, "data.source": "faces.zip", "data.size": 24, "data.skip_bad": True, "gan.per_class": True}
    assert rooms.calls[1] == ("make_report", Path("here"))
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {Path('here') / 'report.html'}"


def test_a_rule_is_passed_on(rooms):
    assert cli.main(["run", *TINY, "--out", "here", "--rule", "mine.json"]) == 0
    assert rooms.calls[0][2:] == (Path("here"), Path("mine.json"))


@pytest.mark.parametrize("file, part", [("none.json", "none.json"), ("rule.json", "cross")])
def test_a_rule_that_does_not_fit_leaves_one_sentence_alone(tmp_path, monkeypatch, capsys, file, part):
    monkeypatch.chdir(tmp_path)
    SelectionRule(score="confidence", thresholds={"angry": .5, "cross": .5}).save("rule.json")
    assert cli.main(["run", *TINY, "--out", "here", "--rule", file]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and part in said and not Path("here").exists(), said


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_without_options_is_the_recipe(rooms, recipe):
    assert cli.main(["run", "--recipe", recipe]) == 0
    assert rooms.calls[0][1] == get_recipe(recipe)
    assert re.fullmatch(rf"runs.{recipe}-\d{{8}}-\d{{6}}", str(rooms.calls[0][2]))


def another(dotted: str, value):
    "Another valid value of a field than `value`; None where it is neither a number nor a switch."
    if dotted == "data.size": return 48
    if dotted == "data.channels": return 3
    if isinstance(value, bool): return not value
    if isinstance(value, int): return value * 2 + 3
    if not isinstance(value, float): return None
    if value > 1: return value + 1.5
    return 0.25 if value != 0.25 else 0.125


def test_every_field_can_be_given_and_arrives(rooms):
    "Each option with a value that differs from the recipe's; what arrives must hold all of them."
    start, words, wanted = get_recipe("tiny_wgan_gp"), [], {}
    for group in (f.name for f in dataclasses.fields(RunConfig)):
        part = getattr(start, group)
        if not dataclasses.is_dataclass(part): continue
        for name in [f.name for f in dataclasses.fields(part)]:
            dotted, value = f"{group}.{name}", getattr(part, name)
            new, option = another(dotted, value), "--" + dotted.replace("_", "-")
            if new is None: continue
            wanted[dotted] = new
            if isinstance(value, bool): words.append(option if new else option.replace(".", ".no-"))
            else: words += [option, str(new)]
    assert cli.main(["run", *TINY, *words]) == 0
    assert changed("tiny_wgan_gp", rooms.calls[0][1]) == wanted


def test_a_saved_config_is_a_start(rooms, tmp_path):
    cfg = dataclasses.replace(get_recipe("tiny_wgan_gp"), seed=7)
    save_config(cfg, tmp_path / "c.json")
    assert cli.main(["run", "--config", "c.json", "--threads", "9"]) == 0
    assert rooms.calls[0][1] == dataclasses.replace(cfg, threads=9)


def test_lists_and_thresholds_by_class(rooms):
    words = ["--data.classes", "happy", "sad", "--selection.class-thresholds", "happy", "0.9", "sad", "0.4"]
    assert cli.main(["run", *TINY, *words]) == 0
    cfg = rooms.calls[0][1]
    assert cfg.data.classes == ("happy", "sad") and cfg.selection.class_thresholds == {"happy": .9, "sad": .4}


def test_the_other_commands_call_one_function_each(rooms, capsys):
    assert cli.main(["demo", "--threads", "9"]) == 0
    assert changed("wgan_gp_drawn32", rooms.calls[0][1]) == {"threads": 9}
    assert cli.main(["generate", "r", "--class", "happy", "--n", "5", "--out", "o"]) == 0
    for words in (["report", "r"], ["resume", "r"], ["resume", "r", "--slower", "0.5"]):
        assert cli.main(words) == 0
    r = Path("r")
    report = "make_report", r
    assert rooms.calls[2:] == [
        ("generate", r, "happy", 5, Path("o")), report, ("resume", r, 1.0), report, ("resume", r, .5), report]
    rooms.calls.clear()
    capsys.readouterr()
    assert cli.main(["data", "--data", "faces.zip", "--skip-bad"]) == 0
    assert rooms.calls[0][1].source == "faces.zip" and rooms.calls[0][1].skip_bad
    assert rooms.calls[1] == ("describe", "images")
    words = ["--recipe", "wgan_gp_fer32", "--data", "f.zip", "--seeds", "4", "--clf.epochs", "2.5"]
    assert cli.main(["baseline", *words]) == 0
    assert changed("wgan_gp_fer32", rooms.calls[2][1]) == {"data.source": "f.zip", "clf.epochs": 2.5}
    assert rooms.calls[2][2] == 4 and rooms.calls[2][3].name.startswith("baseline-")
    assert capsys.readouterr().out.startswith("facts\na table\n")


def test_measure_prints_its_table(rooms, capsys):
    assert cli.main(["measure", "r", "--n", "50", "--no-cas"]) == 0
    assert rooms.calls == [("measure", Path("r"), 50, False)]
    assert capsys.readouterr().out == f"a table\nWritten: {Path('r') / 'measures.json'}\n"


def saved_run(**changes) -> RunConfig:
    "A run folder that has only begun; its config."
    cfg = dataclasses.replace(get_recipe("tiny_wgan_gp"), **changes)
    Path("r/steps").mkdir(parents=True)
    save_config(cfg, "r/config.json")
    return cfg


def test_extend_changes_the_named_fields_of_the_run_only(rooms):
    cfg = saved_run(seed=7)
    words = ["--compare.seeds", "5", "--selection.threshold", "0.4", "--reuse", "other"]
    assert cli.main(["extend", "r", *words]) == 0
    name, folder, new, reuse = rooms.calls[0]
    assert (name, folder, reuse) == ("extend", Path("r"), (Path("other"),))
    assert {field: value for field, (_, value) in diff_config(cfg, new).items()} == {
        "compare.seeds": 5, "selection.threshold": .4}
    assert rooms.calls[1] == ("make_report", Path("r"))


def test_a_dry_run_prints_the_plan_and_runs_nothing(rooms, capsys):
    cfg = saved_run()
    assert cli.main(["run", *TINY, "--dry-run", "--reuse", "a", "b"]) == 0
    assert cli.main(["extend", "r", "--dry-run"]) == 0
    assert rooms.calls == [("dry_run", cfg, (Path("a"), Path("b"))), ("dry_run", cfg, Path("r"), ())]
    assert capsys.readouterr().out == "a plan\na plan\n" and os.listdir() == ["r"]


BAD = {
    "unknown command": (["trian"], "'trian'"),
    "unknown recipe": (["run", "--recipe", "tiny_wgan"], "did you mean 'tiny_wgan_gp'?"),
    "no recipe": (["run", "--gan.steps", "3"], "--recipe"),
    "recipe without a name": (["run", "--recipe"], "--recipe needs a value"),
    "recipe and config": (["run", *TINY, "--config", "c.json"], "one of them"),
    "missing config file": (["run", "--config", "c.json"], "c.json does not exist"),
    "unknown field": (["run", *TINY, "--gan.stepz", "9"], "did you mean '--gan.steps'?"),
    "unknown field with equals": (["run", *TINY, "--gan.stepz=9"], "did you mean '--gan.steps'?"),
    "unknown field of another command": (["data", "--gan.steps", "9"], "'--gan.steps'"),
    "word out of place": (["run", *TINY, "faces.zip"], "'faces.zip'"),
    "letters for a number": (["run", *TINY, "--gan.steps", "many"], "'many' is not a whole number"),
    "letters for a fraction": (["run", *TINY, "--clf.lr", "fast"], "'fast' is not a number"),
    "no value": (["run", *TINY, "--gan.steps"], "--gan.steps"),
    "unknown choice": (["run", *TINY, "--clf.arch", "vgg"], "'small_resnet'"),
    "out of range": (["run", *TINY, "--data.size", "20"], "data.size is 20"),
    "negative seeds": (["baseline", "--seeds", "0"], "--seeds is 0"),
    "no class": (["generate", "r", "--out", "o"], "--class"),
    "no faces": (["generate", "r", "--class", "happy", "--n", "0", "--out", "o"], "--n is 0"),
    "no run folder": (["resume"], "RUN"),
    "no run to extend": (["extend", "--compare.seeds", "5"], "which run first"),
    "extend what is no run": (["extend", "r"], "r is not a run folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_words_end_in_one_sentence_and_call_nothing(rooms, capsys, case):
    words, part = BAD[case]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert is_one_sentence(said.err) and part in said.err and not said.out
    assert not rooms.calls and not os.listdir()


def test_the_sentence_of_a_room_is_passed_on(rooms, capsys, monkeypatch):
    def fails(*args, **more): raise UserError("faces.zip does not exist;\n give the path of a folder.")
    monkeypatch.setattr(rooms.runs, "run", fails)
    assert cli.main(["run", *TINY]) == 2
    assert capsys.readouterr().err == "fer-synth: faces.zip does not exist; give the path of a folder.\n"


def test_a_bug_keeps_its_traceback(rooms, monkeypatch):
    def fails(*args, **more): raise ValueError("a bug")
    monkeypatch.setattr(rooms.runs, "run", fails)
    with pytest.raises(ValueError, match="a bug"): cli.main(["run", *TINY])


def stops(error, begun):
    def run(cfg, out, **more):
        if begun:
            out.mkdir(parents=True)
            save_config(cfg, out / "config.json")
        raise error
    return run


@pytest.mark.parametrize("begun", [True, False])
def test_ctrl_c_names_the_command_that_goes_on(rooms, capsys, monkeypatch, begun):
    monkeypatch.setattr(rooms.runs, "run", stops(KeyboardInterrupt(), begun))
    assert cli.main(["run", *TINY, "--out", "a b"]) == 130
    said = capsys.readouterr().err
    assert is_one_sentence(said) and ("fer-synth resume 'a b'" in said) == begun


FULL = (OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"))


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_one_sentence(rooms, capsys, monkeypatch, error):
    monkeypatch.setattr(rooms.runs, "run", stops(error, True))
    assert cli.main(["run", *TINY, "--out", "r"]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and "No room left" in said and "fer-synth resume r" in said


MEMORY = (MemoryError(),
          RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
          RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has 3 GiB free."),
          RuntimeError("MPS backend out of memory (MPS allocated: 8.02 GB)"),
          OSError(errno.ENOMEM, "Cannot allocate memory"))


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("error", MEMORY, ids=range(len(MEMORY)))
def test_a_full_memory_is_one_sentence(rooms, capsys, monkeypatch, error, begun):
    monkeypatch.setattr(rooms.runs, "run", stops(error, begun))
    assert cli.main(["run", *TINY, "--out", "r"]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and "Not enough memory" in said and "gan.batch" in said
    assert said.endswith("continue it with: fer-synth resume r\n" if begun else "nothing was written yet.\n")


PATHS = (PermissionError(errno.EACCES, "Permission denied", "locked/r"),
         OSError(errno.EROFS, "Read-only file system", "locked/r"),
         OSError(errno.ENAMETOOLONG, "File name too long", "locked/r"),
         OSError(errno.EIO, "Input/output error", "locked/r"),
         FileNotFoundError(errno.ENOENT, "No such file or directory", "locked/r"),
         NotADirectoryError(errno.ENOTDIR, "Not a directory", "locked/r"))


@pytest.mark.parametrize("error", PATHS, ids=lambda error: error.strerror)
def test_a_path_that_the_system_refuses_is_one_sentence(rooms, capsys, monkeypatch, error):
    monkeypatch.setattr(rooms.runs, "run", stops(error, False))
    assert cli.main(["run", *TINY, "--out", "locked/r"]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and said.startswith(f"fer-synth: locked/r: {error.strerror}; ")


def test_an_error_of_the_system_without_a_path(rooms, capsys, monkeypatch):
    monkeypatch.setattr(rooms.runs, "run", stops(OSError(errno.EMFILE, "Too many open files"), False))
    assert cli.main(["run", *TINY]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and "Too many open files" in said


@pytest.mark.parametrize("out, part", [
    ("file", "file exists already; give another --out.\n"),
    ("file/r", "file/r cannot be made (Not a directory); give another --out.\n"),
    (".", ". exists already; give another --out.\n"),
    ("begun", "begun exists already; give another --out, or continue it with: fer-synth resume begun\n"),
    ("a" * 300, "File name too long; choose another path.\n"),
])
def test_an_out_that_cannot_be_made(tmp_path, monkeypatch, capsys, out, part):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("begun").mkdir()
    Path("begun/config.json").write_text("{}")
    assert cli.main(["run", *TINY, "--out", out]) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and said.endswith(part)
    assert Path("file").read_text() == "mine" and sorted(os.listdir()) == ["begun", "file"]


def field_comments(kind) -> dict[str, str]:
    "The comment behind each field of a dataclass, or in the lines above it."
    found, above = {}, []
    for line in inspect.getsource(kind).splitlines():
        if comment := re.match(r"    # (.*)$", line):
            above.append(comment[1])
            continue
        field = re.match(r"    (\w+):.*?(?:  # (.*))?$", line)
        text = field and (field[2] or " ".join(above))
        if text: found[field[1]] = text
        above = []
    return found


def comments(kind) -> dict[str, str]:
    "The help of each option of a dataclass and of its groups: a comment, or what the field declares."
    found = {}
    for base in reversed(kind.__mro__[:-1]):
        found |= {"--" + name.replace("_", "-"): text for name, text in field_comments(base).items()}
    for name in cli.HIDDEN: found.pop(f"--{name}", None)
    for f in dataclasses.fields(kind):
        declared = [note.help for note in getattr(f.type, "__metadata__", ()) if getattr(note, "help", None)]
        if declared: found["--" + f.name.replace("_", "-")] = declared[0]
        if dataclasses.is_dataclass(f.default_factory):
            found |= {f"--{f.name}.{o[2:]}": t for o, t in comments(f.default_factory).items()}
    return found


@pytest.mark.parametrize("command, kind, positional", [
    ("run", cli.RunOptions, ()),
    ("demo", cli.RunOptions, ()),
    ("data", cli.DataOptions, ()),
    ("baseline", cli.BaselineOptions, ()),
    ("generate", cli.GenerateOptions, ("--run",)),
    ("report", cli.FolderOptions, ("--run",)),
    ("resume", cli.ResumeOptions, ("--run",)),
    ("extend", cli.ExtendOptions, ("--run",)),
    ("measure", cli.MeasureOptions, ("--run",)),
])
def test_help_explains_every_option_by_its_comment(capsys, command, kind, positional):
    assert cli.main([command, "--help"]) == 0
    shown = " ".join(re.sub(r"[│╭╰╮╯─|]", " ", capsys.readouterr().out).split())
    expected = comments(kind)
    assert cli.COMMANDS[command].__doc__ in shown
    for option, text in expected.items():
        assert " ".join(text.split()) in shown, option
        assert option in positional or option == "--class-name" or option in shown, option
    assert set(cli.option_names(kind)) == set(expected), "an option has no comment, and so no help"


def test_the_recipes_named_in_the_help_are_those_that_exist():
    assert set(re.findall(r"\w+_\w+", comments(cli.RunOptions)["--recipe"])) == set(RECIPES)


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    assert set(re.findall(r"^  ([\w-]+)", capsys.readouterr().out, re.M)) == set(cli.COMMANDS)
    assert cli.main([]) == 0 and cli.main(["--version"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(fer_synth.__version__)


def test_help_does_not_wait_for_pytorch():
    code = ("import sys; from fer_synth.cli import main; status = main(['run', '--help']); "
            "sys.exit(status or 'torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_exit_status_of_the_process(tmp_path):
    bad = shell("run", *TINY, "--gan.stepz", "3", cwd=tmp_path)
    assert bad.returncode == 2 and is_one_sentence(bad.stderr) and not bad.stdout
    good = shell("--version")
    assert good.returncode == 0 and good.stdout == fer_synth.__version__ + "\n" and not good.stderr


@pytest.mark.parametrize("words", [
    ("data", "--data", "no/such/faces.zip"),
    ("run", *TINY, "--data", "no/such/faces.zip", "--out", "r"),
    ("resume", "no/such/run"),
    ("report", "no/such/run"),
    ("generate", "no/such/run", "--class", "happy", "--out", "g"),
])
def test_a_missing_path_is_named_and_nothing_is_left_behind(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(list(words)) == 2
    said = capsys.readouterr().err
    assert is_one_sentence(said) and "no/such" in said
    assert not os.listdir()


def played(body: str, words=("data",), **more):
    "Run the command in a process of its own, with another body of `data`."
    code = f"import sys\nfrom fer_synth import cli\ndef data(args):\n{body}\ncli.COMMANDS['data'] = data\n" \
           "sys.exit(cli.main())"
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run([sys.executable, "-c", code, *words], text=True, timeout=120, **pipes | more)


ASCII = {**os.environ, "PYTHONIOENCODING": "ascii"}


def test_a_terminal_without_the_letters_of_a_name():
    done = played("    print('害怕 größer')", env=ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\u5bb3\\u6015 gr\\xf6\\xdfer\n", "")
    done = played("    raise cli.UserError('害怕 is no class.')", env=ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "fer-synth: \\u5bb3\\u6015 is no class.\n")
    assert played("    print(b'\\xff.png'.decode(errors='surrogateescape'))").stdout == "\\udcff.png\n"


NOISE = """
    import logging, os, warnings
    from fer_synth.settings import Advice
    warnings.warn("Corrupt EXIF data.")
    warnings.warn("old", FutureWarning)
    warnings.warn("many GPUs", RuntimeWarning, stacklevel=2)
    logging.getLogger("matplotlib.font_manager").warning("findfont: no such font")
    warnings.warn("This takes long; choose another.", Advice, stacklevel=2)
    found = [os.environ[name] for name in ("TORCH_CPP_LOG_LEVEL", "PYTORCH_ENABLE_MPS_FALLBACK")]
    print(*found, "torch" in sys.modules)
"""


def test_what_libraries_tell_developers_is_not_shown():
    done = played(NOISE)
    assert (done.returncode, done.stdout) == (0, "ERROR 1 False\n")
    assert done.stderr == "fer-synth: Warning: This takes long; choose another.\n"
    developer = played(NOISE, env={**os.environ, "PYTHONWARNINGS": "default"})
    assert "Corrupt EXIF data." in developer.stderr and "FutureWarning: old" in developer.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("data",), ("run", "--help")])
def test_an_output_that_is_full(words):
    with open("/dev/full", "w") as full: done = played("    print('facts')", words, stdout=full)
    assert done.returncode == 2 and is_one_sentence(done.stderr) and "No room left" in done.stderr


def test_a_reader_of_the_help_that_goes_away():
    read, write = os.pipe()
    os.close(read)
    done = played("    pass", ("run", "--help"), stdout=write)
    os.close(write)
    assert done.returncode == 141 and not done.stderr


def test_a_reader_that_goes_away_is_no_error():
    code = """
import sys
from fer_synth import cli
def chat(args):
    for i in range(20000): print(i, "x" * 50)
cli.COMMANDS["data"] = chat
sys.exit(cli.main(["data"]))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(60) == 141 and not said
