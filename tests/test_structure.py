"""The house: rooms in an order, imports that flow one way, heavy libraries that stay out, public names documented."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from slotseg.cli import COMMANDS

ROOT = Path(__file__).parent.parent
ORDER = [  # a module imports from its room and from earlier lines; rooms of one line do not know each other
    "errors amounts",
    "values",
    "segment_config",
    "config files distributed labels",
    "presets devices pages data networks",
    "method",
    "runs",
    "segmenting",
    "painting exchange concepts",
    "watching",
    "training",
    "eval discovery",
    "cli",
]
ORDER_OF_DATA = ["scenes reading", "finding", "views labelled"]


def _modules() -> dict[str, Path]:
    """Modules by the name under which they are imported."""
    found = {}
    for folder in ("slotseg", "data", "eval"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "slotseg" else ("slotseg", *parts)
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = _modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
OURS = [name for name, path in MODULES.items() if path.name != "__init__.py" or name == "slotseg.cli"]
ROOMS = [name for name in MODULES if name not in (*OURS, "slotseg")]


def imports(module: str) -> set[str]:
    """Everything a module imports, inside functions too; of our own, the modules and not their names."""
    names: set[str] = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            assert node.module is not None
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (whole & MODULES.keys()) or {node.module}
    return names


def room(module: str, depth: int) -> str:
    """The room of a module, or the module itself where it lies beside the rooms."""
    return module.split(".")[depth]


def misplaced(module: str, imported: str, order: list[str], depth: int) -> bool:
    """Whether an import goes to a later line of an order, or to another room of the same line."""
    here, there = room(module, depth), room(imported, depth)
    lines = {name: number for number, line in enumerate(order) for name in line.split()}
    homeless = {here, there} - lines.keys()
    assert not homeless, f"{homeless} has no line in the order; give it one"
    return here != there and lines[there] >= lines[here]


@pytest.mark.parametrize("module", OURS)
def test_imports_flow_one_way(module: str) -> None:
    known = imports(module) & set(OURS)
    wrong = {m for m in known if misplaced(module, m, ORDER, 1)}
    if module.startswith("slotseg.data."):
        wrong |= {m for m in known if m.startswith("slotseg.data.") and misplaced(module, m, ORDER_OF_DATA, 2)}
    assert not wrong, f"{module} may not import {wrong}: a later room, or another of its line; see docs/code.md"


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter({m: imports(m) & set(OURS) - {m} for m in OURS}).prepare()  # raises CycleError


@pytest.mark.parametrize("package", ROOMS)
def test_entering_a_room_loads_nothing(package: str) -> None:
    (docstring,) = TREES[package].body
    assert ast.get_docstring(TREES[package])
    assert isinstance(docstring, ast.Expr)


def test_importing_slotseg_loads_nothing_of_its_own() -> None:
    at_once = [n for n in TREES["slotseg"].body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert at_once
    assert not any("slotseg" in ast.unparse(node) for node in at_once)


def test_every_room_is_packaged() -> None:
    (packages,) = re.findall(r"^packages = \[(.*?)\]$", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert set(re.findall(r'"(.*?)"', packages)) == {*ROOMS, "slotseg", "slotseg.cli"}


def test_the_house_stays_small() -> None:
    """A room that must be large says because of what."""
    entries = [path.name for path in (ROOT / "slotseg").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 25, entries
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: number for name, number in lines.items() if number > 300} == {}
    sizes = {name: sum(lines[module] for module in lines if module.rpartition(".")[0] == name) for name in ROOMS}
    assert sizes["slotseg.method"] < 1000
    large = {name for name, size in sizes.items() if size > 1500}
    assert {name for name in large if "because" not in (ast.get_docstring(TREES[name]) or "")} == set()


@pytest.mark.parametrize("module", MODULES)
def test_who_may_import_what(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module)}
    torch_distributed = any(name.startswith("torch.distributed") for name in imports(module))
    assert "data" not in roots, "slotseg.data: the bare name loads a second copy"
    assert "eval" not in roots, "slotseg.eval: the bare name loads a second copy"
    assert "click" not in roots or module.startswith("slotseg.cli")
    assert "timm" not in roots or not module.startswith("slotseg.data")
    assert not torch_distributed or module == "slotseg.distributed"


@pytest.mark.parametrize("module", MODULES)
def test_no_device_is_built_in(module: str) -> None:
    calls = [n.func for n in ast.walk(TREES[module]) if isinstance(n, ast.Call)]
    assert "cuda" not in {f.attr for f in calls if isinstance(f, ast.Attribute)}


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_documented(module: str) -> None:
    assert ast.get_docstring(TREES[module]), "the module itself"
    public = [
        node
        for node in TREES[module].body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize(
    "code",
    [
        "import slotseg",
        "import slotseg.config, slotseg.presets, slotseg.errors, slotseg.files, slotseg.amounts, slotseg.pages",
        "import slotseg.labels.label_map, slotseg.labels.naming, slotseg.labels.colors",
        "import slotseg.runs.folder, slotseg.runs.record, slotseg.watching.run_page, slotseg.watching.diagnosis",
        "import slotseg.eval.matching, slotseg.eval.metrics",
        "\n".join(
            f"main({[*command, '--help']}, standalone_mode=False)" for command in [[], *([name] for name in COMMANDS)]
        ).join(["from slotseg.cli import main\n", ""]),
    ],
)
def test_torch_is_not_loaded(code: str) -> None:
    check = "import sys; heavy = {'torch', 'timm', 'torchvision'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_backbone_of_ones_own_needs_no_timm() -> None:
    code = "import slotseg.method.model, sys; assert 'timm' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
