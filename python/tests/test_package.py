"""The package as it is installed."""
import ctypes
import pathlib
import re
import subprocess
import sys

import pytest

import cajal
from cajal import _library
from conftest import SOURCE

HEADER = (SOURCE / "include/cajal/c_api.h").read_text()
STRUCTS = {"cajal_engine_config": _library.EngineConfig, "cajal_model_info": _library.ModelInfo,
           "cajal_prompt": _library.Prompt, "cajal_sampling_params": _library.SamplingParams,
           "cajal_delta": _library.Delta, "cajal_completion": _library.Completion, "cajal_score_view": _library.ScoreView,
           "cajal_token_logprob": _library.TokenLogprob, "cajal_string": _library.String}
TYPES = {"cajal_string": _library.String, "size_t": ctypes.c_size_t, "int32_t": ctypes.c_int32,
         "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "double": ctypes.c_double,
         "cajal_finish_reason": ctypes.c_int32}


@pytest.mark.parametrize("name", STRUCTS)
def test_structs_are_those_of_the_header(name):
    body = re.search(rf"typedef struct {name} {{(.*?)}} {name};", HEADER, re.S)[1]
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    fields = []
    for kind, names in re.findall(r"(?:const )?(\w+\*?) ([\w, ]+);", body):
        fields += [(field, kind) for field in names.split(", ")]
    mine = STRUCTS[name]._fields_
    assert [field for field, *_ in mine] == [field for field, _ in fields]
    for (field, ctype), (_, kind) in zip(mine, fields):
        if kind.endswith("*"):
            assert ctypes.sizeof(ctype) == ctypes.sizeof(ctypes.c_void_p), field
        else:
            assert ctype is TYPES[kind], field


def test_the_version_is_that_of_the_header():
    assert int(re.search(r"define CAJAL_API_VERSION (\d+)", HEADER)[1]) == _library.API_VERSION


def test_it_is_typed(tmp_path):
    assert (pathlib.Path(cajal.__file__).parent / "py.typed").exists()
    pytest.importorskip("mypy", reason="mypy is not here")
    result = subprocess.run([sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "cajal"],
                            cwd=SOURCE / "python", capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_libraries_that_it_brings_are_those_that_it_uses():
    folder = pathlib.Path(cajal.__file__).parent / "lib"
    names = (folder / "libraries.txt").read_text().split()
    loaded = {line.split()[-1] for line in pathlib.Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    for name in names:
        assert {path for path in loaded if path.endswith("/" + name)} == {str((folder / name).resolve())}


def test_the_demo_model_comes_along():
    with cajal.Model.from_pretrained(threads=1) as model:
        assert model.info.model.startswith(str(pathlib.Path(cajal.__file__).parent.resolve()))
        assert "= 85." in model.chat([{"role": "user", "content": "What is 47 + 38?"}]).text
        assert model.info.num_experts == 0


def programs():
    return re.findall(r"^```python\n(.*?)^```$", (SOURCE / "docs/library.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("number", range(len(programs())))
def test_the_programs_of_the_documentation_run(number, text_folder):
    result = subprocess.run([sys.executable, "-c", programs()[number], str(text_folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
