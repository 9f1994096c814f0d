"""The command line where the research package is not installed, as in Slicer: what works, and what says so."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_package

from H3DELandmarksLib.cli.research import ACTIONS, COMMANDS
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.io.images import write_volume
from H3DELandmarksResearch import cli

ROOT = Path(__file__).resolve().parents[2]


# As where it is not installed: it can be neither found nor imported.
MAIN = """
import sys
sys.modules["H3DELandmarksResearch"] = None
from H3DELandmarksLib.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def run(tmp_path):
    """Runs the command line; gives the finished process."""

    def command(*words):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        line = [sys.executable, "-c", MAIN, *map(str, words)]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return command


def test_models_are_listed(run):
    done = run("models", "list")
    assert done.returncode == 0, done.stderr
    assert "mouse-skull" in done.stdout


def test_landmarks_are_detected(run, tmp_path):
    model = write_tiny_package(tmp_path / "tiny").path
    values = np.random.default_rng(0).normal(0, 300, (24, 22, 20)).astype(np.int16)
    write_volume(tmp_path / "scan.nrrd", Volume(values, np.diag([2.0, 2, 2, 1])))
    done = run("detect", tmp_path / "scan.nrrd", "--model", model, "--output", tmp_path / "found")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found" / "scan.mrk.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("phantom", "--seed", "7", "--output", "x"),
        ("phantom", "--help"),
        ("convert", "mml", "a", "b"),
        ("radiographs", "mouse-skull", "x", "--views", "3"),
        ("models", "import-published", "a.ckpt", "--output", "x", "--spacing", "1", "--landmarks", "mml"),
        ("train", "mml", "--output", "x"),
        ("cases", "import", "cases", ".", "--form", "mml"),
        ("models", "install", "a.zip"),
        ("audit", "--help"),
        ("measure", "points.mrk.json"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_is_missing_is_said_in_one_sentence(run, words):
    done = run(*words)
    assert done.returncode == 2
    assert "research package" in done.stderr and "pip install" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_is_said_to_be_missing_is_what_the_research_package_has():
    parser = argparse.ArgumentParser().add_subparsers()
    for command in cli.COMMANDS:
        command.add_parser(parser)
    assert set(parser.choices) == set(COMMANDS)
    for name, modules in cli.ACTIONS.items():
        parser = argparse.ArgumentParser().add_subparsers()
        for module in modules:
            module.add_actions(parser)
        assert set(parser.choices) == set(ACTIONS[name])


def test_an_unknown_command_is_still_wrong_usage(run):
    done = run("phantoms")
    assert done.returncode == 2 and "invalid choice" in done.stderr
