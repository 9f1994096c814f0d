"""The benchmark's own logic: its reference computes what is published, and its arithmetic is right."""

import gc
import json
import math
import re
from dataclasses import asdict

import pytest
import torch
from literal_hyatt import LiteralHyattNet
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import cohort, floor, measure, published_training
from benchmarks.speed.__main__ import merged
from benchmarks.speed.contestants import build_flat, build_literal, build_ours, build_published, crop, settings_of
from benchmarks.speed.goals import GOALS, Goal
from benchmarks.speed.machine import ROOT
from benchmarks.speed.networks import exponent
from benchmarks.speed.plan import full_plan, quick_plan
from benchmarks.speed.published_form import PublishedForm
from benchmarks.speed.report import markdown
from benchmarks.speed.sections import SECTIONS
from benchmarks.speed.training import truth
from benchmarks.speed.worker import main as measure_here
from benchmarks.speed.worker import measure_apart
from H3DELandmarksLib.detection.decoding import decode_published_anchor, decode_published_heatmap

each_head = pytest.mark.parametrize("head", ["anchor", "heatmap"])
MACHINE = {
    "processor": "P",
    "cores": 2,
    "memory_gb": 1,
    "gpu": None,
    "torch": "2",
    "python": "3",
    "commit": "c",
    "date": "d",
    "load_before": 0.0,
}


@pytest.fixture
def small_heap():
    """The benchmark collects garbage before each call: what other modules hold is not looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@each_head
def test_the_published_form_computes_what_the_transcription_says(head):
    literal = build_literal(head, tiny=True).double()
    published = PublishedForm(settings_of(head, tiny=True)).double().take_weights(literal.state_dict())
    image = crop(2, tiny=True).double()
    with torch.inference_mode():
        assert (published(image) - literal(image)).abs().max() < 1e-10


def test_the_published_form_for_radiographs_computes_what_the_transcription_says():
    ours, published = (network.double() for network in build_flat(tiny=True))
    literal = LiteralHyattNet(asdict(ours.config)).double().eval()
    literal.load_state_dict(ours.state_dict())
    image = torch.rand(2, 3, 128, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b in zip(published(image), literal(image)):
            assert (a - b).abs().max() < 1e-10 * b.abs().max()


def test_the_difference_of_radiograph_maps_is_a_share_of_their_range():
    result = measure_apart("flat forward", side=128, tiny=True, budget=0.0, threads=1)
    assert 0 < result["difference_to_range"] < 1e-4
    text = markdown({"radiograph 128 1": result}, MACHINE, "make bench")
    assert "128 x 128" in text and result["machine"]["commit"] in text


def test_weights_of_another_network_are_refused():
    weights = build_ours("anchor", tiny=True).state_dict()
    weights["head.conv.other"] = weights.pop("head.conv.bias")
    with pytest.raises(KeyError, match="head.conv.bias, head.conv.other"):
        PublishedForm(settings_of("anchor", tiny=True)).take_weights(weights)


def test_the_anchor_network_has_the_operations_of_the_published_code():
    works = floor.layer_works(build_published("anchor").to("meta"), crop().to("meta"))  # shapes are enough
    assert sum(work.operations for work in works) / 2e9 == pytest.approx(21.5, abs=0.3)


@each_head
def test_operations_of_the_floor_are_those_that_pytorch_counts(head):
    network, image = build_published(head, tiny=True), crop(tiny=True)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    counted = sum(work.operations for work in floor.layer_works(network, image))
    assert counted == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_the_floor_of_a_layer_is_the_slower_of_computing_and_moving():
    peaks = floor.Peaks(operations=100.0, bytes=10.0)
    works = [floor.Work(operations=200, numbers=1), floor.Work(operations=100, numbers=5)]
    assert floor.least_seconds(works, peaks, 4) == pytest.approx({"computing": 3.0, "moving": 2.4, "floor": 2 + 2})
    assert floor.least_seconds(works, peaks, 2)["moving"] == pytest.approx(1.2)


def test_a_convolution_multiplies_each_output_with_its_kernel_and_moves_input_output_and_weights():
    works = floor.layer_works(torch.nn.Sequential(torch.nn.Conv3d(2, 3, 3, padding=1)), torch.zeros(1, 2, 4, 4, 4))
    assert works == [floor.Work(2 * 3 * 64 * 2 * 27, 2 * 64 + 3 * 64 + 3 * 2 * 27)]


def test_rows_of_anchors_hold_each_cell_within_reach_and_the_offset_to_it():
    index, presence = torch.tensor([[[10.0, 9.0, 8.4], [30.0, 30.0, 30.0]]]), torch.tensor([[1.0, 0.0]])
    table = published_training.anchor_rows(index, presence, (8, 8, 8))
    for rows, radius in zip(table[0], published_training.RADII):
        present = rows[rows[:, 6] == 0]
        expected = [
            cell
            for cell in torch.cartesian_prod(*[torch.arange(8.0)] * 3)
            if ((index[0, 0] / 4 - cell).abs() < radius).all()
        ]
        assert torch.equal(present[:, :3], torch.stack(expected) if expected else present[:0, :3])
        assert torch.allclose(present[:, :3] + present[:, 3:6] * radius, (index[0, 0] / 4).expand(len(present), 3))
        assert (rows[:, 6] == -2).sum() == 1, "one row tells that the second landmark is absent"


def test_the_published_anchor_loss_has_its_five_terms():
    index, presence = truth(1, (64, 64, 32))
    maps = torch.zeros(1, 16, 16, 8, 4, 17)
    rows = published_training.anchor_rows(index, presence, (16, 16, 8))
    offsets = rows[rows[..., 6] >= 0][:, 3:6]
    smooth = torch.nn.functional.smooth_l1_loss(torch.zeros_like(offsets), offsets).item()
    expected = math.log(2) * (1 + 1 / 13 + 0.2 + 0.001) + smooth
    assert published_training.anchor_loss(maps, rows).item() == pytest.approx(expected, rel=1e-5)


def test_the_published_heatmap_loss_of_a_perfect_map_is_zero_and_counts_the_highest_negatives():
    target = published_training.heatmap_targets(torch.tensor([[[8.0, 8.0, 8.0]]]), (20, 20, 20), radius=3.0)
    assert published_training.heatmap_loss(target, target) == 0
    assert (target >= 0).sum() == sum(
        x * x + y * y + z * z <= 9 for x in range(-3, 4) for y in range(-3, 4) for z in range(-3, 4)
    )
    wrong = target.clone()
    wrong[0, 0, 19, 19, 19] = 1.0
    positives = int((target >= 0).sum())
    assert published_training.heatmap_loss(wrong, target).item() == pytest.approx(1.5 / positives, rel=1e-5)


def test_the_published_decoders_agree_with_ours():
    generator = torch.Generator().manual_seed(0)
    anchors = torch.randn(8, 7, 6, 4, 3 + 5, generator=generator)
    assert abs(published_training.decode_anchors(anchors) - decode_published_anchor(anchors, 1).index).max() < 1e-3
    index = torch.tensor([[[15.2, 14.0, 16.7], [20.0, 18.4, 13.0]]])
    maps = published_training.heatmap_targets(index, (40, 36, 32))[0]
    ours = decode_published_heatmap(maps, 1).index
    assert abs(published_training.decode_heatmaps(maps.numpy()) - ours).max() < 0.5


def test_calls_take_turns_and_the_first_round_does_not_count():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "AB"}
    seconds = measure.interleaved(calls, budget=0.0, least=2, most=9)
    assert order == list("AB" * 3) and [len(times) for times in seconds.values()] == [2, 2]


def test_ratios_are_quotients_of_neighboring_times():
    result = measure.compare({"slow": [2.0, 6.0, 30.0], "fast": [1.0, 2.0, 10.0]}, "slow")
    assert result["times_faster"]["fast"] == {"median": 3.0, "least": 2.0, "most": 3.0, "rounds": 3}


def test_memory_of_a_call_is_its_peak_and_not_what_it_keeps():
    def call():
        tensor = torch.ones(50_000_000)
        del tensor

    assert 190 < measure.memory_beyond(call) < 230


def test_growth_is_told_as_a_power_of_the_voxels():
    assert exponent([64, 128, 256], [1.0, 8.0, 64.0]) == pytest.approx(1.0)
    assert exponent([64, 128, 256], [1.0, 64.0, 4096.0]) == pytest.approx(2.0)


def test_growth_with_the_number_of_scans_is_a_power_of_it():
    assert cohort._exponent([4, 16, 64], [4.0, 16.0, 64.0]) == pytest.approx(1.0)
    assert cohort._exponent([4], [4.0]) is None


def test_what_is_measured_later_joins_the_report_and_says_where():
    saved = {"machine": MACHINE, "results": {"a": {"seconds": 1}, "b": {"seconds": 2}}}
    later = MACHINE | {"commit": "later"}
    joined = merged(saved, {"b": {"seconds": 3}, "a": {"error": "no memory"}}, later)
    assert joined["machine"] is MACHINE and joined["results"]["a"] == {"seconds": 1}
    assert joined["results"]["b"] == {"machine": later, "seconds": 3}


def test_a_goal_is_reached_missed_or_not_measured():
    faster = Goal("speed", 3.0, "x", True, lambda results: results["speed"]["x"])
    smaller = faster._replace(at_least=False)
    assert faster.verdict({"speed": {"x": 3.2}}) == (3.2, "yes")
    assert smaller.verdict({"speed": {"x": 3.2}}) == (3.2, "no")
    assert faster.verdict({"speed": {"error": "no memory"}}) == (None, "not measured")


def test_plans_name_sections_that_exist_and_each_result_once():
    for plan in (full_plan("scan.nrrd"), quick_plan("scan.nrrd")):
        assert len({measurement.key for measurement in plan}) == len(plan)
        assert {measurement.section for measurement in plan} <= SECTIONS.keys()
        json.dumps([measurement.settings for measurement in plan])


def test_a_failed_measurement_is_told_and_not_a_figure():
    failed = measure_apart("forward memory", head="anchor", contestant="nobody", threads=1)
    assert "nobody" in failed["error"]
    text = markdown({"memory anchor ours": failed}, MACHINE, "make bench")
    assert "memory anchor ours: KeyError: 'nobody'" in text and text.count("not measured") >= len(GOALS)


def test_a_run_of_tiny_networks_fills_the_tables(tmp_path, small_heap):
    """The peak of memory in a process of its own, as in a run; the rest in this one, which has PyTorch already."""
    here = ("forward anchor 1", "decoding anchor", "floor 1")
    plan = {m.key: m for m in quick_plan("unused") if m.key in (*here, "memory anchor ours")}
    memory = plan.pop("memory anchor ours")
    results = {memory.key: measure_apart(memory.section, **memory.settings)}
    threads = torch.get_num_threads()
    try:
        for key, measurement in plan.items():
            measure_here(measurement.section, json.dumps(measurement.settings), str(tmp_path / key))
            results[key] = json.loads((tmp_path / key).read_text())
    finally:
        torch.set_num_threads(threads)
    assert len(results) == 4 and not [r for r in results.values() if "error" in r]
    text = markdown(results, MACHINE, "make bench BENCH_ARGUMENTS=--quick")
    assert "## Forward pass" in text and "GFLOP/s" in text and "What failed" not in text


def test_the_gpu_part_runs_on_any_device(small_heap):
    result = floor.gpu(tiny=True, device="cpu", side=64, megabytes=1, budget=0.0)
    for head in ("anchor", "heatmap"):
        assert len(result["heads"][head]["seconds"]) == 4 and result["floors"][head]["float32"]["floor"] > 0


def test_time_in_functions_that_call_one_another_counts_once():
    import cProfile

    from benchmarks.speed.detection import seconds_in
    from H3DELandmarksLib.core.geometry import Volume, canonical

    volume = Volume(torch.zeros(64, 64, 64).numpy(), torch.diag(torch.tensor([-1.0, 1, 1, 1])).numpy())
    profile = cProfile.Profile()
    profile.runcall(lambda: [canonical(volume) for _ in range(20)])
    outer = seconds_in(profile, "canonical", "geometry.py")
    assert outer > 0 and seconds_in(profile, "canonical|_closest_axes", "geometry.py") == pytest.approx(outer)
    assert seconds_in(profile, "canonical", "detection/") == 0


def test_every_row_of_the_profile_is_a_function_of_the_library():
    from benchmarks.speed.detection import PARTS, STAGES

    files = list((ROOT / "H3DELandmarksLib").rglob("*.py"))
    for function, place in (STAGES | PARTS).values():
        sources = [path.read_text(encoding="utf-8") for path in files if re.search(place, path.as_posix())]
        assert any(re.search(rf"def {function}\(", source) for source in sources), function
