"The files that people edit, as the editors of Windows, macOS and Linux save them."
import codecs
from pathlib import Path

import pytest
from records import make_records

from fer_synth import cli, records
from fer_synth.config import UserError, load_config, save_config
from fer_synth.evaluation.compare import read_predictions
from fer_synth.recipes import tiny_wgan_gp
from fer_synth.selection.pools import read_selection
from fer_synth.selection.rules import SelectionRule
from fer_synth.selection.decisions import Decisions
from fer_synth.widgets.browser_state import BrowserState, decisions_of
from fer_synth.widgets.confusion_state import ConfusionState, read_decision
from fer_synth.widgets.kit import from_run


def as_saved(text: str, ending: str, encoding: str) -> bytes:
    mark = {"utf-8-sig": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    plain = encoding.removesuffix("-sig")
    return mark.get(encoding, b"") + text.replace("\n", ending).encode(plain)


def read_choices(path):
    columns = Decisions.load(path).columns
    return {name: column.tolist() for name, column in columns.items() if name != "confidence"}


def read_rows(path):
    columns = read_selection(path)
    return {name: column.tolist() for name, column in columns.items() if column.dtype.kind != "f"}


READERS = {"config.json": load_config, "rule.json": SelectionRule.load, "cell.json": read_decision,
           "record.json": records.read_json, "decisions.csv": read_choices, "selection.csv": read_rows}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    "A folder with one file of each kind, with letters of many languages where there can be any."
    folder = tmp_path_factory.mktemp("edited")
    run = make_records(folder / "run", classes=("größer", "害怕", "naïve"), rounds=1, seeds=1, made=8)
    save_config(tiny_wgan_gp(), folder / "config.json")
    SelectionRule(score="confidence", thresholds={"害怕": .5}, note="größer").save(folder / "rule.json")
    ConfusionState(read_predictions(run / "predictions.npz")).save(folder / "cell.json")
    (folder / "record.json").write_text('{\n"größer": ["害怕"]\n}\n', encoding="utf-8")
    decisions_of(BrowserState(from_run(run))).save(folder / "decisions.csv")
    (folder / "selection.csv").write_bytes((run / "selection.csv").read_bytes())
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", READERS)
def test_a_file_is_read_as_any_editor_saves_it(files, tmp_path, name, ending, encoding):
    before = (files / name).read_text(encoding="utf-8")
    after = before + "\n"      # with an empty line at the end
    (tmp_path / name).write_bytes(as_saved(after, ending, encoding))
    assert READERS[name](tmp_path / name) == READERS[name](files / name)


PICTURE = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
NO_TEXT = {"latin-1": "größer".encode("latin-1"), "a picture": PICTURE, "zeros": bytes(40),
           "utf-16 without its mark": '{"a": 1}'.encode("utf-16-le"), "utf-32": '{"a": 1}'.encode("utf-32"),
           "half a letter": codecs.BOM_UTF16_LE + b"{"}


@pytest.mark.parametrize("case", NO_TEXT)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_text_is_one_sentence(tmp_path, name, case):
    (tmp_path / name).write_bytes(NO_TEXT[case])
    with pytest.raises(UserError) as told: READERS[name](tmp_path / name)
    said = str(told.value)
    assert said.startswith(f"{tmp_path / name} is not text in UTF-8; save it as UTF-8") and "\n" not in said


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path, name):
    with pytest.raises(UserError, match="does not exist; "): READERS[name](tmp_path / name)
    with pytest.raises(UserError, match="cannot be read .Is a directory.; "): READERS[name](tmp_path)


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith(".json")])
def test_a_name_that_comes_twice_is_one_sentence(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"seed": 1, "seed": 2}')
    with pytest.raises(UserError, match="'seed' stands there twice; leave one of them"): READERS[name](path)


def test_the_command_reads_them(files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = (files / "config.json").read_text()
    Path("c.json").write_bytes(as_saved(config, "\r\n", "utf-8-sig"))
    rule = (files / "rule.json").read_text(encoding="utf-8")
    Path("r.json").write_bytes(as_saved(rule, "\r\n", "utf-16-le"))
    assert cli.main(["run", "--config", "c.json", "--dry-run"]) == 0
    assert "judge-0" in capsys.readouterr().out
    assert cli.main(["run", "--config", "c.json", "--rule", "r.json", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert "unknown class '害怕'" in said and said.count("\n") == 1 and not Path("out").exists()
    Path("c.json").write_bytes(PICTURE)
    assert cli.main(["run", "--config", "c.json"]) == 2
    assert "c.json is not text in UTF-8" in capsys.readouterr().err
