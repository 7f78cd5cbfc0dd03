"""Whether the memory of long runs grows: of each model's run, from step 2,000 to step 10,000.

    python scripts/bench/memory.py                               every model, small
    python scripts/bench/memory.py models=cat_vae,polynomial steps=4000

Each runs as ``scripts/train.py`` runs it, in a process of its own, with validations, pictures, logs and checkpoints,
and with the replay of the actor-critic full by the first of the two steps. What is compared is the median of the
resident memory over a tenth of the steps after the first one and before the last one, as single values go up and down
with what is being drawn. The status is 1 if any grows by 1% or more.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lightning import Callback

LIMIT = 0.01
COMMON = (
    "logger=csv",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "epochs=100000",
    "pictures_every_n_epochs=1",
    "checkpoint_every_n_steps=200",
)
RUNS = {
    "polynomial": ("data.steps=1000",),
    "cat_vae": (
        *("nets=mlp", "data.batch_size=20", "trainer.limit_train_batches=1000", "trainer.limit_val_batches=2"),
        *("trainer.limit_test_batches=1", "model.iwae_samples=2"),
    ),
    "actor_critic": (
        *("model.policy.hidden=[16]", "model.critic.hidden=[16]", "model.batch_size=16", "data.envs=8"),
        *("data.epoch_steps=4000", "data.start=200", "data.replay=1000", "data.eval_episodes=2"),
        "data.test_episodes=2",
    ),
    "world_model": (
        *("model.latents=2", "model.categories=3", "model.memory=8", "model.hidden=8", "model.length=4"),
        *("model.horizon=3", "model.starts=8", "model.batch_size=4", "data.envs=8", "data.epoch_steps=4000"),
        *("data.start=64", "data.eval_episodes=2", "data.test_episodes=2"),
    ),
    "pointer_net": (
        *("model.encoder.width=16", "model.encoder.heads=2", "model.decoder.heads=2", "model.starts=4"),
        *("model.optimizer.warmup_steps=0", "data.size=8", "data.epoch_batches=1000", "data.val_instances=20"),
        *("data.test_instances=20", "data.batch_size=16"),
    ),
    "speech_judge": (
        *("data.speech.speakers=[george,theo]", "model.classifier.channels=4", "data.batch_size=8"),
        "trainer.check_val_every_n_epoch=10",
    ),
    "speaker_generator": (
        *("data=fsdd", "data.speakers=[george,theo]", "data.mix=[0.7,0.3]", "data.batch_size=8", "data.judged=0"),
        *("model.speaker_encoder.width=8", "model.residual_encoder.width=8", "model.decoder.width=8"),
        *("trainer.check_val_every_n_epoch=10", "pictures_every_n_epochs=10"),
    ),
}


class Watch(Callback):
    """Writes the resident memory after each step, in bytes, to a file at the end.

    Args:
        path: of the file: a list of (step, bytes).
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: dict[int, int] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step % 10 == 0:
            self.seen[trainer.global_step] = resident()

    def on_train_end(self, *_: object) -> None:
        Path(self.path).write_text(json.dumps(list(self.seen.items())), encoding="utf-8")


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(model: str, steps: int) -> tuple[float, float]:
    """The resident memory after a fifth of ``steps`` and at their end, in bytes."""
    with tempfile.TemporaryDirectory() as place:
        found = Path(place) / "memory.json"
        words = [f"model={model}", *COMMON, *RUNS[model], f"trainer.max_steps={steps}", f"run={place}/run"]
        words += ["+callbacks.watch._target_=memory.Watch", f"+callbacks.watch.path={found}"]
        script = Path(__file__).parents[1] / "train.py"
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        result = subprocess.run([sys.executable, str(script), *words], env=environment, capture_output=True, text=True)
        if not found.exists():
            sys.exit(f"{model}: {result.stderr or result.stdout}")
        seen = json.loads(found.read_text(encoding="utf-8"))
    tenth = steps / 10
    first = [size for step, size in seen if 2 * tenth <= step <= 3 * tenth]
    last = [size for step, size in seen if 9 * tenth <= step]
    return statistics.median(first), statistics.median(last)


def main(words: list[str]) -> int:
    given = dict(word.split("=", 1) for word in words)
    steps, status = int(given.get("steps", 10_000)), 0
    for model in given["models"].split(",") if "models" in given else RUNS:
        first, last = measure(model, steps)
        growth = last / first - 1
        status |= growth >= LIMIT
        print(
            f"{model:<20} {first / 1e6:8.1f} MB at step {steps // 5}, {last / 1e6:8.1f} MB at step {steps}: "
            f"{100 * growth:+.2f}%",
            flush=True,
        )
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
