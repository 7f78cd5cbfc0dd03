"""Recordings of one's own through the commands: two voices, four texts, five formats, and bad files among them."""

from pathlib import Path

import pytest
import soundfile
import torch

from tests.cli.test_speaker_generator import COMMON, train_here
from tests.data.test_recordings import BAD, write
from zoo import hub
from zoo.cli import main
from zoo.cli.publish import publish
from zoo.data.espeak import run_worker
from zoo.models.speaker_generator import SpeakerGenerator

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FORMATS = (("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", None), ("ogg", None), ("mp3", None))
TEXTS = ("hello", "good_morning", "forty", "two")
VOICES = {"anna": "en-us+f2", "ben": "en-us+klatt2"}
TAKES = 7
SMALL = (
    "model=speaker_generator",
    "data=speech_folder",
    *COMMON,
    "data.batch_size=10",
    "model.speaker_encoder.width=8",
    "model.residual_encoder.width=8",
    "model.decoder.width=8",
    "epochs=24",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("spoken")
    words = [
        {"name": f"{name}+{text}_{take}.wav", "voice": voice, "text": text.replace("_", " "), "pitch": 50, "range": 50}
        | {"rate": 150 + 8 * take}
        for name, voice in VOICES.items()
        for text in TEXTS
        for take in range(TAKES)
    ]
    run_worker({"folder": str(place), "words": words})
    root = tmp_path_factory.mktemp("mine")
    for i, path in enumerate(sorted(place.iterdir())):
        sound, rate = soundfile.read(path, dtype="float32")
        speaker, _, name = path.stem.partition("+")
        suffix, kind = FORMATS[i % len(FORMATS)]
        sounds = torch.from_numpy(sound)
        stereo = torch.stack([sounds, sounds], 1) if i % 2 else sounds
        write(root / speaker / f"{name}.{suffix}", stereo, rate, **({"subtype": kind} if kind else {}))
    for i, (name, (sound, damage, _)) in enumerate(BAD.items()):
        path = root / "ben" / f"hello_{100 + i}{Path(name).suffix}"
        path.touch()
        if path.suffix != ".mp3":
            write(path, sound, **({"subtype": "FLOAT"} if name == "nan.wav" else {}))
        if damage:
            damage(path)
    return root


@pytest.mark.parametrize("kind", ["decoder", "sampler"])
def test_own_recordings_are_trained_on_spoken_with_and_published(kind, root, tmp_path, monkeypatch, capsys):
    drawn = "model.sampler={_target_:zoo.models.speaker_generator.FlowSampler,speakers:2,width:8}"
    options = [drawn] if kind == "sampler" else ["data.name=two made-up voices", "data.licence=CC0"]
    run = train_here(tmp_path / "run", *SMALL, f"data.root={root}", *options)
    printed = capsys.readouterr().err
    assert f"{len(BAD)} of {len(VOICES) * len(TEXTS) * TAKES + len(BAD)} recordings are bad" in printed
    metrics = run.read_results()["metrics"]
    assert metrics["test/accuracy"] >= 0.9 and ("test/flow" in metrics) == (kind == "sampler")
    monkeypatch.setattr(
        hub.registry,
        "resource",
        lambda name, before=hub.registry.resource: tmp_path / name if name == "checkpoints" else before(name),
    )
    folder = publish(run, "speaker_generator.mine", [])
    card = (folder / "README.md").read_text()
    assert "Free Spoken Digit" not in card and str(root) not in card
    if kind == "decoder":
        assert "two made-up voices (2 speakers), whose licence is: CC0" in card
    model = hub.from_pretrained(folder)
    assert isinstance(model, SpeakerGenerator) and model.words == ["forty", "good morning", "hello", "two"]
    output = tmp_path / "x.flac"
    monkeypatch.setattr(
        "sys.argv", ["zoo", "speak", str(folder), "Hello! Good morning, 42.", "n=2", f"output={output}"]
    )
    main()
    assert capsys.readouterr().err.count("hello good morning forty two") == 2
    assert soundfile.info(output).duration > 1
    monkeypatch.setattr("sys.argv", ["zoo", "speak", str(folder), "goodbye", f"output={output}"])
    with pytest.raises(SystemExit, match="cannot say 'goodbye'"):
        main()
