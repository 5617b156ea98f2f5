"""Run mypy on the packages as they are installed, and on the benchmarks.

The checkout keeps ``slotseg.data`` and ``slotseg.eval`` in folders of their own, which mypy does
not see through an editable install; here they are laid out as in the wheel.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "slotseg"
        shutil.copytree(ROOT / "slotseg", package)
        for name in ("data", "eval"):
            shutil.copytree(ROOT / name, package / name)
        benchmarks = sorted(shutil.copytree(ROOT / "benchmarks", Path(folder) / "benchmarks").glob("*.py"))
        command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), package, *benchmarks]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
