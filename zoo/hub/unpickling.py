"""Checkpoints read as data: nothing in one is run, and nothing is unpacked before its size is known.

The format is that of ``torch.save``: a zip archive, not compressed, with a pickle of plain containers and, a file each,
the numbers of the tensors. What a checkpoint of this project needs of pickle is little, and all else is refused by name
before anything is made of it.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

P: Any = pickle
OPERATIONS = (
    *(
        P.PROTO,
        P.STOP,
        P.MARK,
        P.BINPUT,
        P.LONG_BINPUT,
        P.BINGET,
        P.LONG_BINGET,
        P.BINPERSID,
        P.GLOBAL,
        P.REDUCE,
        P.BUILD,
    ),
    *(P.NONE, P.NEWTRUE, P.NEWFALSE, P.BININT, P.BININT1, P.BININT2, P.LONG1, P.BINFLOAT, P.BINUNICODE),
    *(P.EMPTY_TUPLE, P.TUPLE, P.TUPLE1, P.TUPLE2, P.TUPLE3, P.EMPTY_LIST, P.APPEND, P.APPENDS),
    *(P.EMPTY_DICT, P.SETITEM, P.SETITEMS),
)
"""Of pickle's second protocol, which ``torch.save`` writes."""
PICKLE = 3_000_000  # bytes: a hundred times that of the largest model here, and objects of it fill 200 MB at most
ENTRIES = 100_000  # files in the archive
TIMES, SPARE = 8, 10_000_000
"""Tensors may share their numbers, so that together they are larger than the file: so many times, and bytes."""
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
"""What ``torch.save`` calls the numbers of a tensor."""
GLOBALS = (
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("__builtin__", "set"),
    ("_codecs", "encode"),
)


class Refused(Exception):
    """What is wrong with a checkpoint, as a clause whose subject it is."""


def read(path: Path) -> Any:
    """The contents of a file that ``torch.save`` wrote, of plain containers, numbers, texts and tensors on the CPU.

    Raises:
        Refused: if it is damaged, holds anything else, or is made to be larger than the file.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        if size and file.read(2) not in (b"P", b"PK"):
            raise Refused("is not a checkpoint: it does not begin like one, and may be a pickle, which can hold code")
        try:
            with zipfile.ZipFile(file) as archive:
                return _read(archive, size)
        except Refused:
            raise
        except OSError:
            raise
        except Exception as error:  # of zipfile, which has many, and of pickle
            raise Refused(f"is truncated or damaged ({size} bytes): {' '.join(str(error).split())[:200]}") from error


def _read(archive: zipfile.ZipFile, size: int) -> Any:
    entries = archive.infolist()
    if len(entries) > ENTRIES or sum(entry.file_size for entry in entries) > size:
        raise Refused(f"unpacks to more than its {size} bytes")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Refused("is compressed, which none of this project is")
    if damaged := archive.testzip():
        raise Refused(f"is truncated or damaged ({size} bytes): bad checksum of {damaged[:100]}")
    files = {entry.filename.partition("/")[2]: entry for entry in entries}
    if len({entry.filename.partition("/")[0] for entry in entries}) != 1 or len(files) != len(entries):
        raise Refused("is not a checkpoint: its files are not those of one")
    if "data.pkl" not in files or files["data.pkl"].file_size > PICKLE:
        raise Refused("is not a checkpoint: it has no data.pkl, or a very large one")
    if "byteorder" in files and archive.read(files["byteorder"]) != b"little":
        raise Refused("was written on another kind of machine, whose numbers have their bytes in another order")
    return Reader(archive, files, TIMES * size + SPARE).load()


class Reader(P._Unpickler):
    """Makes containers and tensors, and nothing else.

    It is the unpickler in Python, whose table of operations can be cut: the one in C takes memory by what a file says.

    Args:
        archive: that holds the pickle.
        files: of the archive, by their names in it.
        limit: bytes of all tensors and copies together, counted as often as they are named.
    """

    dispatch: ClassVar[dict[int, Any]] = {code[0]: P._Unpickler.dispatch[code[0]] for code in OPERATIONS}

    def __init__(self, archive: zipfile.ZipFile, files: dict[str, zipfile.ZipInfo], limit: int) -> None:
        super().__init__(io.BytesIO(archive.read(files["data.pkl"])))
        self.archive, self.files, self.left = archive, files, limit
        self.stored: dict[tuple[str, str], Tensor] = {}

    def load_reduce(self) -> None:
        arguments = self.stack[-1]
        self.spend(sum(100 * len(value) for value in arguments if isinstance(value, (list, tuple, str))))  # copied
        if self.stack[-2] is set:
            check_keys(*arguments)
        if self.stack[-2] is OrderedDict and arguments:
            raise Refused("is damaged: a dict is made of something else")
        super().load_reduce()

    dispatch[pickle.REDUCE[0]] = load_reduce

    def load_setitem(self) -> None:
        check_keys(self.stack[-2:-1])
        super().load_setitem()

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self) -> None:
        check_keys(self.stack[::2])
        super().load_setitems()

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_build(self) -> None:
        state = self.stack[-1]  # else a tensor would make anything of itself, and a dict hide what it holds
        if type(self.stack[-2]) is not OrderedDict or type(state) is not dict or state.keys() - {"_metadata"}:
            raise Refused("is damaged: it changes what is not to be changed")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return name
        if module == "torch" and isinstance(dtype := vars(torch).get(name), torch.dtype):
            return dtype
        if (module, name) not in GLOBALS:
            raise Refused(
                f"holds {f'{module}.{name}'[:200]!r}, which is not data: other programs would run it as code when they "
                "read the file. Nothing of it was run. Do not read it by other means"
            )
        return {
            "OrderedDict": OrderedDict,
            "Size": torch.Size,
            "set": set,
            "encode": latin1,
            "_rebuild_parameter": parameter,
            "_rebuild_tensor_v2": self._tensor,
        }[name]

    def persistent_load(self, pid: Any) -> Tensor:
        """The numbers ``("storage", kind, file, device, count)``."""
        _, kind, file, _, count = pid
        check_keys([file, kind])
        if (file, kind) not in self.stored:
            dtype = DTYPES[kind]
            entry = self.files[f"data/{file}"]
            if type(count) is not int or entry.file_size != count * dtype.itemsize:
                raise Refused(f"is damaged: data/{file[:20]} has {entry.file_size} bytes, not {count} numbers")
            content = bytearray(self.archive.read(entry))
            self.stored[file, kind] = torch.frombuffer(content, dtype=dtype) if count else torch.empty(0, dtype=dtype)
        return self.stored[file, kind]

    def spend(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise Refused(f"asks for {amount:.3g} bytes and more, which it does not hold")

    def _tensor(self, stored: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *size, *stride)):
            raise Refused("is damaged: a tensor has an impossible shape")
        self.spend(math.prod(size) * stored.dtype.itemsize)
        return stored.as_strided(tuple(size), tuple(stride), offset)


def check_keys(keys: Iterable[Any]) -> None:
    """Check what is to be hashed: of a tuple within a tuple, a million times, that would end the process.

    Raises:
        Refused: if one is neither a text nor a number.
    """
    if not all(type(key) in (str, int) for key in keys):
        raise Refused("is damaged: a name in it is neither a text nor a number")


def latin1(text: str, _: str) -> bytes:
    """How the second protocol writes bytes."""
    return text.encode("latin1")


def parameter(data: Tensor, requires_grad: bool, *_: Any) -> Tensor:
    return torch.nn.Parameter(data, requires_grad=requires_grad is True)
