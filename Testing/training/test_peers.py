"""Training with several processes: the network of one process with the same batch, and one writer."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_loop import NETWORK, SCHEME, SETTINGS, STAGE, blob_cases
from torch_versions import needs_torch
from typed import crop_sampler, typed_stage

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.networks import build_network, output_maps
from H3DELandmarksLib.training.checkpoints import CHECKPOINT, averaged_weights, load_checkpoint
from H3DELandmarksLib.training.loop import CURVE
from H3DELandmarksResearch.training.peers import Peers, SharedTrainer

SCRIPT = Path(__file__).with_name("train_with_peers.py")
ROOT = Path(__file__).resolve().parents[2]
NEVER = (0, -1)
starts_peers = needs_torch("2.3", "crashes in torchrun on Python 3.12, whatever the script")


def train(folder, processes, steps=8, stop=NEVER):
    folder.mkdir(exist_ok=True)
    paths = (ROOT, ROOT / "Testing" / "helpers", SCRIPT.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    words = [str(folder), str(steps), *map(str, stop)]
    command = [sys.executable, *(launch if processes > 1 else []), str(SCRIPT), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def largest_difference(first, second):
    """Of what the two networks compute.

    Their weights differ where nothing depends on them: biases before a normalization, whose gradients are rounding
    errors that Adam makes steps of.
    """
    maps = []
    for folder in (first, second):
        network = build_network(NETWORK["architecture"], NETWORK["settings"])
        network.load_state_dict(averaged_weights(folder / CHECKPOINT))
        network.eval()
        with torch.inference_mode():
            crops = torch.rand(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
            maps.append(output_maps(network(crops))[-1])
    return float((maps[0] - maps[1]).abs().max())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train(folder, 1)
    return folder


@starts_peers
def test_two_processes_end_with_the_network_of_one(alone, tmp_path):
    train(tmp_path / "two", 2)
    assert largest_difference(alone, tmp_path / "two") < 1e-4
    assert load_checkpoint(tmp_path / "two" / CHECKPOINT).progress.step == 8
    rows = [list(csv.DictReader((folder / CURVE).open())) for folder in (alone, tmp_path / "two")]
    assert [row["step"] for row in rows[1]] == ["4", "8"]  # one of the two wrote
    for one, two in zip(*rows):
        assert float(two["loss"]) == pytest.approx(float(one["loss"]), rel=1e-3)


@starts_peers
def test_a_run_that_one_process_stops_goes_on_with_another_number_of_them_to_the_same_network(alone, tmp_path):
    folder = tmp_path / "mixed"
    train(folder, 2, stop=(3, 1))  # the word to stop comes to the process that does not write
    assert {path.name for path in folder.glob("*stopped*")} == {"process-0-stopped-at-3", "process-1-stopped-at-3"}
    train(folder, 1)
    assert (folder / "process-alone-began-at-3").exists()
    assert largest_difference(alone, folder) < 1e-4


def test_each_process_makes_its_own_samples_of_a_batch():
    shares = [list(Peers(rank, 3).numbers(8)) for rank in range(3)]
    assert sorted(sum(shares, [])) == list(range(8)) and max(map(len, shares)) - min(map(len, shares)) <= 1
    with pytest.raises(InputError, match="batch"):
        Peers(0, 3).numbers(2)


def test_normalization_over_batches_is_refused_on_cpus(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    assert Peers().shared(network, torch.device("cpu")) is network
    with pytest.raises(InputError, match="norm"):
        Peers(0, 2).shared(network, torch.device("cpu"))


def test_only_the_first_process_writes(tmp_path):
    cases, shape = blob_cases(2)
    sampler = crop_sampler(STAGE, SCHEME, shape, {})
    pupil = SharedTrainer(
        typed_stage(STAGE, {**SETTINGS, "batch": 2}), sampler, tmp_path, torch.device("cpu"), Peers(1, 1)
    )
    pupil.run(cases[:1], cases[1:])
    assert not (tmp_path / CHECKPOINT).exists() and not (tmp_path / CURVE).exists()
