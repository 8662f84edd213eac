"""The command: arrays, numbers and a picture of one window, by one network or several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.tools.clips import buzz
from tests.tools.explained import quick_saliency, run_of_chance
from tools.explain import explain_file, main
from tools.explanation.picture import draw, draw_comparison

__all__ = ["quick_saliency"]
pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("quick_saliency"),
]
MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module")
def voice_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("voice") / "voice.wav"
    soundfile.write(file, buzz(2.0), 16000)
    return file


def test_a_window_is_explained_in_arrays_numbers_and_a_picture(
    tmp_path: Path, voice_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of_chance(tmp_path, "lfcc")
    out = tmp_path / "out"
    assert main([str(voice_file), "--at", "1", "--run", str(run), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "not calibrated" in said
    assert "Points at" in said
    assert "kHz" in said
    assert "random weights" in said
    stem = out / "voice-1s-lfcc"
    arrays = np.load(stem.with_name(stem.name + ".npz"), allow_pickle=False)
    assert arrays["shap_bands"].shape == arrays["cam_bands"].shape == (200, 20)
    assert arrays["shap_columns"].shape == arrays["cam_columns"].shape == (200, 20)
    assert arrays["band_edges_hz"].shape == (21,)
    assert arrays["times_s"][0] == pytest.approx(0.005, abs=0.02)
    numbers = json.loads(stem.with_name(stem.name + ".json").read_text())
    assert numbers["features"] == "LFCC"
    assert 0.0 < numbers["speech_share"]["shap"] <= 1.0
    assert [row["layers"] for row in numbers["randomised"]][-1] == "all layers"
    assert stem.with_name(stem.name + ".png").stat().st_size > 20_000


def test_networks_on_several_features_stand_beside_each_other(
    tmp_path: Path, voice_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(voice_file), "--at", "1", "--out", str(tmp_path)]
    for kind in ("mfcc", "gfcc"):
        words += ["--run", str(run_of_chance(tmp_path, kind))]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "| MFCC (mfcc) |" in said
    assert "| GFCC (gfcc) |" in said
    assert (tmp_path / "voice-1s-comparison.png").exists()


def test_titles_stay_inside_the_picture_whatever_a_file_is_called(
    tmp_path: Path, voice_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure, *_: object, **__: object) -> None:
        figure.draw_without_rendering()
        drawn.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    found = explain_file(voice_file, 1.0, run_of_chance(tmp_path, "mfcc"))
    named = replace(found, file="0123456789" * 20 + ".flac", run="abcdefghij" * 20)
    draw(named, tmp_path / "one.png")
    draw_comparison([named, named], tmp_path / "two.png")
    for figure in drawn:
        titles = [text for text in figure.findobj(Text) if "01234" in text.get_text()]
        titles += [text for text in figure.findobj(Text) if "abcde" in text.get_text()]
        assert len(titles) >= 2
        for title in titles:
            box = title.get_window_extent()
            assert box.x0 >= 0
            assert box.x1 <= figure.bbox.x1


def test_a_window_starts_where_its_frames_lie_in_the_file(tmp_path: Path) -> None:
    """A click at a known time is in the loudest frame of the picture at that time."""
    samples = (0.02 * buzz(2.0)).astype(np.int16)
    samples[20000:20080] = 20000
    file = tmp_path / "click.wav"
    soundfile.write(file, samples, 16000)
    found = explain_file(file, 1.0, run_of_chance(tmp_path, "lfcc"))
    loudest = int(found.power.sum(axis=1).argmax())
    assert found.start_s + 0.01 * (loudest + 0.5) == pytest.approx(1.2525, abs=0.0151)


def test_a_bundle_of_another_network_is_refused(tmp_path: Path, voice_file: Path) -> None:
    from streamguard.errors import StreamguardError

    bundle = MODELS / "cnn_lstm" / "bundle"
    if not (bundle / "bundle.yaml").exists():
        pytest.skip("models/cnn_lstm/bundle is not there")
    with pytest.raises(StreamguardError, match="not exported from it"):
        explain_file(voice_file, 1.0, run_of_chance(tmp_path, "lfcc"), str(bundle))


def test_a_window_without_speech_is_not_explained(tmp_path: Path) -> None:
    from streamguard.errors import StreamguardError

    file = tmp_path / "silence.wav"
    soundfile.write(file, np.zeros(48000), 16000)
    with pytest.raises(StreamguardError, match="no speech"):
        explain_file(file, 1.0, run_of_chance(tmp_path, "lfcc"))
