"""A commit of slotseg, installed in a folder of its own, and measurements of its command line."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from slotseg.errors import ConfigError, SlotSegError
from slotseg.files import write_json

ROOT = Path(__file__).resolve().parents[1]
MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Build:
    """A commit, installed in a folder of its own, and what was measured with it."""

    name: str
    """Name in messages and in the table: ``before`` or ``after``."""
    commit: str
    """Full name of the commit."""
    home: Path
    """Folder of the build, its runs and its measurements."""
    settings: tuple[str, ...]
    """Options of its ``train`` and ``discover``."""

    @cached_property
    def environment(self) -> dict[str, str]:
        """Variables of a process that imports this build. It is installed first, unless that is done.

        Raises:
            ConfigError: If such a process imports another build.
        """
        site = self.home / f"site-{self.commit[:12]}"
        if not site.is_dir():
            self.home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.home) as name:
                source, target = Path(name) / "source", Path(name) / "site"
                git("archive", "--format=zip", "--output", f"{source}.zip", self.commit)
                shutil.unpack_archive(f"{source}.zip", source)
                pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                subprocess.run([*pip, "--target", target, source], check=True)
                target.rename(site)
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        words = [sys.executable, "-c", "import slotseg; print(slotseg.__file__)"]
        found = subprocess.run(words, check=True, capture_output=True, text=True, cwd=self.home, env=environment)
        if not Path(found.stdout.strip()).is_relative_to(site):
            raise ConfigError(f"Python imports {found.stdout.strip()}; expected the build in {site}")
        return environment

    def run(self, name: str, seed: int) -> Path:
        """Folder of the run on a set."""
        return self.home / f"{name}-seed{seed}"

    def measure(self, what: str, *arguments: object, makes: Path | None = None) -> None:
        """Run a command, unless that is done, and keep its time, its memory and the load of the machine.

        Args:
            what: Name of the measurement.
            arguments: Words behind ``slotseg``.
            makes: Folder that the command makes. It must not exist, as a command that goes on takes less time.

        Raises:
            ConfigError: If the folder exists, or the measurement was made with other arguments.
            SlotSegError: If the command fails.
        """
        words = [str(argument) for argument in arguments]
        known = self.kept(what)
        if known:
            if known["arguments"] != words:
                raise ConfigError(f"{what} of {self.home} had other arguments; expected the same: choose another --out")
            return
        if makes and makes.exists():
            raise ConfigError(f"{makes} was begun and not finished; expected none: remove it, or let it finish")
        environment = self.environment
        values: dict[str, Any] = {"commit": self.commit, "arguments": words, "began": now(), "load": [load()]}
        log = self.home / f"{what}.log"
        with log.open("wb") as file:
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "slotseg.cli", *words], cwd=self.home, env=environment, stdout=file, stderr=file
            )
            _, status, used = os.wait4(process.pid, 0)
            values["seconds"] = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SlotSegError(f"slotseg {words[0]} of the build {self.name} failed; {log} says why")
        # Linux counts the moment before exec, so the peak is at least this process's own: the same imports, no work
        values["peak"] = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        values["load"].append(load())
        values["threads"] = os.environ.get("OMP_NUM_THREADS", "default")
        write_json(self.home / f"{what}.json", values)
        print(self.line(what, values), file=sys.stderr, flush=True)

    def kept(self, what: str) -> dict[str, Any] | None:
        """A measurement that was made, or None.

        Raises:
            ConfigError: If it is of another commit.
        """
        file = self.home / f"{what}.json"
        if not file.is_file():
            return None
        values: dict[str, Any] = json.loads(file.read_text())
        if values["commit"] != self.commit:
            raise ConfigError(f"{file} is of commit {values['commit'][:7]}; expected {self.commit[:7]}")
        return values

    def line(self, what: str, values: dict[str, Any]) -> str:
        """A measurement in words."""
        loads = " to ".join(f"{value:.2f}" for value in values["load"])
        cost = f"{values['seconds']:.1f} s, {values['peak'] / MB:,.0f} MB"
        return f"{values['began']} {self.name} {what}: {cost}, load {loads}, threads {values['threads']}"


def git(*words: str) -> str:
    """Output of a git command in this repository."""
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def full_name(commit: str) -> str:
    """Full name of a commit."""
    return git("rev-parse", "--verify", f"{commit}^{{commit}}")


def load() -> float:
    """Mean number of running processes in the last minute."""
    return os.getloadavg()[0]


def now() -> str:
    """Time in UTC."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
