#!/usr/bin/env python3
"""run_tests.py LIBCAJAL_SO: builds the wheel, unpacks it into an empty folder, and tests what is there with pytest.

Exits 77 where no Python on this machine has pytest.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import build_backend  # noqa: E402


def python_with_pytest():
    for python in (sys.executable, "python3", "/usr/bin/python3"):
        try:
            if subprocess.run([python, "-c", "import pytest"], capture_output=True).returncode == 0:
                return python
        except OSError:
            pass
    return None


def main(library):
    python = python_with_pytest()
    if not python:
        print("skipped: no Python here has pytest; make setup installs python3-pytest")
        return 77
    with tempfile.TemporaryDirectory(prefix="cajal-python-") as folder:
        wheel = build_backend.write_wheel(folder, library)
        site = pathlib.Path(folder) / "site"
        zipfile.ZipFile(wheel).extractall(site)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("CAJAL_", "PYTHON"))}
        environment.update(PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1")
        return subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
