"""The Free Spoken Digit Dataset: 3,000 recordings of six speakers, by Z. Jackson and others, CC BY-SA 4.0."""

import gzip
import hashlib
import io
import logging
import tarfile
import urllib.request
from pathlib import Path

from zoo.data.sources import DOWNLOAD_TIMEOUT, data_root, keep, socket_timeout
from zoo.data.speech import SpokenDigits
from zoo.errors import ZooError

log = logging.getLogger(__name__)

VERSION = "v1.0.10"  # the first with six speakers
ARCHIVES = (
    f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/{VERSION}.tar.gz",
    f"https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/refs/tags/{VERSION}",
)
SHA256 = "45a9b976ba3397a2fd5c70a9f2e43c34f442a3a6be47392ecfc41174b678f37e"
"""Over name and content of each recording, in the order of names."""
LARGEST = 100_000_000  # bytes of the archive, packed and unpacked


class FSDD(SpokenDigits):
    """The Free Spoken Digit Dataset, from ``<root>/fsdd/recordings`` or else its public archive.

    Licence of the recordings: CC BY-SA 4.0. Arguments: see :class:`zoo.data.speech.SpokenDigits`.
    """

    everyone = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
    judge = "speech_judge.fsdd"
    kept = "fsdd"

    @property
    def notice(self) -> str:  # type: ignore[override]
        if self.place.is_dir() and not is_pinned(self.place):
            return (
                "Trained on recordings of digits that are not those of a public data set; their licence is not known."
            )
        return (
            "Trained on the Free Spoken Digit Dataset (Z. Jackson and others, version 1.0.10), which is CC BY-SA 4.0. "
            "Weights, pictures and sounds here are under the same licence."
        )

    @property
    def place(self) -> Path:
        return data_root(self.root) / "fsdd" / "recordings"

    def folder(self) -> Path:
        return fetch(self.place)


def fetch(folder: Path) -> Path:
    """``folder``, with the recordings of the public archive if there are none in it.

    What is there is compared with the pinned version: other recordings are used, and said to be others.

    Raises:
        ZooError: if they are not available, naming what was tried and where to put the files.
    """
    if any(folder.glob("*.wav")):
        if not is_pinned(folder):
            log.warning(
                "%s has recordings that are not those of %s: their sha256 differs. They are used. For your own take "
                "data=speech_folder, whose models name them.",
                folder,
                VERSION,
            )
        return folder
    tried = []
    for url in ARCHIVES:
        try:
            files = download(url)
        except Exception as error:  # whatever goes wrong with one source, the next may work
            tried.append(f"{url}: {' '.join(str(error).split())}")
            continue
        keep(files, folder)
        if not all((folder / name).is_file() for name in files):
            raise ZooError(f"FSDD cannot be kept in {folder}: point data.root= or ZOO_DATA_DIR at another directory")
        log.info("FSDD: from %s", url)
        return folder
    raise ZooError(
        "FSDD is not available. Tried:\n"
        + "".join(f"  - {line}\n" for line in [f"the data directory {folder}: no wav files", *tried])
        + f"Put the 3,000 wav files of its {VERSION} into {folder}, point data.root= or ZOO_DATA_DIR at a directory "
        "that holds fsdd/recordings, or take data=espeak, which is synthesised on this machine."
    )


def is_pinned(folder: Path) -> bool:
    """Whether the recordings in ``folder`` are those of the pinned version."""
    paths = [path for path in folder.glob("*.wav") if path.is_file()]
    small = sum(path.stat().st_size for path in paths) <= LARGEST
    return small and digest({path.name: path.read_bytes() for path in paths}) == SHA256


def download(url: str) -> dict[str, bytes]:
    """The recordings in the archive at ``url``: name -> content.

    Raises:
        ValueError: if they are not those of the pinned version.
        OSError: if the archive cannot be downloaded.
    """
    with socket_timeout(DOWNLOAD_TIMEOUT), urllib.request.urlopen(url) as answer:
        content = answer.read(LARGEST)
    files = unpack(content)
    if digest(files) != SHA256:
        raise ValueError(f"{len(files)} recordings that are not those of {VERSION}: their sha256 differs")
    return files


def unpack(archive: bytes) -> dict[str, bytes]:
    """The wav files in the folder ``recordings`` of a gzipped tar archive; nothing is written by its paths.

    Raises:
        ValueError: if it unpacks to far more than the archive of the pinned version.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(archive)) as packed:
        content = packed.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it unpacks to more than {LARGEST} bytes")
    files = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            path = Path(member.name)
            wanted = member.isfile() and path.suffix == ".wav" and path.parent.name == "recordings"
            if wanted and (file := tar.extractfile(member)):
                files[path.name] = file.read()
    return files


def digest(files: dict[str, bytes]) -> str:
    """The sha256 over name and content of ``files``, in the order of names."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode())
        total.update(files[name])
    return total.hexdigest()
