"""Distance from the training data: what it measures, and how it gets into a bundle."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch

from streamguard.audio.frontend import FrontEnd
from streamguard.audio.settings import GateSettings
from streamguard.inference.bundle import load_bundle
from streamguard.verdict.labels import sme
from tests.inference.test_whole_window import WindowEngine, window_network
from tests.tools.test_crops import CLIP
from tests.tools.test_data import HEADER
from tools import ood as ood_tool
from tools.bundle_writer import TensorSpec, read_document, replace_graph, sha256_of
from tools.calibration.conformal import conformal_table, p_values
from tools.data import AudioCache, Clip, DataError
from tools.ood import DistanceOod, add_ood, embeddings, graft
from tools.scoring import blocks

pytestmark = [pytest.mark.train, pytest.mark.timeout(60)]
torch.set_num_threads(1)
LAVA = Path(__file__).parents[2] / "models" / "lava" / "bundle"


def clusters(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes with one covariance, far longer in one direction than in the others."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    spread = np.r_[10.0, np.ones(size - 1)]
    centres = np.zeros((3, size))
    centres[[0, 1, 2], [1, 2, 3]] = 8.0
    return centres[labels] + rng.standard_normal((count, size)) * spread, labels


def distance(ood: DistanceOod, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(ood(torch.from_numpy(x.astype(np.float32)))[:, 0])


@pytest.mark.parametrize("relative", [False, True])
def test_what_lies_between_the_classes_is_farther_than_what_lies_in_them(relative: bool) -> None:
    x, labels = clusters(3000, 8)
    ood = DistanceOod.fit(x, labels, relative=relative)
    inside, _ = clusters(600, 8, seed=1)
    between = inside.copy()
    between[:, 1:4] = np.random.default_rng(2).standard_normal((600, 3)) + 8 / 3
    assert np.median(distance(ood, between)) > np.quantile(distance(ood, inside), 0.95)


def test_an_unusual_voice_is_no_other_class() -> None:
    """Far out where all classes spread alike: the plain distance says strange, the relative one
    does not."""
    x, labels = clusters(3000, 8)
    inside, _ = clusters(600, 8, seed=1)
    unusual = inside.copy()
    unusual[:, 0] = 60.0
    plain, relative = (DistanceOod.fit(x, labels, relative=flag) for flag in (False, True))
    assert np.median(distance(plain, unusual)) > np.quantile(distance(plain, inside), 0.99)
    assert np.median(distance(relative, unusual)) < np.quantile(distance(relative, inside), 0.9)


def test_distances_of_held_out_points_give_uniform_p_values_and_others_small_ones() -> None:
    x, labels = clusters(3000, 8)
    ood = DistanceOod.fit(x, labels, relative=False)
    table = conformal_table(distance(ood, clusters(1000, 8, seed=1)[0]))
    fresh = p_values(table, distance(ood, clusters(2000, 8, seed=2)[0]))
    assert np.mean(fresh < 0.05) == pytest.approx(0.05, abs=0.025)
    far = clusters(200, 8, seed=3)[0]
    far[:, 4:] += 6.0
    assert np.median(p_values(table, distance(ood, far))) < 0.01


def test_a_dimension_that_never_moves_says_nothing() -> None:
    x, labels = clusters(600, 6)
    still = np.concatenate((x, np.zeros((600, 2))), axis=1)
    found = distance(DistanceOod.fit(still, labels), still)
    assert np.isfinite(found).all()


def test_more_dimensions_than_windows_still_make_a_distance() -> None:
    x, labels = clusters(60, 128)
    assert np.isfinite(distance(DistanceOod.fit(x, labels), x)).all()


@pytest.mark.parametrize(("count", "kinds"), [(100, 1), (3, 2)])
def test_too_little_to_fit_on_is_refused(count: int, kinds: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        DistanceOod.fit(np.zeros((count, 4)), np.arange(count) % kinds)


def test_softmax_energy_of_the_package_is_the_texts() -> None:
    logits = np.array([2.0, -1.0, 0.5])
    p = np.exp(logits) / np.exp(logits).sum()
    assert sme(logits) == pytest.approx(-np.log(np.exp(p).sum()))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return shutil.copytree(LAVA, tmp_path / "lava")


def fitted() -> DistanceOod:
    x, labels = clusters(800, 256)
    return DistanceOod.fit(x, labels)


def test_a_grafted_head_says_what_the_module_says_of_its_embedding(bundle: Path) -> None:
    ood = fitted()
    head = load_bundle(bundle).read_graph("head_fp32")
    merged = graft(head, ood)
    inputs = {
        "sums": np.random.default_rng(0).random((3, 512), np.float32) * 3000,
        "count": np.full((3, 1), 3000, np.float32),
    }
    before = onnxruntime.InferenceSession(head).run(None, inputs)
    session = onnxruntime.InferenceSession(merged)
    after = dict(
        zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True)
    )
    assert list(after) == ["technology_logits", "generator_logits", "embedding", "ood"]
    for old, new in zip(before, after.values(), strict=False):
        assert np.array_equal(old, new)
    assert after["ood"][:, 0] == pytest.approx(distance(ood, after["embedding"]), rel=1e-3)
    with pytest.raises(ValueError, match="already"):
        graft(merged, ood)


def test_a_bundle_takes_another_graph_and_forgets_its_calibration(bundle: Path) -> None:
    head = graft(load_bundle(bundle).read_graph("head_fp32"), fitted())
    replace_graph(bundle, "head_fp32", head, (TensorSpec("ood", (1,), "distance"),))
    document = read_document(bundle)
    graph = document["graphs"]["head_fp32"]
    assert graph["sha256"] == sha256_of(bundle / "head_fp32.onnx")
    assert graph["outputs"][-1] == {
        "name": "ood", "dtype": "float32", "shape": ["batch", 1], "meaning": "distance",
    }  # fmt: skip
    assert document["calibration"] == {}
    assert onnx.load(bundle / "head_fp32.onnx").metadata_props == []


def test_a_corpus_without_training_speech_is_refused(bundle: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.ones(16000, np.int16), 16000)
    row = "a.wav,core,spoof,tts,vits,a,anna,en,16000,1.0,,00"
    (tmp_path / "manifest.csv").write_text(f"{HEADER}\n{row}\n")
    split = tmp_path / "split.yaml"
    split.write_text("schema: streamguard.split/1\nsources: {a: validation}\n")
    arguments = [str(bundle), "--data", str(tmp_path), "--split", str(split)]
    with pytest.raises(DataError, match=r"--split.*training"):
        ood_tool.main([*arguments, "--cache", str(tmp_path / "cache")])


def voices() -> tuple[list[Clip], AudioCache]:
    """Two voices of noise bursts, one high and one low; the gate takes them for speech or not."""
    rng = np.random.default_rng(5)
    time = np.arange(4 * 16000) / 16000
    clips, audio = [], []
    for number in range(8):
        kind = ("a", "b")[number % 2]
        pitch = 110.0 + 60 * (number % 2) + 3 * number
        phase = 2 * np.pi * pitch * time + 3 * np.sin(2 * np.pi * 2.7 * time)
        voice = sum(np.sin(k * phase) / k for k in range(1, 20))
        syllables = np.clip(np.sin(2 * np.pi * 3.1 * time + number) + 0.4, 0, 1)
        audio.append((2500 * syllables * voice + rng.normal(0, 20, len(time))).astype(np.int16))
        clips.append(
            replace(CLIP, path=str(number), label="spoof", technology="tts", generator=kind)
        )
    spans = {clip.path: (64000 * n, 64000 * (n + 1)) for n, clip in enumerate(clips)}
    return clips, AudioCache(np.concatenate(audio), spans)


def test_training_windows_go_through_the_bundle_and_their_distance_into_it(bundle: Path) -> None:
    clips, cache = voices()
    add_ood(bundle, clips, cache, per_class=3, relative=True)
    outputs = load_bundle(bundle).manifest.graphs["head_fp32"].outputs
    assert [tensor.name for tensor in outputs][-1] == "ood"


def test_the_embedding_of_a_whole_window_is_of_speech_and_what_follows_it() -> None:
    clips, cache = voices()
    engine = WindowEngine()
    found = embeddings(window_network(engine), clips[:1], cache, "direct")
    assert found.shape == (1, 1)
    front_end = FrontEnd("clip", 0, GateSettings())
    hops = [
        hop for block in blocks(cache.samples(clips[0]), 16000) for hop in front_end.process(block)
    ]
    first = next(hop.index for hop in hops if hop.usable)
    row = np.concatenate([hop.samples for hop in hops[first : first + 6]])
    (window,) = engine.heard
    np.testing.assert_array_equal(window[: len(row)], row)
    assert not window[len(row) :].any()
