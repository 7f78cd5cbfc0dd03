"""The speaker generator and its judge through the command line: trained, resumed, judged, published, spoken with."""

import re
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import wandb

from tests.conftest import ROOT
from tests.speech import write_digits
from zoo import from_pretrained, hub
from zoo.cli import main
from zoo.cli.eval import evaluate
from zoo.cli.publish import publish
from zoo.cli.speak import BETWEEN
from zoo.config.composition import check, compose, plain
from zoo.data import audio
from zoo.errors import ZooError
from zoo.models.speaker_generator import SpeakerGenerator
from zoo.training.checkpointing import newest_checkpoint
from zoo.training.loggers import read_metrics
from zoo.training.runs import RunFolder
from zoo.training.train import train

pytestmark = pytest.mark.filterwarnings("ignore")  # the subprocess of the killed run shows them all

COMMON = (
    "logger=csv",
    "trainer.enable_progress_bar=false",
    "trainer.accelerator=cpu",
    "pictures_every_n_epochs=100",
    "checkpoint_every_n_steps=2",
)
SMALL = (
    "model=speaker_generator",
    "data=fsdd",
    "data.speakers=[low,high]",
    "data.mix=[0.7,0.3]",
    "data.labelled=0.1",
    *COMMON,
    "data.batch_size=10",
    "model.speaker_encoder.width=8",
    "model.residual_encoder.width=8",
    "model.decoder.width=8",
    "data.judged=20",
    "epochs=4",
    "seed=3",
)
JUDGE = (
    "model=speech_judge",
    "data.speech.speakers=[low,high]",
    *COMMON,
    "model.classifier.channels=4",
    "data.batch_size=40",
    "epochs=2",
)


def train_here(folder: Path, *options: str) -> RunFolder:
    overrides = [*options, f"run={folder}"]
    config = compose(overrides)
    check(config)
    train(plain(config), folder, command=" ".join(["python scripts/train.py", *overrides]))
    return RunFolder(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("data")
    write_digits(root / "fsdd" / "recordings", {"low": 100.0, "high": 180.0}, takes=11)
    return str(root)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, root) -> Path:
    """A folder of pretrained models that has a judge of these speakers, made by its one command."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_DATA_DIR", root)
        patch.setattr(hub.registry, "resource", lambda name: folder if name == "checkpoints" else ROOT / name)
        run = train_here(folder.parent / "judge", *JUDGE)
        publish(run, "speech_judge.fsdd", [])
    return folder


@pytest.fixture(autouse=True)
def pretrained(monkeypatch, root, checkpoints):
    monkeypatch.setenv("ZOO_DATA_DIR", root)
    monkeypatch.setattr(hub.registry, "resource", lambda name: checkpoints if name == "checkpoints" else ROOT / name)


@pytest.fixture(scope="module")
def run(tmp_path_factory, root, checkpoints) -> RunFolder:
    """A complete small run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_DATA_DIR", root)
        patch.setattr(hub.registry, "resource", lambda name: checkpoints if name == "checkpoints" else ROOT / name)
        return train_here(tmp_path_factory.mktemp("runs") / "one", *SMALL)


def test_a_run_leaves_what_it_promises(run):
    pictures = {path.name for path in run.pictures.iterdir()}
    assert pictures == {"reconstructions.png", "voices.png", "prior.png", "curves.png"}
    sounds = {path.stem for path in run.sounds.iterdir()}
    assert sounds == {"low_real", "low_generated", "high_real", "high_generated", "mean_vector"}
    for path in run.sounds.iterdir():
        sound, rate = audio.read_wav(path)
        assert rate == 8000 and len(sound) > 10 * 1200
    metrics = run.read_results()["metrics"]
    judged = ("digit_accuracy", "code_match", "voices_tv", "first_voice", "hybrid_rate", "entropy")
    expected = {"neg_elbo", "given_speaker", "speaker_kl", "residual_kl", "mcd", "accuracy", "nmi", "codes_in_use"}
    expected |= {"prior_tv", "rarest_code", *(f"{kind}{name}" for kind in ("", "mean_", "real_") for name in judged)}
    assert set(metrics) == {f"test/{name}" for name in expected}
    series = read_metrics(run.metrics)
    assert {"tau", "lr", "val/accuracy", "train/speaker_kl"} <= set(series)


def test_a_stopped_run_ends_in_the_same_bits(run, tmp_path, monkeypatch):
    step = SpeakerGenerator.training_step

    def crash(self, batch, batch_idx):
        if self.global_step == 7:
            raise RuntimeError("the power is off")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power"):
        patch.setattr(SpeakerGenerator, "training_step", crash)
        train_here(tmp_path / "run", *SMALL)
    stopped_at = int(newest_checkpoint(tmp_path / "run" / "checkpoints").stem[5:])
    assert stopped_at == 6 and stopped_at % steps_of_an_epoch(run)  # in mid-epoch
    a, b = (
        torch.load(newest_checkpoint(r.checkpoints), weights_only=True)
        for r in (run, train_here(tmp_path / "run", *SMALL))
    )
    assert a["global_step"] == b["global_step"]
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())


def steps_of_an_epoch(run: RunFolder) -> int:
    return run.read_results()["steps"] // 4


def test_eval_repeats_the_scores(run):
    scores = evaluate(hub.read(run.path), {"trainer.accelerator": "cpu"})
    expected = {name.removeprefix("test/"): value for name, value in run.read_results()["metrics"].items()}
    assert scores.keys() == expected.keys()
    assert all(scores[name] == pytest.approx(expected[name], abs=1e-5) for name in ("mcd", "accuracy", "prior_tv"))


def test_publish_and_speak(run, tmp_path, checkpoints, monkeypatch, capsys):
    folder = publish(run, "speaker_generator.tiny", [])
    card = (folder / "README.md").read_text()
    assert "![Voices](voices.png)" in card and "[Sound: low generated](low_generated.wav)" in card
    assert "licence is not known" in card and "CC BY-SA" not in card and (folder / "mean_vector.wav").is_file()
    output = tmp_path / "x.wav"

    def speak(*arguments):
        monkeypatch.setattr(sys, "argv", ["speak.py", f"checkpoint={folder}", f"output={output}", *arguments])
        main("speak")
        return output.read_bytes(), capsys.readouterr().err

    sampled, said = speak("text=4 0 7", "speaker=sample", "seed=0")
    assert re.search(r"code [01], (low|high): four zero seven", said) and "times real time" in said
    assert speak("four 07", "seed=0")[0] == sampled and speak("text=407", "seed=1")[0] != sampled
    assert speak("407")[0] != speak("407")[0]  # a fresh draw
    _, said = speak("4", "speaker=low:1,high:3", "n=2", "speed=1.5")
    assert said.count("0.25 low, 0.75 high: four") == 2 or said.count("0.75 high, 0.25 low: four") == 2
    speak("4", "speaker=low,low", "seed=3")
    sound = audio.read_wav(output)[0]
    half = sound[: (len(sound) - BETWEEN) // 2]
    assert not torch.equal(half, sound[-len(half) :])  # each of them is another take
    (alone,) = from_pretrained(folder).speak("4", "low", seed=3)
    torch.testing.assert_close(sound[100 : len(alone) - 100], alone[100:-100], atol=1e-3, rtol=0)
    drawn, said = speak("4 0 7")
    assert speak("4 0 7", *re.findall(r"seed=\d+", said))[0] == drawn
    _, said = speak("4", "speaker=low,high")
    assert ", low: four" in said and ", high: four" in said
    speak("4", f"output={tmp_path}/x.flac")
    assert soundfile.info(tmp_path / "x.flac").samplerate == 8000
    low, said = speak("text=407", "speaker=low")
    assert ", low: four" in said and speak("text=407", "speaker=mean")[0] != low
    assert len(audio.read_wav(output)[0]) > 3 * 1200
    for arguments, message in (
        ([], "say which text"),
        (["text= "], "say what to speak"),
        (["text=-4"], "cannot say '-' in '-4'"),
        (["text=407", "n=1000", "speaker=low,low,low,low"], "12000 words in all, and 10000 are the most"),
        (["text=4", f"output={tmp_path}"], "is a directory"),
        (["text=4 plus 7"], "cannot say 'plus'"),
        (["text=4", "speaker=low:x"], "not a share of a voice"),
        (["text=4", "speed=9"], "speed=9 is not valid"),
        (["text=4", f"output={tmp_path}/x.txt"], "must end with .wav, .flac"),
        (["text=4", "speaker=lwo"], "no speaker 'lwo'. Did you mean 'low'"),
        (["text=4", "speaker=9"], "no speaker '9'"),
        (["txet=4"], "no option 'txet'. Did you mean 'text'"),
        (["text="], "text= needs a value"),
        (["--text", "4"], "options are written name=value: text="),
        (["text=4", "seed=-1"], "seed=-1 is not valid"),
        (["text=4", "checkpoint=speech_judge.fsdd"], "does not speak"),
        (["text=4", f"output={folder}/README.md/x.wav"], "cannot write output="),
    ):
        with pytest.raises(SystemExit, match=message):
            speak(*arguments)


def test_sounds_go_to_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = [option for option in SMALL if option not in ("logger=csv", "data.judged=20")]
    run = train_here(tmp_path / "run", *options, "data.judged=0", "epochs=1")
    wandb.teardown()  # whose service other tests' processes would find and use
    assert len(list(run.path.glob("wandb/offline-run-*/files/media/audio/sounds/*.wav"))) == 5


def test_without_a_judge_that_knows_the_speakers_nothing_is_judged(tmp_path, root, checkpoints):
    write_digits(tmp_path / "fsdd" / "recordings", {"low": 100.0, "other": 180.0}, takes=9)
    options = (
        *SMALL,
        f"data.root={tmp_path}",
        "data.speakers=[low,other]",
        "data.batch_size=10",
        "epochs=1",
        "relaxation=softmax",
    )
    metrics = train_here(tmp_path / "run", *options, "model.prior=content").read_results()["metrics"]
    assert "test/accuracy" in metrics and "test/code_match" not in metrics


def test_the_number_of_speakers_follows_the_data():
    for options, speakers in ((["data=fsdd"], 6), ([], 4)):
        model = plain(compose(["model=speaker_generator", *options, "run=x"]))["model"]
        assert model["speakers"] == model["decoder"]["speakers"] == model["speaker_encoder"]["outputs"] == speakers


def test_mistakes_are_found_before_anything_starts(tmp_path):
    for option, message in (
        ("data.mix=[0.5]", "share for each"),
        ("data.labeled=0.01", "Did you mean 'labelled'"),
        ("model.prior=word", "'marginal' or 'content'"),
    ):
        with pytest.raises(ZooError, match=message):
            train_here(tmp_path / "run", *SMALL, option)
        assert not (tmp_path / "run" / "checkpoints").exists()
