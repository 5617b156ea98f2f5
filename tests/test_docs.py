"""The documents say what is there."""

import dataclasses
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from slotseg.cli import COMMANDS, main
from slotseg.config import TrainConfig
from slotseg.presets import PRESETS
from slotseg.training.trainer import Trainer
from slotseg.values import flatten, to_dict

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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


def test_public_api_of_the_readme() -> None:
    import slotseg

    assert all(getattr(slotseg, name) for name in slotseg.__all__)
    assert dataclasses.is_dataclass(TrainConfig)
    assert callable(Trainer.train)
