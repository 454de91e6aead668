"""Models to test with. The package is the one that PYTHONPATH names: run_tests.py unpacks a wheel there."""
import pathlib
import sys

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/install"))
import text_model  # noqa: E402

import cajal  # noqa: E402


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    return text_model.write_text_model(tmp_path_factory.mktemp("model"), SOURCE / "tests/data/qwen3-tokenizer")


@pytest.fixture(scope="session")
def golden_folder():
    return SOURCE / "tests/data/goldens/d_bf16_tied"


@pytest.fixture(scope="session")
def embedding_folder():
    return SOURCE / "tests/data/goldens_embedding"


@pytest.fixture(scope="session")
def model(text_folder):
    with cajal.Model.from_pretrained(text_folder, threads=1) as model:
        yield model
