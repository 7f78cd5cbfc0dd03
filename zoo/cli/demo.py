"""Open the playground: see and touch what the models and the estimators do, in the browser.

    zoo demo
    zoo demo port=8000
    zoo demo checkpoint=runs/mine,runs/other        with models of one's own beside those that are shipped

A page on this machine alone; nothing is sent or fetched. It needs the extra demo: pip install
'discrete-latent-zoo[demo]'.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from zoo.cli.arguments import command
from zoo.cli.options import pretrained


def demo(
    checkpoint: Sequence[str] = (),
    *,
    port: Annotated[int, Field(ge=0, le=65535)] = 7860,
    host: str = "127.0.0.1",
    trust: Sequence[str] = (),
) -> None:
    """Serve the playground until Ctrl-C.

    Args:
        checkpoint: models of your own, separated by commas: folders, run folders or checkpoint files.
        port: where it listens; 0 for any that is free.
        host: 127.0.0.1 for this machine alone; 0.0.0.0 lets others in, and nothing asks who they are.
        trust: packages whose classes they may name beside those of this project, such as mypkg: their code runs.

    Raises:
        ZooError: without the extra demo, if a checkpoint cannot be read, or the port is taken.
    """
    from zoo.demo.app import serve

    serve(checkpoint, host=host, port=port, trust=trust)


main = command(demo, text=str(__doc__), notes=pretrained)
