"""Small corpora in their published layouts, made by the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile


def sound(path: Path, rate_hz: int = 16000) -> None:
    """A tenth of a second of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).normal(0, 0.1, rate_hz // 10)
    soundfile.write(path, noise, rate_hz)


def text(path: Path, *lines: str) -> Path:
    """A protocol file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def asvspoof2019(root: Path) -> Path:
    """One bona fide and one spoofed file for each part."""
    for part, kind, letter, system in (
        ("train", "trn", "T", "A01"),
        ("dev", "trl", "D", "A05"),
        ("eval", "trl", "E", "A19"),
    ):
        text(
            root / "ASVspoof2019_LA_cm_protocols" / f"ASVspoof2019.LA.cm.{part}.{kind}.txt",
            f"LA_0079 LA_{letter}_1000001 - - bonafide",
            f"LA_0080 LA_{letter}_1000002 - {system} spoof",
        )
        for number in (1, 2):
            sound(root / f"ASVspoof2019_LA_{part}" / "flac" / f"LA_{letter}_100000{number}.flac")
    return root


def asvspoof2021_la(root: Path) -> Path:
    """One progress, one evaluation and one hidden trial."""
    text(
        root / "keys" / "LA" / "CM" / "trial_metadata.txt",
        "LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval",
        "LA_0020 LA_E_6866159 opus loc_tx bonafide bonafide notrim progress",
        "LA_0020 LA_E_5000000 none none A17 spoof trim hidden",
    )
    for name in ("LA_E_9332881", "LA_E_6866159"):
        sound(root / "ASVspoof2021_LA_eval" / "flac" / f"{name}.flac")
    return root


def asvspoof2021_df(root: Path) -> Path:
    """A spoof of ASVspoof, one of a voice conversion challenge, a bona fide file."""
    text(
        root / "keys" / "DF" / "CM" / "trial_metadata.txt",
        "LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress "
        "traditional_vocoder - - - -",
        "TEF2 DF_E_2000013 low_m4a vcc2020 Task1-team20 spoof notrim eval "
        "neural_vocoder_nonautoregressive Task1 team20 FF E",
        "LA_0043 DF_E_2000024 mp3m4a asvspoof bonafide bonafide notrim eval bonafide - - - -",
    )
    for name in ("DF_E_2000011", "DF_E_2000013", "DF_E_2000024"):
        sound(root / "ASVspoof2021_DF_eval" / "flac" / f"{name}.flac")
    return root


def fake_or_real(root: Path) -> Path:
    """One file of each class in each part."""
    for part in ("training", "validation", "testing"):
        for label in ("real", "fake"):
            sound(root / part / label / f"file1_{part}.wav")
    return root


def codecfake(root: Path) -> Path:
    """Training, development and the unseen test, in both languages."""
    text(root / "label" / "train.txt", "p225_001.wav real 0", "F01_p225_001.wav fake 1")
    text(root / "label" / "dev.txt", "SSB00050353.wav real 0", "F06_SSB00050353.wav fake 6")
    text(root / "label" / "C7.txt", "p226_002.wav fake 7")
    for name in ("train/p225_001", "train/F01_p225_001", "dev/SSB00050353", "dev/F06_SSB00050353"):
        sound(root / f"{name}.wav", 24000)
    sound(root / "test" / "C7" / "p226_002.wav")
    return root


def mlaad(root: Path) -> Path:
    """A model that reads text, and the one that copies recordings."""
    rows = {
        "train": ("./fake/en/bark/a.wav", "suno/bark"),
        "dev": ("./fake/de/griffin_lim/b.wav", "griffin_lim"),
        "eval": ("./fake/uk/vits/c.wav", "tts_models/uk/mai/vits"),
    }
    for part, (path, model) in rows.items():
        text(root / f"{part}.csv", "path,model_name", f"{path},{model}")
        sound(root / path, 22050)
    return root


def wavefake(root: Path) -> Path:
    """Two vocoders, the text-to-speech folder and both human originals."""
    for name in (
        "ljspeech_hifiGAN/LJ001-0001_generated.wav",
        "jsut_parallel_wavegan/BASIC5000_0001_gen.wav",
        "common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech/gen_0.wav",
        "LJSpeech-1.1/wavs/LJ001-0001.wav",
        "jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav",
    ):
        sound(root / name, 22050)
    return root


def in_the_wild(root: Path) -> Path:
    """One file of each class."""
    text(
        root / "meta.csv",
        "file,speaker,label",
        "0.wav,Alec Guinness,spoof",
        '4.wav,"Hitchens, Christopher",bona-fide',
    )
    sound(root / "0.wav")
    sound(root / "4.wav")
    return root


TREES = {
    "asvspoof2019_la": asvspoof2019,
    "asvspoof2021_la": asvspoof2021_la,
    "asvspoof2021_df": asvspoof2021_df,
    "fake_or_real": fake_or_real,
    "codecfake": codecfake,
    "mlaad": mlaad,
    "wavefake": wavefake,
    "in_the_wild": in_the_wild,
}
