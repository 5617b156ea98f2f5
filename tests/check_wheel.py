"""Build the wheel, install it in a folder of its own, import every module from there, and train, score and paint.

    python tests/check_wheel.py

The environment lends the dependencies; slotseg itself comes from the wheel alone.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMPORT_ALL = """
import importlib, os, pkgutil, slotseg
site = os.environ["PYTHONPATH"]
names = [m.name for m in pkgutil.walk_packages(slotseg.__path__, "slotseg.") if not m.name.endswith("__main__")]
files = [importlib.import_module(name).__file__ for name in names]
assert all(file.startswith(site) for file in files), files
assert sorted(n for n in os.listdir(site) if not n.endswith(".dist-info")) == ["bin", "slotseg"], os.listdir(site)
print(f"{len(names)} modules of the wheel were imported.")
"""
DRAW = """
from PIL import Image
from slotseg.data.labelled.labelled import LabelledScenes
Image.fromarray(LabelledScenes(1).read_image(0)).save("photo.png")
"""
COMMANDS = (
    "train --steps 3 --set optimizer.warmup_epochs=0 --out run",
    "eval --dataset scenes --limit 4 --checkpoint run",
    "segment photo.png -o mask.png --checkpoint run",
)


def main() -> None:
    """Run all of it; raises CalledProcessError where something fails."""
    with tempfile.TemporaryDirectory() as folder:
        elsewhere = Path(folder).resolve()
        run("-m", "build", "--wheel", "--outdir", elsewhere, ROOT, cwd=ROOT, stdout=subprocess.DEVNULL)
        (wheel,) = elsewhere.glob("*.whl")
        site = elsewhere / "site"
        run("-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel, cwd=elsewhere)
        here = {"cwd": elsewhere, "env": {**os.environ, "PYTHONPATH": str(site)}}  # before the editable install
        packed = {p.relative_to(site / "slotseg") for p in (site / "slotseg").rglob("*.py")}
        written = {p.relative_to(ROOT / "slotseg") for p in (ROOT / "slotseg").rglob("*.py")}
        written |= {p.relative_to(ROOT) for name in ("data", "eval") for p in (ROOT / name).rglob("*.py")}
        assert packed == written, packed ^ written
        run("-c", IMPORT_ALL, **here)
        run("-c", DRAW, **here)
        for words in COMMANDS:
            run("-m", "slotseg.cli", *words.split(), **here)
        assert (elsewhere / "mask.png").is_file()
    print("The wheel imports whole, trains, scores and paints elsewhere.")


def run(*words: object, **options: object) -> None:
    """Run Python with these words."""
    subprocess.run([sys.executable, *map(str, words)], check=True, **options)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
