"""Run by torchrun from test_peers.py: trains the toy stage of test_loop.py for some steps and writes a checkpoint.

torchrun --nproc-per-node 2 train_with_peers.py FOLDER STEPS STOP_AT RANK_THAT_STOPS
"""

import os
import sys
from pathlib import Path

import torch
from test_loop import SCHEME, SETTINGS, STAGE, blob_cases
from typed import crop_sampler, typed_stage

from H3DELandmarksLib.core.errors import Cancelled
from H3DELandmarksLib.training.loop import stage_trainer


def main(folder: str, steps: str, stop_at: str, stops: str) -> None:
    torch.set_num_threads(1)
    cases, shape = blob_cases(4)
    sampler = crop_sampler(STAGE, SCHEME, shape, {"shift_mm": 4, "noise": 0.02, "truncate": 0.3})
    settings = {**SETTINGS, "steps": int(steps), "batch": 4, "validate_every": 4}
    trainer = stage_trainer(typed_stage(STAGE, settings), sampler, Path(folder), torch.device("cpu"))
    trainer.resume()
    Path(folder, f"process-{os.environ.get('RANK', 'alone')}-began-at-{trainer.step}").touch()

    def watch(step: int) -> None:
        if step == int(stop_at) and trainer.rank == int(stops):
            raise Cancelled("stop")

    try:
        trainer.run(cases[:3], cases[3:], watch=watch)
    except Cancelled:
        Path(folder, f"process-{trainer.rank}-stopped-at-{trainer.step}").touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # threads of gloo that are left now and then abort a program while it ends
