"""The playground as a page in the browser, and as a Space of Hugging Face.

Gradio, because Spaces run it, because its controls have labels and obey the keyboard, and because it queues and streams
what takes longer. What it would send or fetch is switched off: its statistics of use, the fonts of its themes, links.
The page may load nothing from anywhere else in any case: a header tells the browser so (``Content-Security-Policy``).

In a Space this file is the ``app_file``; ``GRADIO_SERVER_NAME`` and ``GRADIO_SERVER_PORT``, which a Space sets, say
where it listens.
"""

import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from zoo import signals
from zoo.demo import acting, choosing, drawing, editing, pointing, softmax_or_gumbel, training, voices
from zoo.demo.shared import UPLOAD, Shelf
from zoo.errors import ZooError, cause

HERE, PORT = "127.0.0.1", 7860
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
TITLE = "The discrete-latent zoo: a playground"
CONTRAST = {
    "body_text_color_subdued": "#59606e",
    "body_text_color_subdued_dark": "#b4bbc8",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
}
"""Of what the theme writes in grey and on blue: 4.5 to 1 and more."""
SESSIONS = 40
"""Calls that wait, at most; whoever comes later is told to try again."""


def gradio() -> Any:
    """The module, which sends nothing.

    Raises:
        ZooError: without the extra ``demo``.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio as gr
    except ImportError as error:
        raise ZooError(
            f"the playground needs Gradio ({error}): pip install 'discrete-latent-zoo[demo]' "
            "(or, in a checkout, pip install -e '.[demo]')"
        ) from error
    return gr


def build(shelf: Shelf) -> Any:
    """The page: a list of tabs."""
    gr = gradio()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        tabs = {
            "Softmax or Gumbel?": lambda: softmax_or_gumbel.build(gr),
            "A code you can edit": lambda: editing.build(gr, shelf),
            "Watch it point": lambda: pointing.build(gr, shelf),
            "Whose voice?": lambda: voices.build(gr, shelf),
            "Watch it act": lambda: acting.build(gr, shelf),
            "What they choose": lambda: choosing.build(gr, shelf),
            "Train a little": lambda: training.build(gr, blocks),
        }
        gr.Markdown("# When is a softmax enough, and when does Gumbel noise pay?")
        for name, fill in tabs.items():
            with gr.Tab(name):
                fill()
    return blocks.queue(max_size=SESSIONS, default_concurrency_limit=2)


class KeepToItself:
    """Middleware that tells the browser to load nothing from elsewhere."""

    HEADERS = ((b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer"))

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)


def application(shelf: Shelf) -> Any:
    """The page as an ASGI application."""
    gr = gradio()
    from fastapi import FastAPI

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(KeepToItself)
    fonts = ["system-ui", "sans-serif"]
    return gr.mount_gradio_app(
        app,
        build(shelf),
        path="/",
        theme=gr.themes.Base(font=fonts, font_mono=["ui-monospace", "monospace"]).set(**CONTRAST),
        css=drawing.STYLE,
        footer_links=[],
        run_history=False,
        max_file_size=UPLOAD,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
    )


def serve(checkpoints: Sequence[str] = (), *, host: str = HERE, port: int = PORT, trust: Sequence[str] = ()) -> None:
    """Serve the page until it is stopped.

    Args:
        checkpoints: models to show beside those that are shipped.
        host: where it listens.
        port: the same.
        trust: packages whose classes the models may name.

    Raises:
        ZooError: without Gradio, if a model cannot be read, or the port is taken.
    """
    gradio()
    import torch

    torch.set_num_threads(1)  # a session each, not a thread each
    app = application(Shelf(checkpoints, trust))
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ZooError(f"cannot listen at {host}:{port}: {cause(error)}; give another, such as port=0") from error
        shown = f"[{host}]" if ":" in host else host
        print(f"The playground is at http://{shown}:{listener.getsockname()[1]} until Ctrl-C.", flush=True)
        run(app, listener)


def run(app: Any, listener: socket.socket) -> None:
    """Serve until a signal, which is then raised as everywhere in this project: the library would send it once more.

    Raises:
        Stopped: for the signal.
    """
    import uvicorn

    class Server(uvicorn.Server):
        told = 0

        def handle_exit(self, sig: int, frame: Any) -> None:
            self.told = self.told or sig
            super().handle_exit(sig, frame)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            before = {number: signal.signal(number, self.handle_exit) for number in signals.NAMES}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    server = Server(config)
    server.run(sockets=[listener])
    if server.told:
        raise signals.Stopped(server.told)


if __name__ == "__main__":
    with suppress(signals.Stopped):
        serve(host=os.environ.get("GRADIO_SERVER_NAME", HERE), port=int(os.environ.get("GRADIO_SERVER_PORT", PORT)))
