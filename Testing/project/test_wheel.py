"""What pip installs: the command line finds models and the sample outside a checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder that a wheel of the project's files was installed into, and the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in names.split("\0"):
        is_packed = name.startswith(("H3DELandmarksLib/", "H3DELandmarksResearch/", "Resources/")) or "/" not in name
        if is_packed and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder / "site", wheel


def run(site, folder, *words):
    """Run the installed command line; nothing of the checkout is on the path."""
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); from H3DELandmarksLib.cli.main import main; sys.exit(main())"
    )
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_wheel_holds_no_other_top_level_names(installed):
    with zipfile.ZipFile(installed[1]) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"H3DELandmarksLib", "H3DELandmarksResearch"}


def test_installed_models_are_listed_and_intact(installed, tmp_path):
    listed = run(installed[0], tmp_path, "models", "list")
    assert listed.returncode == 0, listed.stderr
    for model in (ROOT / "Resources" / "Models").iterdir():
        assert model.name in listed.stdout
    verified = run(installed[0], tmp_path, "models", "verify")
    assert verified.returncode == 0, verified.stderr


def test_the_demo_runs_where_pip_installed_it(installed, tmp_path):
    done = run(installed[0], tmp_path, "demo", "--output", "demo-output")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "demo-output").glob("*.mrk.json"))
    told = run(installed[0], tmp_path, "report", "demo-output", "--output", "report.html", "--points-only")
    assert told.returncode == 0, told.stderr
    assert "mandibular-molar-phantom" in (tmp_path / "report.html").read_text(encoding="utf-8")
