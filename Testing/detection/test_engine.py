"""What runs a network: the same function by every way, and a safe way back where one fails."""

import sys

import numpy as np
import pytest
import torch
from scipy import ndimage
from tiny_model import NETWORK, write_tiny_package
from torch import nn

from H3DELandmarksLib.core.errors import InputError
from H3DELandmarksLib.core.geometry import Volume
from H3DELandmarksLib.detection import Detector
from H3DELandmarksLib.detection.decoding import decode_deep_supervision, decode_published_anchor, decode_softmax
from H3DELandmarksLib.detection.engine import (
    MAX_ATTEMPTS,
    PROOFS,
    EngineSettings,
    GatedEngine,
    HalfPrecision,
    TorchEngine,
    make_engine,
    refusal,
    worst_move,
)
from H3DELandmarksLib.formats.network_settings import Network
from H3DELandmarksLib.networks import build_network
from H3DELandmarksLib.networks.arrays import to_array
from H3DELandmarksResearch.engines import openvino_engine
from H3DELandmarksResearch.engines.openvino_engine import (
    OpenVinoEngine,
    load_openvino,
    openvino_installed,
    reads_this_torch,
)

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(
    not (openvino_installed() and reads_this_torch()), reason="openvino is not installed, or PyTorch is too old for it"
)

PLANE = {
    "landmarks": 3,
    "in_channels": 1,
    "dims": [8, 8, 16, 16, 16],
    "heads": [1, 1, 2, 2, 2],
    "n_win": [4, 4, 2, 2],
    "topk": [1, 2, 2, 4],
    "mlp_ratios": [2, 2, 2, 2, 2],
    "neck_dim": 8,
    "image_dim": 4,
}
HEATMAP = {**NETWORK["settings"], "output_stride": 1}
ANCHOR = {**HEATMAP, "head": "anchor", "feature_fusion": True, "super_resolution": True}
CASES = [
    ("h3denet", HEATMAP, (32, 48, 32)),
    ("h3denet", {**HEATMAP, "output_stride": 2}, (45, 33, 39)),
    ("h3denet", ANCHOR, (48, 32, 32)),
    ("h3denet", {**ANCHOR, "feature_fusion": False}, (33, 41, 35)),
    ("hyatt", PLANE, (64, 96)),
    ("han", {**PLANE, "norm": "group"}, (65, 51)),
]


def points(architecture: str, settings: dict, maps) -> np.ndarray:
    if architecture != "h3denet":
        return decode_deep_supervision(maps).index[0]
    if settings.get("head") == "anchor":
        return decode_published_anchor(maps[0][0], 1).index
    return decode_softmax(maps[0][0], settings["output_stride"]).index


def tiny_network(architecture: str, settings: dict, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(architecture, settings).eval()


def anatomy(shape: tuple[int, ...]) -> np.ndarray:
    """A blob of structure in constant air, as scans have it; (1, 1, *shape) float32 in 0..1."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 2) * 3 + 0.5
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.5
    return np.where(inside, np.clip(texture, 0, 1), 0.1).astype(np.float32)[None, None]


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("H3DELandmarks")]


@needs_openvino
@pytest.mark.parametrize(("architecture", "settings", "shape"), CASES)
def test_openvino_computes_the_same_maps_and_points_as_pytorch(architecture, settings, shape, caplog):
    plain = TorchEngine(tiny_network(architecture, settings), CPU)
    engine = OpenVinoEngine(plain)
    first, other = anatomy(shape), anatomy(shape)[:, :, ::-1]
    engine.maps(first)
    assert list(engine.compiled) == [first.shape] and lines(caplog) == []
    for image in (first, other):
        maps, expected = engine.maps(image), plain.maps(image)
        for ours, right in zip(maps, expected, strict=True):
            assert ours.shape == right.shape and ours.dtype == torch.float32
            assert (ours - right).abs().max() < 1e-4
        ours, right = (points(architecture, settings, found) for found in (maps, expected))
        assert np.abs(ours - right).max() < 0.05


@needs_openvino
def test_a_large_field_of_constant_air_costs_no_accuracy():
    settings = {**HEATMAP, "output_stride": 2}
    plain = TorchEngine(tiny_network("h3denet", settings), CPU)
    image = np.full((1, 1, 128, 96, 96), 0.01, np.float32)
    image[:, :, :40, :40, :40] = anatomy((40, 40, 40))
    engine = OpenVinoEngine(plain)
    engine.maps(image)
    assert (engine.maps(image)[0] - plain.maps(image)[0]).abs().max() < 2e-5


@needs_openvino
def test_maps_stay_valid_when_the_next_crop_is_looked_at():
    engine = OpenVinoEngine(TorchEngine(tiny_network("h3denet", HEATMAP), CPU))
    image = anatomy((32, 32, 32))
    engine.maps(image)
    kept = engine.maps(image)[0]
    copy = kept.clone()
    engine.maps(1 - image)
    assert torch.equal(kept, copy)


@needs_openvino
def test_each_input_shape_gets_its_own_conversion():
    plain = TorchEngine(tiny_network("h3denet", HEATMAP), CPU)
    engine = OpenVinoEngine(plain)
    for shape in ((32, 32, 32), (32, 32, 40)):
        engine.maps(anatomy(shape))
        assert torch.allclose(engine.maps(anatomy(shape))[0], plain.maps(anatomy(shape))[0], atol=1e-4)
    assert len(engine.compiled) == 2


@needs_openvino
def test_openvino_takes_as_many_threads_as_pytorch(monkeypatch):
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            engine = OpenVinoEngine(TorchEngine(nn.Conv3d(1, 2, 3).eval(), CPU))
            monkeypatch.setattr(openvino_engine, "output_maps", lambda output: (output,))
            monkeypatch.setattr("H3DELandmarksLib.detection.engine.output_maps", lambda output: (output,))
            engine.maps(anatomy((8, 8, 8)))
            (compiled,) = engine.compiled.values()
            assert compiled.model.get_property("INFERENCE_NUM_THREADS") == threads
            assert compiled.model.get_property("NUM_STREAMS") == 1
    finally:
        torch.set_num_threads(before)


class Simple(nn.Module):
    """A network of one layer whose behaviour under conversion a test chooses."""

    def __init__(self, under_tracing=lambda x: x) -> None:
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 3, padding=1)
        self.under_tracing = under_tracing

    def forward(self, image):
        maps = self.layer(image)
        return (self.under_tracing(maps) if torch.jit.is_tracing() else maps,)


@pytest.fixture
def simple_maps(monkeypatch):
    """Networks of tests return their maps as they are."""
    for module in ("H3DELandmarksResearch.engines.openvino_engine", "H3DELandmarksLib.detection.engine"):
        monkeypatch.setattr(f"{module}.output_maps", tuple)


FAILURES = {
    "an operation that OpenVINO lacks": (lambda x: torch.special.scaled_modified_bessel_k0(x.abs() + 1), "cannot run"),
    "a result that differs": (lambda x: x * 1.01, "differs from PyTorch's"),
    "a result that is no number": (lambda x: x * float("nan"), "differs from PyTorch's"),
}


@needs_openvino
@pytest.mark.parametrize("failure", FAILURES)
def test_after_a_failure_pytorch_goes_on_and_one_line_says_why(failure, caplog, simple_maps):
    under_tracing, message = FAILURES[failure]
    plain = TorchEngine(Simple(under_tracing).eval(), CPU)
    engine = OpenVinoEngine(plain)
    image = anatomy((8, 9, 10))
    for _ in range(3):
        assert torch.equal(engine.maps(image)[0], plain.maps(image)[0])
    (line,) = lines(caplog)
    assert message in line and "continuing with PyTorch" in line and "\n" not in line


@pytest.fixture
def fresh_import():
    load_openvino.cache_clear()
    yield
    load_openvino.cache_clear()


def tiny_engine(**choice):
    weights = {name: to_array(value) for name, value in tiny_network(**NETWORK).state_dict().items()}
    settings = EngineSettings.choose("cpu", **choice)
    return make_engine(Network(**NETWORK), weights, settings, lambda maps: decode_softmax(maps[0][0], 2))


def test_without_openvino_pytorch_runs_and_nothing_is_said(monkeypatch, caplog, fresh_import):
    monkeypatch.setattr(openvino_engine, "find_spec", lambda name: None)
    engine = tiny_engine()
    assert isinstance(engine, TorchEngine) and load_openvino() is None
    assert engine.maps(anatomy((32, 32, 32)))[0].shape == (1, 3, 16, 16, 16)
    assert lines(caplog) == []
    with pytest.raises(InputError, match="pip install openvino"):
        EngineSettings.choose("cpu", "openvino")


@needs_openvino
def test_with_a_broken_openvino_pytorch_runs_and_one_line_says_so(monkeypatch, caplog, fresh_import, simple_maps):
    monkeypatch.setattr(openvino_engine, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "openvino", None)
    for _ in range(2):
        engine = OpenVinoEngine(TorchEngine(Simple().eval(), CPU))
        assert all(engine.maps(anatomy((8, 8, 8)))[0].shape == (1, 2, 8, 8, 8) for _ in range(2))
    (line,) = lines(caplog)
    assert "cannot be loaded" in line


@needs_openvino
def test_openvino_is_never_allowed_to_report_its_use(fresh_import):
    assert load_openvino() is not None
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__.endswith("telemetry_stub")


@needs_openvino
def test_a_detector_finds_the_same_points_with_either_backend(tmp_path):
    package = write_tiny_package(tmp_path / "tiny")
    scan = Volume((anatomy((60, 50, 70))[0, 0] * 2000 - 500).astype(np.int16), np.diag([1.5, 1.5, 2.0, 1.0]))
    expected = Detector(package, device="cpu", backend="torch").detect(scan)
    detector = Detector(package, backend="openvino")
    for _ in range(2):
        assert np.abs(detector.detect(scan).positions - expected.positions).max() < 0.05 * 2.0
    assert detector.networks[0].engine.compiled


def test_names_and_combinations_that_do_not_exist_are_refused(monkeypatch):
    with pytest.raises(InputError, match="abacus"):
        EngineSettings.choose("cpu", "abacus")
    with pytest.raises(InputError, match="quarter"):
        EngineSettings.choose("cpu", "torch", "quarter")
    with pytest.raises(InputError, match="'cpu' instead of 'cuda'"):
        EngineSettings.choose("cuda", "openvino")
    monkeypatch.setenv("H3DE_BACKEND", "torch")
    assert EngineSettings.choose("cpu").backend == "torch"
    assert not EngineSettings.choose("cpu").half and EngineSettings(torch.device("cuda")).half


class Blob:
    """An engine whose one landmark lies where it is told, `strength` being its log-odds of presence."""

    def __init__(self, place: float, strength: float = 20.0) -> None:
        axis = torch.arange(16.0)
        squares = [(axis - center) ** 2 for center in (place, 8, 8)]
        distance = squares[0][:, None, None] + squares[1][:, None] + squares[2]
        self.heat = (strength - distance)[None, None]
        self.calls = 0

    def maps(self, batch: np.ndarray):
        self.calls += 1
        return (self.heat,)


def blob_points(maps):
    return decode_softmax(maps[0][0], 1, radius=3)


CROP = np.zeros((1, 1, 16, 16, 16), np.float32)


def test_the_gate_lets_half_precision_pass_where_points_stay(caplog):
    full, half = Blob(8.0), Blob(8.1)
    gate = GatedEngine(full, half, blob_points)
    for _ in range(PROOFS):
        assert gate.maps(CROP)[0] is full.heat
    assert gate.maps(CROP)[0] is half.heat and full.calls == PROOFS
    assert refusal(gate.moves) is None and lines(caplog) == []


def test_the_gate_refuses_half_precision_that_moves_a_point_with_one_line(caplog):
    full, half = Blob(8.0), Blob(8.4)
    gate = GatedEngine(full, half, blob_points)
    assert all(gate.maps(CROP)[0] is full.heat for _ in range(2 * PROOFS))
    assert half.calls == 1
    (line,) = lines(caplog)
    assert "moves a landmark by 0." in line
    assert refusal(gate.moves) in line


def test_a_landmark_that_is_absent_proves_nothing(caplog):
    full, half = Blob(8.0, strength=-5.0), Blob(3.0, strength=-5.0)
    assert np.isnan(worst_move(blob_points(full.maps(CROP)), blob_points(half.maps(CROP))))
    gate = GatedEngine(full, half, blob_points)
    assert all(gate.maps(CROP)[0] is full.heat for _ in range(MAX_ATTEMPTS + 2))
    assert half.calls == 1 + MAX_ATTEMPTS and "no crop showed a landmark" in lines(caplog)[0]


def test_half_precision_of_pytorch_is_close_to_single_and_returns_it_when_asked():
    plain = TorchEngine(tiny_network("h3denet", HEATMAP), CPU)
    plain.half_type = torch.bfloat16  # CPUs have none of their own
    image = anatomy((32, 32, 40))
    single, half = plain.maps(image)[0], HalfPrecision(plain).maps(image)[0]
    assert 0 < (half.float() - single).abs().max() < 0.05 * single.abs().max()
    assert torch.equal(plain.maps(image)[0], single)


def test_a_number_beyond_the_range_of_half_precision_ends_its_use_with_one_line(caplog, simple_maps):
    plain = TorchEngine(Simple().eval(), CPU)
    plain.half_type = torch.float16
    plain.network.layer.weight.data.fill_(1e5)
    for _ in range(2):
        assert torch.isfinite(HalfPrecision(plain).maps(anatomy((8, 8, 8)))[0]).all()
    assert len(lines(caplog)) == 1 and "range" in lines(caplog)[0]


def test_a_device_without_memory_is_replaced_by_the_cpu_with_one_line(caplog, simple_maps):
    plain = TorchEngine(Simple().eval(), CPU)
    image = anatomy((8, 8, 8))
    expected = plain.maps(image)[0]
    plain.device = torch.device("meta")  # stands for a device that runs out of memory
    plain.network.register_forward_pre_hook(lambda module, inputs: refuse_memory(inputs[0]))
    for _ in range(2):
        assert torch.equal(plain.maps(image)[0], expected)
    assert len(lines(caplog)) == 1 and "ran out of memory" in lines(caplog)[0]


def refuse_memory(image: torch.Tensor) -> None:
    if image.device.type == "meta":
        raise RuntimeError("meta out of memory. Tried to allocate 9.3 GiB.")


@needs_openvino
def test_half_precision_on_this_cpu_is_openvino_s_behind_the_gate():
    engine = tiny_engine(backend="openvino", precision="half")
    if not openvino_engine.fast_bf16():
        assert isinstance(engine, OpenVinoEngine)
        return
    assert isinstance(engine, GatedEngine) and engine.half.precision == "bf16"
    image = anatomy((32, 32, 32))
    engine.half.maps(image)
    ours, right = engine.half.maps(image)[0], engine.full.maps(image)[0]
    assert 1e-6 < (ours - right).abs().max() < 0.1 * right.abs().max()


def test_openvino_says_at_once_that_pytorch_is_too_old(monkeypatch):
    from H3DELandmarksResearch.engines import openvino_engine

    monkeypatch.setattr(openvino_engine.torch, "__version__", "2.2.2+cu121")
    with pytest.raises(InputError, match=r"PyTorch 2\.2\.2"):
        EngineSettings.choose("cpu", "openvino")
