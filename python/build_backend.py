#!/usr/bin/env python3
"""Builds the wheel: the package, the demo model, libcajal.so, and the libraries that it needs and that Linux systems may lack.

    python3 build_backend.py OUT_FOLDER LIBCAJAL_SO

`pip wheel ./python` comes here too (PEP 517) and takes the library from CAJAL_LIBRARY, or from build/release. Needs Python
and ldd, and no other package.
"""
import base64
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
# What every Linux system that runs this Python has, in the same or a later version.
SYSTEM = re.compile(r"(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|lib[at]san|libubsan)\.so.*")


def version():
    return re.search(r"project\(cajal VERSION ([\d.]+)", (HERE.parent / "CMakeLists.txt").read_text())[1]


def needed_libraries(library):
    """(name, path) of those that have to come along, each after what it needs."""
    lines = subprocess.run(["ldd", library], check=True, capture_output=True, text=True).stdout.splitlines()
    found = [re.match(r"\s*(\S+) => (/\S+)", line) for line in lines]
    wanted = [(m[1], pathlib.Path(m[2])) for m in found if m and not SYSTEM.fullmatch(m[1])]
    if missing := [line.split()[0] for line in lines if "not found" in line]:
        sys.exit(f"build_backend: {library} needs {', '.join(missing)}, which is not here")
    return wanted[::-1]  # ldd lists a library before what it needs


def licence_of(path):
    """Debian's copyright file of the package that a library comes from, if this is Debian."""
    for name in (path, path.resolve()):
        try:
            found = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True)
        except FileNotFoundError:
            return None
        if found.returncode == 0:
            package = found.stdout.split(":")[0]
            file = pathlib.Path("/usr/share/doc") / package / "copyright"
            return (package, file.read_bytes()) if file.exists() else None
    return None


def contents(library):
    """{path in the wheel: bytes}"""
    files = {f"cajal/{p.name}": p.read_bytes() for p in sorted((HERE / "cajal").iterdir()) if p.suffix == ".py" or p.name == "py.typed"}
    info = f"cajal-{version()}.dist-info"
    names = []
    for name, path in needed_libraries(library):
        files[f"cajal/lib/{name}"] = path.read_bytes()
        names.append(name)
        if licence := licence_of(path):
            files[f"{info}/licenses/{licence[0]}.copyright"] = licence[1]
    files["cajal/lib/libcajal.so"] = library.read_bytes()
    files["cajal/lib/libraries.txt"] = "\n".join([*names, "libcajal.so", ""]).encode()
    for path in sorted((HERE.parent / "share/demo-model").iterdir()):  # where the library looks for it
        files[f"cajal/share/cajal/demo-model/{path.name}"] = path.read_bytes()
    for name in ("LICENSE", "NOTICE"):
        files[f"{info}/licenses/{name}"] = (HERE.parent / name).read_bytes()
    files[f"{info}/METADATA"] = (f"Metadata-Version: 2.1\nName: cajal\nVersion: {version()}\n"
                                 "Summary: Inference engine for Qwen3 and Qwen3-MoE language models\n"
                                 "License: Apache-2.0\nRequires-Python: >=3.9\n").encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: cajal\nRoot-Is-Purelib: false\nTag: {tag()}\n".encode()
    return files, info


def tag():
    return "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


def write_wheel(folder, library):
    files, info = contents(pathlib.Path(library).resolve())
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = pathlib.Path(folder) / f"cajal-{version()}-{tag()}.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980, so that the same input gives the same wheel
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    library = os.environ.get("CAJAL_LIBRARY") or HERE.parent / "build/release/libcajal.so"
    if not pathlib.Path(library).exists():
        sys.exit(f"build_backend: {library} is not there: run make first, or set CAJAL_LIBRARY")
    return write_wheel(wheel_directory, library).name


def build_sdist(sdist_directory, config_settings=None):
    sys.exit("build_backend: there is no source distribution: the library is built with cajal itself, by make wheel")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(write_wheel(sys.argv[1], sys.argv[2]))
