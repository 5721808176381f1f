"""What is installed: the wheel holds all of conf/, the editable install leads to the checkout; both run anywhere."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONF = sorted(path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").rglob("*.yaml"))

build = pytest.importorskip("hatchling.build")
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")


def python(code: str, path: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run Python code in a folder, with `path` in front of everything that is installed."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return folder / build.build_wheel(str(folder))


def test_the_wheel_holds_the_package_and_all_of_conf(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        packed = sorted(name.removeprefix("qexp/conf/") for name in names if name.startswith("qexp/conf/"))
        assert packed == CONF
        assert archive.read("qexp/conf/train.yaml") == (ROOT / "conf" / "train.yaml").read_bytes()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "qexp").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "qexp/report/templates").iterdir()}
    assert templates == {f"qexp/report/templates/page.{kind}" for kind in ("html", "css", "js")}
    assert templates <= names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"qexp"}


def test_the_wheel_installs_the_command_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "qexp = qexp.cli.main:main" in archive.read(entry).decode()
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    for line in ("License-Expression: Apache-2.0", "Requires-Python: >=3.11", "Requires-Dist: torch>=2.10"):
        assert line in text


AWAY = """
import sys
import qexp
from pathlib import Path
from qexp.cli.main import main
from qexp.config.places import conf_dir
print(Path(qexp.__file__).parent, conf_dir())
assert main(["train", "--cfg", "job", "quantizer=dqa", "dataset=cifar10"]) == 0
assert main(["train", "--help"]) == 0
"""
DRY = (
    AWAY
    + """
assert main(["train", "--dry-run", "-m", "quantizer=ste,daq", "bits=2"]) == 0
"""
)


@pytest.mark.process
def test_the_wheel_runs_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    done = python(DRY, tmp_path / "site", tmp_path / "work")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{tmp_path}/site/qexp {tmp_path}/site/qexp/conf"
    assert "  _target_: qexp.quantizers.dqa.DQA" in lines
    assert "quantizer: br, daq, dqa, dropbits, fp, rq, srq, ste" in done.stdout
    assert lines[-5:-1:2] == ["quantizer=ste bits=2", "quantizer=daq bits=2"]
    assert lines[-1] == "2 jobs; nothing was created"
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.process
def test_the_editable_install_leads_to_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = build.build_editable(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as archive:
        (pointer,) = (entry for entry in archive.namelist() if entry.endswith(".pth"))
        place = Path(archive.read(pointer).decode().strip())
    assert place == ROOT
    (tmp_path / "work").mkdir()
    done = python(AWAY, place, tmp_path / "work")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{ROOT}/qexp {ROOT}/conf"
    assert list((tmp_path / "work").iterdir()) == []


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = build.build_sdist(str(tmp_path))
    with tarfile.open(tmp_path / name) as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))  # from 3.11.4
    monkeypatch.chdir(tmp_path / name.removesuffix(".tar.gz"))
    again = build.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / again) as one, zipfile.ZipFile(wheel) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
    assert Path("tests", "package", "test_packaging.py").is_file()
