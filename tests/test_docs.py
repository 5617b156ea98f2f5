"""The documents say what is there."""

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

import slotseg
from slotseg.cli import COMMANDS, main
from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.presets import PRESETS
from slotseg.runs.folder import RunFolder
from slotseg.values import flatten, to_dict

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_OTHERS = {"labelme2voc.py"}
"""Scripts of other projects."""


def test_every_setting_is_documented_with_its_default() -> None:
    table = dict(re.findall(r"^\| `([a-z_.]+)` \| (.*?) \|", (ROOT / "docs" / "settings.md").read_text(), re.M))
    defaults = flatten(to_dict(TrainConfig()))
    assert table.keys() == defaults.keys()
    for name, value in defaults.items():
        plain = [round(v, 4) for v in value] if isinstance(value, tuple) else value
        assert table[name] == str(plain), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_commands_and_options_in_documents_exist(document: Path) -> None:
    for line in re.findall(r"^\s*(?:\$ )?slotseg (.+)$", document.read_text(), re.M):
        name, *rest = line.split()
        assert name in COMMANDS, line
        command_help = CliRunner().invoke(main, [name, "--help"]).output
        for option in re.findall(r"--[a-z-]+", " ".join(rest)):
            assert option in command_help, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_files_named_in_documents_exist(document: Path) -> None:
    for name in re.findall(r"`((?:slotseg|data|eval|tests|docs|benchmarks)/[\w/.-]+)", document.read_text()):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_presets_are_all_in_the_help() -> None:
    text = CliRunner().invoke(main, ["train", "--help"]).output
    assert all(name in text for name in PRESETS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_modules_and_names_in_documents_exist(document: Path) -> None:
    for path, name in re.findall(r"`([\w/]+\.py)(?:(?:: |::)([\w.]+))?`", document.read_text()):
        if path not in OF_OTHERS:
            assert (ROOT / path).is_file(), f"{path} is no file; expected its path from the root of the checkout"
            assert not name or name in names_in(ROOT / path), f"{path} has no {name}"


def names_in(module: Path) -> set[str]:
    """Functions, classes and constants of a module; methods as ``Class.method`` and alone."""
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else []
        for of, each in [("", node), *((f"{getattr(node, 'name', '')}.", e) for e in inside)]:
            names = [t.id for t in getattr(each, "targets", []) if isinstance(t, ast.Name)]
            names += [each.name] if isinstance(each, ast.ClassDef | ast.FunctionDef) else []
            names += [each.target.id] if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) else []
            found |= {*names, *(of + name for name in names)}
    return found


def test_python_of_the_readme_runs(saved_segmenter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "photos-1")
    run.last.parent.mkdir(parents=True)
    run.config.write_text("{}")
    saved_segmenter.rename(run.last)
    Image.fromarray(draw_scene(0)[0]).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert snippets
    for snippet in snippets:
        names: dict[str, Any] = {}
        exec(snippet, names)
        assert names["class_map"].shape == draw_scene(0)[1].shape


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_imports_in_documents_work(document: Path) -> None:
    for module, names in re.findall(r"\bfrom (slotseg[\w.]*) import ([\w, ]+)", document.read_text()):
        for name in filter(None, re.split(r",\s*", names.strip())):
            assert hasattr(importlib.import_module(module), name), f"{module} has no {name}"


def test_public_names_are_there() -> None:
    assert all(getattr(slotseg, name) for name in slotseg.__all__)
    assert {"Segmenter", "Trainer", "discover", "read_names"} <= set(dir(slotseg))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = slotseg.nothing
