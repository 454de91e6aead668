#!/usr/bin/env python3
"""Proves that each rule of check_structure.py can fail, and that a good tree passes. Run by ctest."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_structure

CMAKE = """
cajal_layer(base USES spdlog::spdlog)
cajal_layer(tensor USES base)
cajal_layer(text USES base)
cajal_layer(backends USES tensor)
cajal_layer(engine USES text backends)
"""
GOOD = {
    "CMakeLists.txt": CMAKE,
    "src/base/error.h": "#pragma once\n#include <string>\n",
    "src/tensor/view.h": '#pragma once\n#include "base/error.h"\n',
    "src/text/bpe.h": "#pragma once\n",
    "src/backends/backend.h": "#pragma once\n",
    "src/backends/cpu/matmul.h": '#pragma once\n#include "backends/backend.h"\n',
    "src/backends/cuda/matmul.h": "#pragma once\n",
    "src/engine/engine.cpp": '#include "cajal/engine.h"\n#include "base/error.h"\n#include "backends/cpu/matmul.h"\n',
    "include/cajal/engine.h": "#pragma once\n#include <memory>\n",
    "tests/support/temp.h": "#pragma once\n",
    "tests/text/cases.h": "#pragma once\n",
    "tests/text/bpe_test.cpp": '#include "text/bpe.h"\n#include "cases.h"\n#include "support/temp.h"\nusing namespace cajal;\n',
}
HOME, WORK = ("/" + folder + "/" for folder in ("home", "work"))
FOREIGN = HOME + "somebody/model"


class Structure(unittest.TestCase):
    def found(self, **changes):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in {**GOOD, **changes.get("files", {})}.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            return list(check_structure.problems(root))

    def refuses(self, name, text, why):
        found = self.found(files={name: text})
        self.assertEqual(len(found), 1, found)
        self.assertIn(why, found[0])
        self.assertTrue(found[0].startswith(name), found[0])

    def test_a_good_tree_passes(self):
        self.assertEqual(self.found(), [])

    def test_a_layer_below_may_not_be_included(self):
        self.refuses("src/base/a.cpp", '#include "tensor/view.h"\n', "base may not include tensor/view.h")

    def test_a_sibling_may_not_be_included(self):
        self.refuses("src/backends/cpu/a.cpp", '#include "text/bpe.h"\n', "backends may not include text/bpe.h")

    def test_a_backend_may_not_include_another(self):
        self.refuses("src/backends/cpu/a.cpp", '#  include "backends/cuda/matmul.h"\n', "may not include another")

    def test_a_file_belongs_to_a_layer(self):
        self.refuses("src/misc/a.cpp", "\n", "belongs to the folder of a layer")
        self.refuses("src/a.cpp", "\n", "belongs to the folder of a layer")

    def test_public_headers_are_for_the_engine_and_above(self):
        self.refuses("src/tensor/a.cpp", '#include "cajal/engine.h"\n', "may not include the public header")

    def test_a_public_header_includes_public_headers_only(self):
        self.refuses("include/cajal/a.h", '#pragma once\n#include "base/error.h"\n', "public headers only")

    def test_a_header_begins_with_pragma_once(self):
        self.refuses("src/base/a.h", "// A comment.\n#pragma once\n", "#pragma once")
        self.refuses("src/backends/cuda/a.cuh", "\n#pragma once\n", "#pragma once")

    def test_a_header_opens_no_namespace(self):
        self.refuses("src/base/a.h", "#pragma once\nusing namespace std;\n", "using namespace")

    def test_files_stay_short_but_generated_tables(self):
        self.refuses("src/base/a.cpp", "\n" * 601, "601 lines")
        self.refuses("tools/a.py", "\n" * 1001, "1001 lines")
        for name in check_structure.GENERATED:
            text = ("#pragma once\n" if name.endswith(".h") else "") + "\n" * 601
            self.assertEqual(self.found(files={name: text}), [])

    def test_includes_name_our_files_from_the_root(self):
        self.refuses("src/base/a.cpp", '#include "error.h"\n', "is no file of ours")
        self.refuses("src/base/a.cpp", '#include "../base/error.h"\n', "is no file of ours")
        self.refuses("src/base/a.cpp", '#include "spdlog/spdlog.h"\n', "is no file of ours")
        self.refuses("src/base/a.cpp", '#include "support/temp.h"\n', "is no file of ours")
        self.refuses("tests/base/a_test.cpp", '#include "cases.h"\n', "is no file of ours")
        self.refuses("src/base/a.cpp", "#include <base/error.h>\n", "with quotes")

    def test_no_flag_chooses_an_instruction_set(self):
        for flag in ("-mavx512f", "-march=native", "-mfma", "-mamx-tile"):
            self.refuses("cmake/a.cmake", f'set_source_files_properties(a.cpp PROPERTIES COMPILE_OPTIONS "{flag}")\n', flag)
        self.assertEqual(self.found(files={"cmake/a.cmake": "# never -mavx2\nexecute(python3 -m venv)\n"}), [])

    def test_python_parses(self):
        self.refuses("tools/a.py", "def f(:\n", "invalid syntax")

    def test_no_path_of_one_machine(self):
        self.refuses("docs/a.md", f"\nsee {FOREIGN}\n", "path of one machine")
        self.assertEqual(self.found(files={"docs/a.md": f"https://example.org{HOME}a and $root{HOME} and src{WORK}a\n"}), [])


if __name__ == "__main__":
    unittest.main()
