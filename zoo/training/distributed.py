"""Many processes that train together, and what happens when one of them does not answer."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from lightning import Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed
from torch.distributed import distributed_c10d

from zoo import signals
from zoo.errors import ZooError

START_TIMEOUT = 1800.0  # seconds; machines of a cluster do not start at the same moment
FIRST_PROCESS = "ZOO_FIRST_PROCESS"  # the environment variable with its id, for those that it starts


class DDP(DDPStrategy):
    """Lightning's data parallelism, with a time-out.

    Args:
        timeout: seconds for which a process waits for the others in a joint operation, such as averaging gradients.
            Then it ends with an error: one that hangs does not block the rest forever. At the start they have
            half an hour to find each other.
        find_unused_parameters: look in each step for weights that have no part in its loss, such as those of an
            estimator in a phase that does without it.

    Raises:
        ValueError: if ``timeout`` is not positive.
    """

    def __init__(self, *, timeout: float = 600.0, find_unused_parameters: bool = False) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        longest = timedelta(seconds=max(timeout, START_TIMEOUT))
        super().__init__(timeout=longest, find_unused_parameters=find_unused_parameters)
        self.answer_within = timedelta(seconds=timeout)

    def setup_distributed(self) -> None:
        super().setup_distributed()
        set_timeout = getattr(distributed, "set_timeout", None) or distributed_c10d._set_pg_timeout  # its older name
        set_timeout(self.answer_within)


def environment_plugins() -> list[SLURMEnvironment]:
    """For the Trainer: SLURM's own variables, where it started this process.

    Without Lightning's requeueing, which would save in the middle of a step: on SIGTERM a run saves after the step,
    and SLURM itself requeues a job that was submitted with ``--requeue``.
    """
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


@contextmanager
def joint_work(trainer: Trainer) -> Iterator[None]:
    """What the processes of ``trainer`` do together: if one fails, none is left waiting. Afterwards they part.

    Raises:
        ZooError: in place of the errors of a process group whose other processes are gone or do not answer, and of
            PyTorch's about weights that have no gradient.
    """
    if trainer.local_rank == 0:
        os.environ[FIRST_PROCESS] = str(os.getpid())
    try:
        yield
    except BaseException as error:
        if trainer.strategy.launcher is not None and hasattr(trainer.strategy.launcher, "procs"):
            trainer.strategy.launcher.kill(signal.SIGKILL)  # our children; one that hangs answers to nothing else
            # Lightning's watch over them looks every five seconds, and would kill this process, too, while it ends.
            trainer.strategy.launcher.procs.clear()
        if isinstance(error, signals.Stopped) and trainer.local_rank and error.status and is_child():
            error.status = 0
            os.kill(os.getppid(), error.number)  # the first one says it, and ends the others
        if trainer.world_size > 1 and is_of_process_group(error):
            if trainer.local_rank and isinstance(trainer.strategy, DDP):
                end_first_process(trainer.strategy.answer_within.total_seconds())
            raise ZooError(
                f"process {trainer.global_rank} of {trainer.world_size} lost the others: one of them was killed, "
                "failed (see above) or did not answer within trainer.strategy.timeout. The same command resumes the "
                f"run from its last checkpoint. ({' '.join(str(error).split())[:200]})"
            ) from error
        if "parameters that were not used in producing the loss" in str(error):
            raise ZooError(
                "some weights have no part in the loss of this step, which several processes have to know: "
                "trainer.strategy.find_unused_parameters=true"
            ) from error
        raise
    if distributed.is_available() and distributed.is_initialized():
        # Lightning leaves gloo's threads running, and now and then a process that ends with them aborts.
        distributed.destroy_process_group()


def is_child() -> bool:
    """Whether the first process, which started this one, is still there."""
    return os.getppid() == int(os.environ.get(FIRST_PROCESS, 0))


def end_first_process(seconds: float) -> None:
    """Kill the process that started this one if it is still there after ``seconds``: it has lost the others, too, and
    ends by itself, unless it hangs. What other launchers started, they end."""
    deadline = time.monotonic() + seconds
    while is_child() and time.monotonic() < deadline:
        time.sleep(0.1)
    if is_child():
        with suppress(ProcessLookupError):
            os.kill(os.getppid(), signal.SIGKILL)


def is_of_process_group(error: BaseException) -> bool:
    """Whether ``error`` comes from communication between processes; gloo's are plain RuntimeErrors."""
    words = ("gloo", "pair closure", "closed by peer", "reset by peer", "socket closed", "timed out", "broken pipe")
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in words)
    )
