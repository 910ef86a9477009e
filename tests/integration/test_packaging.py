"""The files that run the program elsewhere: containers, their composition, a systemd unit. No engine is needed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from monolith.settings import Settings
from monolith.settings_loading import variable
from tests.program import free_port

ROOT: Final = Path(__file__).parents[2]
UNIT: Final = ROOT / "packaging" / "systemd" / "video-analysis.service"
OURS: Final = ("program", "copy", "gpu")
INSTALLED: Final = "/opt/video-analysis"
"""Where the Dockerfile and the unit have the program."""
_KNOWN: Final = {variable(name) for name in Settings.model_fields}
_DEFAULT: Final = re.compile(r"\$\{(\w+):-([^}]*)\}")
_SETTING: Final = re.compile(r"VIDEO_ANALYSIS_\w+")


def compose() -> dict[str, Any]:
    """With the values that its variables have where nobody sets them; as Compose does it, put into the texts."""
    document: dict[str, Any] = _told(
        yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    )
    return document


def _told(value: Any) -> Any:
    if isinstance(value, str):
        return _DEFAULT.sub(r"\2", value)
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items()}
    return [_told(one) for one in value] if isinstance(value, list) else value


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def against_the_specification(path: Path) -> subprocess.CompletedProcess[str]:
    """The JSON schema of the Compose Specification is a part of the checker."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Instruction:
    def __init__(self, parsed: dict[str, Any]) -> None:
        self.name: str = parsed["instruction"]
        self.value: str = parsed["value"]


def dockerfile() -> list[Instruction]:
    parser = DockerfileParser(path=str(ROOT / "Dockerfile"), cache_content=True)
    return [Instruction(one) for one in parser.structure if one["instruction"] != "COMMENT"]


def values(name: str) -> list[str]:
    return [one.value for one in dockerfile() if one.name == name]


def test_the_composition_is_what_the_specification_asks_for(tmp_path: Path) -> None:
    checked = against_the_specification(ROOT / "docker-compose.yml")
    assert checked.returncode == 0, checked.stdout
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text("services: {program: {image: x, prots: ['80:80']}}")
    assert "prots" in against_the_specification(wrong).stdout


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="Docker Compose is not installed")
def test_compose_itself_takes_it() -> None:
    command = ["docker-compose", "--profile", "copies", "--profile", "gpu", "config", "--quiet"]
    version = subprocess.run(["docker-compose", "version"], capture_output=True, text=True, check=False)
    if version.returncode != 0 or " v2." not in version.stdout:
        pytest.skip("not a Docker Compose of these days")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_composition_refers_to_is_there() -> None:
    document = compose()
    for name, service in services().items():
        assert set(service.get("depends_on", {})) <= set(services()), name
        named = {volume.split(":")[0] for volume in service.get("volumes", ())}
        assert named <= set(document["volumes"]), name
        assert all("healthcheck" in services()[other] for other in service.get("depends_on", {})), name
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "build" in service or not service["image"].endswith(":latest"), name


def test_copies_share_one_folder_and_nothing_else_of_their_own() -> None:
    for name in OURS:
        service = services()[name]
        assert "shared:/shared" in service["volumes"]
        assert service["environment"]["VIDEO_ANALYSIS_SHARED_DIR"] == "/shared"
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert [name for name in OURS if "data:/data" in services()[name]["volumes"]] == ["program"]
    assert [name for name in OURS if "ports" in services()[name]] == ["program"]
    assert services()["gpu"]["profiles"] == ["gpu"]
    [device] = services()["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_a_service_are_right_ones(name: str) -> None:
    environment = services()[name]["environment"]
    given = {
        key.removeprefix("VIDEO_ANALYSIS_").lower(): value
        for key, value in environment.items()
        if key.startswith("VIDEO_ANALYSIS_")
    }
    settings = Settings.model_validate(given)
    assert settings.kurrentdb_uri.get_secret_value().startswith("kurrentdb://kurrentdb:2113")
    assert settings.rabbitmq_url.get_secret_value().endswith("@rabbitmq:5672/")


def test_nobody_else_can_reach_it_unless_the_env_file_says_so() -> None:
    assert all(port.startswith("127.0.0.1:") for port in services()["program"]["ports"])
    assert not any("ports" in services()[name] for name in ("kurrentdb", "rabbitmq"))


def test_the_env_file_names_what_the_composition_asks_for() -> None:
    asked = {name for name, _ in _DEFAULT.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))}
    lines = (ROOT / "compose.env.example").read_text(encoding="utf-8").splitlines()
    told = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert told == asked


def test_the_image_is_built_from_files_that_are_there() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        source for value in values("COPY") if not value.startswith("--from") for source in value.split()[:-1]
    ]
    assert len(sources) >= 5
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed, f"the builder does not get {source}"


def test_the_image_runs_a_command_that_there_is_as_nobody_of_importance() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    [entry], [command] = values("ENTRYPOINT"), values("CMD")
    assert json.loads(entry)[0] in scripts
    help_text = subprocess.run(
        [sys.executable, "-m", "monolith", *json.loads(command), "--help"], capture_output=True, check=False
    )
    assert help_text.returncode == 0
    assert values("USER") == ["10001:10001"]
    assert len(values("FROM")) == 2
    assert not any(
        image.partition(":")[2] in ("", "latest") for image in values("FROM") if " AS " not in image
    )


@pytest.mark.parametrize("path", ["Dockerfile", "docker-compose.yml", str(UNIT.relative_to(ROOT))])
def test_only_settings_that_there_are_are_named(path: str) -> None:
    named = set(_SETTING.findall((ROOT / path).read_text(encoding="utf-8")))
    assert named and named <= _KNOWN


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """As it is installed, but for where the program lies."""
    text = UNIT.read_text(encoding="utf-8")
    assert text.count(f"{INSTALLED}/bin/video-analysis") == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace(f"{INSTALLED}/bin/video-analysis", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, about_it) == (0, [])


def test_the_unit_gives_the_program_time_to_end() -> None:
    text = UNIT.read_text(encoding="utf-8")
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(seconds) > Settings().shutdown_deadline
    assert "Type=notify" in text and "KillMode=mixed" in text
    grace = services()["program"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings().shutdown_deadline


def build_commands() -> Iterator[str]:
    """What the Dockerfile runs in its first stage."""
    for one in dockerfile()[1:]:
        if one.name == "FROM":
            return
        if one.name == "RUN":
            yield one.value


@pytest.mark.full
def test_the_commands_of_the_image_build_a_program_that_runs(tmp_path: Path) -> None:
    """In a folder that has only what the Dockerfile copies, with packages from the index."""
    build, installed, data = tmp_path / "build", tmp_path / "installed", tmp_path / "data"
    build.mkdir()
    for value in values("COPY"):
        if not value.startswith("--from"):
            for source in value.split()[:-1]:
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, build / source)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in build_commands():
        subprocess.run(
            command.replace(INSTALLED, str(installed)), shell=True, cwd=build, env=environment, check=True
        )
    port = free_port()
    environment |= {"VIDEO_ANALYSIS_DATA_DIR": str(data), "VIDEO_ANALYSIS_PORT": str(port)}
    [entry], [command] = values("ENTRYPOINT"), values("CMD")
    [health] = values("HEALTHCHECK")
    check = json.loads(health.partition(" CMD ")[2].replace(":8000/", f":{port}/"))
    server = subprocess.Popen(
        [str(installed / "bin" / json.loads(entry)[0]), *json.loads(command)],
        cwd=tmp_path, env={**environment, "VIDEO_ANALYSIS_RTMP_PORT": "0"},
    )  # fmt: skip
    try:
        healthy = None
        for _ in range(120):
            healthy = subprocess.run(
                [str(installed / "bin" / check[0]), *check[1:]], capture_output=True, check=False
            )
            if healthy.returncode == 0 or server.poll() is not None:
                break
            time.sleep(0.5)
        assert server.poll() is None
        assert healthy is not None and healthy.returncode == 0
    finally:
        server.terminate()
        server.wait(30)
