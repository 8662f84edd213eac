"""The verb `analyze`: table, windows, pictures, names of all kinds, and readers that leave."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile as sf

from tests.commands.cli import program, streamguard, streamguard_program

ODD_NAMES = {
    "unicode": "Größe 語.wav",
    "newline": "two\nlines.wav",
    "escape": "\x1b[31mred.wav",
    "markup": "[bold] [0] \\[x].wav",
    "no text": os.fsdecode(b"latin-\xfc.wav"),
    "dash": "./-o.wav",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def short(voice: Path, target: str | Path, seconds: float = 2.0) -> Path:
    """The beginning of the voice under another name."""
    samples, rate = sf.read(voice, dtype="int16", frames=round(seconds * 16000))
    with Path(target).open("wb") as file:
        sf.write(file, samples, rate, format="WAV")
    return Path(target)


# In words


def test_the_table_fits_80_columns_and_names_what_was_found(
    small_models: Path, voice: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    short(voice, "short.wav")
    done = streamguard("analyze", "--config", small_models, voice, "short.wav")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert max(len(line) for line in lines[:3]) <= 80
    assert lines[0].split() == "file length speech band verdict LLR p(spoof) windows".split()
    first = lines[1].split()
    assert first[:3] == [voice.name, "6.0", "s"]
    assert first[5:7] == ["wide", "SPOOF"]
    assert first[-3:] == ["7", "of", "7"]
    assert f"{voice.name}: likely technology tts" in done.out
    assert "generator alpha (p " in done.out
    assert "short.wav: shorter than a window of 3 s: scored on the 2 s" in done.out


def test_a_long_name_is_not_cut_where_no_terminal_needs_it(
    small_models: Path, voice: Path, here: Path
) -> None:
    name = "n" * 150 + ".wav"
    short(voice, name)
    assert f"{name}  " in streamguard("analyze", "--config", small_models, name).out


def test_explain_lists_every_window_of_every_channel(
    small_models: Path, voice: Path, here: Path
) -> None:
    samples, rate = sf.read(voice, dtype="int16", always_2d=True)
    sf.write("stereo.wav", samples.repeat(2, axis=1), rate)
    out = streamguard("analyze", "--explain", "--config", small_models, "stereo.wav").out
    assert out.count("3.0 - 6.0") == 2
    assert "windows of stereo.wav [0]" in out
    assert "windows of stereo.wav [1]" in out
    assert "alpha (p " in out


def test_a_file_in_part_is_in_the_table_and_makes_the_exit_code_1(
    small_models: Path, voice: Path, here: Path
) -> None:
    Path("cut.wav").write_bytes(voice.read_bytes()[:130_000])
    done = streamguard("analyze", "--config", small_models, "cut.wav")
    assert done.code == 1
    assert done.err.startswith("streamguard: cut.wav: truncated: only 4.06 s are there")
    assert "cut.wav: scored in part: truncated" in done.out


def test_a_file_in_part_has_its_error_and_what_was_played_in_json(
    small_models: Path, voice: Path, here: Path
) -> None:
    Path("cut.wav").write_bytes(voice.read_bytes()[:130_000])
    done = streamguard("analyze", "--json", "--config", small_models, "cut.wav")
    assert done.code == 1
    found = done.json()
    assert found.keys() == {"file", "error", "partial"}
    assert found["error"].startswith("truncated: ")
    assert found["partial"]["windows"][-1]["end_s"] == 4.0


@pytest.mark.parametrize("kind", ODD_NAMES)
def test_a_file_of_any_name_is_named_verbatim_in_json_and_safely_in_words(
    kind: str, small_models: Path, voice: Path, here: Path
) -> None:
    name = ODD_NAMES[kind]
    short(voice, name)
    found = streamguard("analyze", "--json", "--config", small_models, name).json()
    assert found["file"] == name
    words = streamguard("analyze", "--config", small_models, name, f"missing-{Path(name).name}")
    assert words.code == 1
    assert "missing-" in words.err
    assert "1 of 1" in words.out
    for text in (words.out, words.err):
        text.encode()  # what is no text is escaped
        assert "\x1b" not in text
        assert len([line for line in text.splitlines() if "lines.wav" in line]) <= 2


def test_a_name_is_repeated_as_it_was_given(small_models: Path, voice: Path, here: Path) -> None:
    short(voice, "a.wav")
    for name in ("./a.wav", ".//a.wav", f"../{here.name}/a.wav"):
        found = streamguard("analyze", "--json", "--config", small_models, name).json()
        assert found["file"] == name


# Terminals, pipes, signals


def test_json_goes_to_standard_output_while_the_bar_is_on_the_terminal(
    small_models: Path, voice: Path
) -> None:
    leader, terminal = pty.openpty()
    try:
        done = subprocess.run(
            program("analyze", "--json", "--config", small_models, voice, voice),
            stdout=subprocess.PIPE,
            stderr=terminal,
            timeout=20,
            env={**os.environ, "TERM": "xterm"},
        )
        shown = os.read(leader, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(leader)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert '"verdict"' not in shown
    assert "files" in shown


def test_nothing_is_written_to_standard_error_where_it_is_no_terminal(
    small_models: Path, voice: Path
) -> None:
    done = streamguard_program("analyze", "--json", "--config", small_models, voice, "none.wav")
    assert (done.code, done.err) == (1, "")
    assert [found["file"] for found in done.json_lines()] == [str(voice), "none.wav"]


def test_a_full_disk_behind_standard_output_is_an_error_in_words() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program("version"), stdout=full, stderr=subprocess.PIPE, timeout=20)
    assert (done.returncode, done.stderr) == (1, b"streamguard: No space left on device\n")


def test_a_closed_standard_input_and_the_c_locale_do_no_harm(
    small_models: Path, voice: Path, here: Path
) -> None:
    short(voice, "é.wav")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *program("analyze", "--config", small_models, "é.wav")],
        capture_output=True,
        timeout=20,
        env={**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"1 of 1" in done.stdout


@pytest.mark.parametrize("flags", [("--json",), ()])
def test_a_reader_that_leaves_ends_it_without_a_traceback(
    flags: tuple[str, ...], small_models: Path, voice: Path
) -> None:
    process = subprocess.Popen(
        program("analyze", *flags, "--config", small_models, *[voice] * 3),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert (process.wait(timeout=20), said) == (1, "")


def test_ctrl_c_ends_it_soon_and_without_a_traceback(
    small_models: Path, voice: Path, here: Path
) -> None:
    samples, rate = sf.read(voice, dtype="int16")
    with sf.SoundFile("long.flac", "w", rate, 1) as file:
        for _ in range(600):
            file.write(samples)
    short(voice, "first.wav")
    # Tests in the background of a shell ignore the signal, and so would what they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        program("analyze", "--json", "--config", small_models, "first.wav", "long.flac"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    process.stdout.readline()  # it is at work on the second one
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - started < 10
    assert (process.returncode, out, err) == (1, b"", b"streamguard: interrupted\n")


# Pictures


def test_a_picture_is_drawn_for_each_file(small_models: Path, voice: Path, here: Path) -> None:
    pytest.importorskip("matplotlib")
    Path("a").mkdir()
    Path("b").mkdir()
    files = [short(voice, "a/x.wav"), short(voice, "b/x.wav"), short(voice, "$y^$.wav")]
    done = streamguard("analyze", "--config", small_models, "--plot", "p.png", *files)
    assert (done.code, done.err) == (0, "")
    assert {p.name for p in here.glob("*.png")} == {"p-x.png", "p-x-2.png", "p-_y_.png"}
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in here.glob("*.png"))


def test_a_picture_that_cannot_be_written_is_an_error_in_words(
    small_models: Path, voice: Path, here: Path
) -> None:
    pytest.importorskip("matplotlib")
    Path("folder.png").mkdir()
    done = streamguard("analyze", "--config", small_models, "--plot", "folder.png", voice)
    assert done.code == 1
    assert done.err == "streamguard: folder.png: cannot be written: Is a directory\n"


def test_without_matplotlib_a_picture_is_refused_before_the_work(
    small_models: Path, voice: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = streamguard("analyze", "--config", small_models, "--plot", "p.png", voice)
    assert (done.code, done.out) == (1, "")
    assert "analyze --plot needs the extra 'plot': pip install 'streamguard[plot]'" in done.err
