"""The house: imports flow one way, heavy ones stay out, public names are documented."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"slotseg": "slotseg", "slotseg.data": "data", "slotseg.eval": "eval", "slotseg.cli": "slotseg/cli"}
LEVELS = [  # a module imports from its own level and those above it in this list
    "errors files failures signals config presets changes distributed schedules labels hashed_colors naming concepts "
    "devices pages figures boards curves run_record run_page concept_page diagnosis "
    "discovery_record",
    "backbones heads grouping initialization merging alignment refinement guided upsampling confidence tiles losses "
    "lars render data.* cleaning regions annotations annotations_summary annotation_files annotations_coco "
    "annotations_cvat annotations_labelme eval.contingency eval.matching eval.metrics eval.named eval.protocols "
    "carrying",
    "model checkpoint checkpointing runs scores retrieval weights building guard journal precision state monitor "
    "unpickling official official_settings",
    "looks streaming segmenter",
    "trainer usage collecting concept_figure preview watch launch outputs painting trial doctor twins exports "
    "importing onnx_export stage_costs discovery_page discovery_stages discovery",
    "eval.*",
    "cli cli.*",
]


def _modules() -> dict[str, Path]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).glob("*.py")):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


MODULES = _modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


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


def level(module: str) -> int:
    short = module.removeprefix("slotseg.")
    exact = [i for i, line in enumerate(LEVELS) if short in line.split()]
    by_package = [i for i, line in enumerate(LEVELS) if f"{short.split('.')[0]}.*" in line.split()]
    assert exact or by_package, f"{module} has no level here; give it one"
    return (exact or by_package)[0]


def ours() -> list[str]:
    return [m for m in MODULES if m not in ("slotseg", "slotseg.data", "slotseg.eval")]


@pytest.mark.parametrize("module", ours())
def test_imports_flow_one_way(module: str) -> None:
    wrong = {m for m in imports(module) & set(ours()) if level(m) > level(module)}
    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    TopologicalSorter({m: imports(m) & set(ours()) - {m} for m in ours()}).prepare()  # raises CycleError


def test_packages_load_nothing_at_once() -> None:
    assert imports("slotseg.data") | imports("slotseg.eval") == set()
    at_once = {type(node) for node in TREES["slotseg"].body}
    assert ast.ImportFrom in at_once
    loaded = [n for n in TREES["slotseg"].body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert not any("slotseg" in ast.unparse(node) for node in loaded)


@pytest.mark.parametrize("module", MODULES)
def test_who_may_import_what(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(module)}
    torch_distributed = any(name.startswith("torch.distributed") for name in imports(module))
    assert "data" not in roots, "slotseg.data: the bare name loads a second copy"
    assert "eval" not in roots
    assert "click" not in roots or module.startswith("slotseg.cli")
    assert not torch_distributed or module == "slotseg.distributed"
    if module.startswith("slotseg.data"):
        assert "timm" not in roots
        assert {m for m in imports(module) & set(ours()) if not m.startswith("slotseg.data")} <= {
            f"slotseg.{name}" for name in LEVELS[0].split()
        }


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
        "import slotseg.config, slotseg.presets, slotseg.labels, slotseg.errors, slotseg.files",
        "import slotseg.eval.matching, slotseg.eval.metrics",
        "from slotseg.cli import main; main(['--help'], standalone_mode=False)",
        "from slotseg.cli import main; main(['train', '--help'], standalone_mode=False)",
    ],
)
def test_torch_is_not_loaded(code: str) -> None:
    check = "import sys; heavy = {'torch', 'timm', 'torchvision'} & set(sys.modules); assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{check}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_backbone_of_ones_own_needs_no_timm() -> None:
    code = "import slotseg.model, sys; assert 'timm' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
