"""The container images: what is in them, and that their programs run with nothing else."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from workspace import ROOT

MEGABYTE = 1_000_000
PROGRAMS = ["pintail-operator", "pintail-runner"]


def build(folder: Path) -> dict[str, Path]:
    xtask = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/xtask"
    subprocess.run([xtask, "image", "--output", folder], check=True, capture_output=True)
    return {name: folder / f"{name}.tar" for name in PROGRAMS}


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("images"))


def layers(archive: Path) -> list[tarfile.TarFile]:
    outer = tarfile.open(archive)
    (image,) = json.load(outer.extractfile("manifest.json"))
    return [tarfile.open(fileobj=outer.extractfile(layer)) for layer in image["Layers"]]


def unpack(archive: Path, folder: Path) -> Path:
    for layer in layers(archive):
        layer.extractall(folder, filter="tar")
    return folder


def test_building_again_gives_the_same_bytes(archives, tmp_path):
    for name, again in build(tmp_path).items():
        assert again.read_bytes() == archives[name].read_bytes(), name


def test_an_image_holds_a_program_its_libraries_and_no_shell(archives):
    for name, archive in archives.items():
        members = [member for layer in layers(archive) for member in layer]
        files = {member.name for member in members if member.isfile()}
        assert [path for path in files if path.startswith(("bin/", "usr/"))] == [f"bin/{name}"]
        assert {"etc/passwd", "etc/ssl/certs/ca-certificates.crt"} <= files
        rest = files - {f"bin/{name}"}
        assert all(path.startswith(("etc/", "lib/", "lib64/")) for path in rest), rest
        assert all(member.uid == 0 and not member.mode & 0o6022 for member in members if member.name != "tmp")
        # The engine is the runner's alone.
        assert ("lib/libduckdb.so" in files) == (name == "pintail-runner")


def test_the_runner_is_small_and_brings_the_extensions_that_connections_need(archives):
    outer = tarfile.open(archives["pintail-runner"])
    (image,) = json.load(outer.extractfile("manifest.json"))
    size = {"base": 0, "extensions": 0, "program": 0}
    for name, path in zip(size, image["Layers"], strict=True):
        size[name] = outer.getmember(path).size
    assert size["base"] + size["program"] < 60 * MEGABYTE
    files = {member.name for layer in layers(archives["pintail-runner"]) for member in layer}
    for extension in ("httpfs", "postgres_scanner"):
        assert f"lib/extensions/{extension}.duckdb_extension" in files


def test_an_image_names_a_user_that_is_not_root(archives):
    for name, archive in archives.items():
        outer = tarfile.open(archive)
        (image,) = json.load(outer.extractfile("manifest.json"))
        config = json.load(outer.extractfile(image["Config"]))["config"]
        assert config["User"] == "65532:65532"
        assert ("TMPDIR=/scratch" in config["Env"]) == (name == "pintail-runner")
        assert config["Entrypoint"] == [f"/bin/{name}"]
        assert config["Labels"]["org.opencontainers.image.title"] == name


def test_a_program_finds_all_its_libraries_in_its_image_and_runs(archives, tmp_path):
    for name, archive in archives.items():
        root = unpack(archive, tmp_path / name)
        (loader,) = (root / "lib64").glob("ld-*") if (root / "lib64").exists() else (root / "lib").glob("ld-*")
        folders = ":".join(str(folder) for folder in (root / "lib").rglob("*") if folder.is_dir())
        inside = [loader, "--library-path", f"{root / 'lib'}:{folders}"]
        listed = subprocess.run([*inside, "--list", root / "bin" / name], check=True, capture_output=True, text=True)
        libraries = [line.split(" => ")[1] for line in listed.stdout.splitlines() if " => /" in line]
        assert libraries
        assert all(os.path.normpath(library).startswith(f"{root}/") for library in libraries), libraries
        # As root in the image itself, which has nothing else.
        chroot = shutil.which("chroot") if os.geteuid() == 0 else None
        command = [chroot, root, f"/bin/{name}"] if chroot else [*inside, root / "bin" / name]
        shown = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True, env={})
        assert shown.stdout.startswith(name), shown.stdout
