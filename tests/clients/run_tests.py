#!/usr/bin/env python3
"""`cajal serve` and the demo model, seen by the official clients of the APIs that it speaks.

    make server-test                                                   (needs PyPI once: the clients go to build/clients)
    tests/clients/run_tests.py build/release/cajal [unittest's arguments]
"""
import os
import pathlib
import sys
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
ENVIRONMENT = TESTS.parent / "build" / "clients" / "bin" / "python"

try:
    import anthropic
    import openai
except ImportError as error:
    # The environment of `make server-test`, unless this is it.
    if ENVIRONMENT.exists() and pathlib.Path(sys.prefix) != ENVIRONMENT.parents[1]:
        os.execv(ENVIRONMENT, [str(ENVIRONMENT), *sys.argv])
    print(f"skipped: {error.name} is not installed — `make server-test` does so, from PyPI (tools/client_packages.txt)")
    sys.exit(77)

sys.path.insert(0, str(TESTS / "server"))
import shared  # noqa: E402  (needs what is above)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    program = sys.argv.pop(1)
    folder = str(pathlib.Path(__file__).resolve().parent)
    suite = unittest.defaultTestLoader.discover(folder, "*_test.py")
    if sys.argv[1:]:
        suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])
    with shared.serving(program) as server:
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        code = server.stop()
    print(f"openai {openai.__version__} and anthropic {anthropic.__version__}: {result.testsRun} tests, "
          f"{len(result.failures) + len(result.errors)} failed, {len(result.skipped)} skipped; the server ended with {code}")
    return 0 if result.wasSuccessful() and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
