"""Pictures of the user's: what can be read is read right, and what cannot is one clear error."""

import logging
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.config import from_config
from zoo.data import CIFAR10, CelebA, ImageFolder, Omniglot, sources
from zoo.data.pictures import Files, Shape, decode
from zoo.errors import ZooError

SMALL = {"size": 8, "batch_size": 4, "eval_batch_size": 4}


def paint(path: Path, value: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB", **options) -> Path:
    """A picture of one colour, different for each ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value % 256, 40, 200) if mode == "RGB" else value % 256
    Image.new(mode, size, colour).save(path, **options)
    return path


def gallery(folder: Path, count: int = 60) -> Path:
    """A folder of pictures of different sizes, in two nested classes."""
    for i in range(count):
        name = f"{'cats/tame' if i % 2 else 'dogs'}/{i:03d}.{'jpg' if i % 3 == 0 else 'png'}"
        paint(folder / name, 4 * i, size=(8 + i % 5, 9 + i % 4))
    return folder


def one(path: Path, shape: Shape | None = None) -> np.ndarray:
    """The pixels ``(channels, size, size)`` of a single picture."""
    decoded = decode(Files(path.parent), [path.name], shape or Shape(4, 3))
    return decoded.pixels[0].numpy()


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))}


# A picture --------------------------------------------------------------------------------------------------------


def test_the_square_at_the_centre_is_taken(tmp_path):
    array = np.zeros((6, 12, 3), np.uint8)
    array[:, 3:9] = 255
    Image.fromarray(array).save(tmp_path / "a.png")
    assert (one(tmp_path / "a.png", Shape(6, 3)) == 255).all()
    assert (one(tmp_path / "a.png", Shape(2, 3, crop=2)) == 255).all()
    assert (one(tmp_path / "a.png", Shape(6, 3, invert=True)) == 0).all()


def test_it_is_not_upside_down_and_colours_keep_their_order(tmp_path):
    array = np.zeros((2, 2, 3), np.uint8)
    array[0, 1] = (10, 20, 30)
    Image.fromarray(array).save(tmp_path / "a.png")
    pixels = one(tmp_path / "a.png", Shape(2, 3))
    assert pixels[:, 0, 1].tolist() == [10, 20, 30] and pixels.sum() == 60


@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, level):
    Image.fromarray(np.full((4, 4), level * 257, np.uint16)).save(tmp_path / "a.png")
    assert (one(tmp_path / "a.png") == level).all()
    assert (one(tmp_path / "a.png", Shape(4, 1)) == level).all()


def test_what_is_transparent_is_laid_on_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 255)).save(tmp_path / "red.png")
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "grey.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 255])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert (one(tmp_path / "clear.png") == 255).all() and (one(tmp_path / "grey.png") == 255).all()
    assert (one(tmp_path / "palette.png") == 255).all()
    assert one(tmp_path / "red.png")[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tiff"])
def test_of_what_moves_the_first_is_taken(tmp_path, ending):
    frames = [Image.new("RGB", (4, 4), (v, v, v)) for v in (255, 0, 0)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    assert one(tmp_path / f"a.{ending}").min() > 250


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_kinds_of_pixels(tmp_path, mode):
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(tmp_path / ("a.jpg" if mode[0] in "CY" else "a.png"))
    assert one(next(tmp_path.iterdir())).min() > 250


def test_a_camera_that_was_turned_is_turned_back(tmp_path):
    array = np.zeros((4, 4, 3), np.uint8)
    array[:, :2] = 255  # left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    pixels = one(tmp_path / "a.png")
    assert (pixels[:, :2] == 255).all() and (pixels[:, 2:] == 0).all()


def test_a_large_jpeg_is_the_same_within_rounding(tmp_path):
    """It is decoded at a fraction of its size."""
    ramp = np.linspace(0, 255, 512).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[:, None, None], (512, 512, 3)).copy()).save(tmp_path / "a.jpg", quality=95)
    expected = ramp.reshape(8, 64).mean(1)
    assert np.abs(one(tmp_path / "a.jpg", Shape(8, 3))[0, :, 3] - expected).max() < 4


# Bad files --------------------------------------------------------------------------------------------------------


def spoil(folder: Path) -> list[str]:
    """Files that are not pictures, whatever their names say."""
    whole = paint(folder / "whole.png", 7, size=(64, 64)).read_bytes()
    photo = paint(folder / "whole.jpg", 7, size=(64, 64)).read_bytes()
    bad = {
        "empty.png": b"",
        "text.jpg": b"not a picture",
        "cut.png": whole[: len(whole) // 2],
        "cut.jpg": photo[: len(photo) // 2],
        "header.png": whole[:30],
        "damaged.png": whole[:45] + bytes(b ^ 0xFF for b in whole[45:70]) + whole[70:],
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    (folder / "whole.png").unlink()
    (folder / "whole.jpg").unlink()
    return sorted(bad)


def test_broken_files_are_named_counted_and_left_out(tmp_path, caplog):
    gallery(tmp_path)
    bad = spoil(tmp_path)
    data = ImageFolder(root=str(tmp_path), **SMALL)
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert f"left out {len(bad)} of {60 + len(bad)} pictures" in caplog.text
    assert sum(len(y) for _, y in data.splits.values()) == 60
    assert sum(name in caplog.text for name in bad) == 5 and "and 1 more" in caplog.text
    with caplog.at_level(logging.WARNING):
        refused = dict(decode(Files(tmp_path), [*bad, "dogs/000.jpg"], Shape(4, 3)).refused)
    assert set(refused) == set(bad)
    assert (
        "empty" in refused["empty.png"]
        and "not a picture" in refused["text.jpg"]
        and "truncated" in refused["cut.jpg"].lower()
    )


def test_an_unreadable_file_is_one_of_them(tmp_path, caplog):
    gallery(tmp_path, 10)
    os.symlink(tmp_path / "gone.png", tmp_path / "link.png")
    with caplog.at_level(logging.WARNING):
        ImageFolder(root=str(tmp_path), **SMALL).setup()
    assert "link.png" in caplog.text


@pytest.mark.parametrize("levels", [-3.0, 1e6])
def test_numbers_without_a_known_white_are_refused(tmp_path, levels):
    Image.fromarray(np.full((4, 4), levels, np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(ZooError, match=r"not one of its 1 pictures can be read, such as a.tiff \(.*beyond 16 bits"):
        decode(Files(tmp_path), ["a.tiff"], Shape(4, 3))


def test_a_picture_that_is_smaller_than_the_cut_is_left_out(tmp_path, caplog):
    gallery(tmp_path, 20)
    with caplog.at_level(logging.WARNING):
        ImageFolder(root=str(tmp_path), crop=9, **SMALL).setup()
    assert "fewer than the 9 that are cut out" in caplog.text


# A folder ---------------------------------------------------------------------------------------------------------


def refuse(folder: Path, **options) -> str:
    with pytest.raises(ZooError) as error:
        from_config({"_target_": "zoo.data.ImageFolder", "root": str(folder), **SMALL, **options}, where="data").setup()
    return str(error.value)


def test_folders_without_pictures(tmp_path):
    assert "there is no folder" in refuse(tmp_path / "gone")
    assert "holds no pictures" in refuse(tmp_path) and "but nothing" in refuse(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert "1 other files, such as notes.txt" in refuse(tmp_path)
    assert "neither a folder nor a zip archive" in refuse(tmp_path / "notes.txt")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    assert "holds no pictures" in refuse(tmp_path)
    with pytest.raises(ZooError, match=r"data\.root=FOLDER"):
        ImageFolder(**SMALL)


def test_one_picture_and_no_good_ones(tmp_path):
    paint(tmp_path / "a.png")
    assert "holds 1 picture that can be read: at least three are needed" in refuse(tmp_path)
    for name in "bcd":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    assert "holds 1 picture that can be read" in refuse(tmp_path)
    (tmp_path / "a.png").unlink()
    assert "not one of its 3 pictures can be read" in refuse(tmp_path)


def test_three_pictures_are_enough_and_equal_ones_are_one(tmp_path):
    for i, name in enumerate("abc"):
        paint(tmp_path / f"{name}.png", 50 * i)
    data = ImageFolder(root=str(tmp_path), size=4, batch_size=1)
    data.setup()
    assert [len(y) for _, y in data.splits.values()] == [1, 1, 1]
    for name in "abc":
        paint(tmp_path / f"{name}.png", 50)
    assert "of 1 different picture" in refuse(tmp_path)


def test_a_batch_that_is_larger_than_the_folder(tmp_path):
    assert "fewer than data.batch_size=100" in refuse(gallery(tmp_path), batch_size=100)


def test_the_split_is_of_the_contents(tmp_path):
    """Whatever the files are called; and nothing changes its side when others are added."""

    def sides(folder: Path) -> dict[bytes, str]:
        data = ImageFolder(root=str(folder), **SMALL)
        data.setup()
        return {x.numpy().tobytes(): part for part, (images, _) in data.splits.items() for x in images}

    first = sides(gallery(tmp_path / "a", 100))
    for i, path in enumerate(sorted((tmp_path / "a").rglob("*.png"))):
        path.rename(path.with_name(f"renamed{i}.png"))
    assert sides(tmp_path / "a") == first
    for i in range(20):
        paint(tmp_path / f"a/more/{i}.png", i, mode="L")
    more = sides(tmp_path / "a")
    assert all(more[key] == side for key, side in first.items())
    counts = [list(first.values()).count(part) for part in ("train", "val", "test")]
    assert counts[0] > 60 and min(counts) >= 3


def test_classes_are_folders_and_shapes_follow_the_options(tmp_path):
    data = ImageFolder(root=str(gallery(tmp_path)), channels=1, **SMALL)
    data.setup()
    assert data.classes == ["cats/tame", "dogs"]
    assert data.splits["train"][0].shape[1:] == data.shape_of(data.arguments) == (1, 8, 8)
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (4, 1, 8, 8) and x.dtype == torch.float32 and y.dtype == torch.int64
    assert sum(torch.bincount(y, minlength=2).sum() for _, y in data.splits.values()) == 60


def test_folders_of_the_splits(tmp_path, caplog):
    for part, count in {"train": 30, "test": 5}.items():
        for i in range(count):
            paint(tmp_path / part / ("a" if i % 2 else "b") / f"{i}.png", 100 * (part == "test") + 3 * i)
    paint(tmp_path / "stray.png", 250)
    data = ImageFolder(root=str(tmp_path), **SMALL)
    data.setup()
    counts = {part: len(y) for part, (_, y) in data.splits.items()}
    assert counts["test"] == 5 and counts["train"] + counts["val"] == 30 and counts["val"] >= 1
    assert data.classes == ["a", "b"] and "1 pictures beside the folders" in caplog.text
    paint(tmp_path / "validation/a/0.png", 240)
    data = ImageFolder(root=str(tmp_path), **SMALL)
    data.setup()
    assert {part: len(y) for part, (_, y) in data.splits.items()} == {"train": 30, "val": 1, "test": 5}
    assert "needs the folders train and test" in refuse(tmp_path / "train", split="folders")


def test_lists_of_files(tmp_path):
    gallery(tmp_path / "g", 20)
    names = Files(tmp_path / "g").names()
    for part, own in {"train": names[:15], "val": names[15:17], "test": names[17:]}.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(own) + "\n\n")
    lists = {part: str(tmp_path / f"{part}.txt") for part in ("train", "val", "test")}
    data = ImageFolder(root=str(tmp_path / "g"), lists=lists, **SMALL)
    data.setup()
    assert [len(y) for _, y in data.splits.values()] == [15, 2, 3]
    del lists["val"]
    data = ImageFolder(root=str(tmp_path / "g"), lists=lists, **SMALL)
    data.setup()
    assert len(data.splits["test"][1]) == 3 and len(data.splits["val"][1]) >= 1
    assert "lists must have a file for train" in refuse(tmp_path / "g", lists={"train": lists["train"]})
    (tmp_path / "test.txt").write_text("gone.png\n")
    assert "names gone.png, which is not in" in refuse(tmp_path / "g", lists=lists)
    (tmp_path / "test.txt").write_text(names[0])
    assert "is in two of data.lists" in refuse(tmp_path / "g", lists=lists)
    (tmp_path / "test.txt").unlink()
    assert "cannot be read" in refuse(tmp_path / "g", lists=lists)


def test_an_archive_is_a_folder_and_neither_is_written_into(tmp_path):
    gallery(tmp_path / "g")
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        for path in sorted((tmp_path / "g").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "g"))
        archive.writestr("__MACOSX/dogs/._000.png", "x")
    before = contents(tmp_path)
    folder, archive = ImageFolder(root=str(tmp_path / "g"), **SMALL), ImageFolder(root=str(tmp_path / "g.zip"), **SMALL)
    folder.setup()
    archive.setup()
    for part in folder.splits:
        assert all(torch.equal(a, b) for a, b in zip(folder.splits[part], archive.splits[part]))
    assert contents(tmp_path) == before


def test_links_to_the_folder_itself_end(tmp_path):
    gallery(tmp_path / "g", 10)
    os.symlink(tmp_path / "g", tmp_path / "g/dogs/again", target_is_directory=True)
    assert len(Files(tmp_path / "g").names()) == 10


@pytest.mark.parametrize("option", [{"size": 0}, {"channels": 2}, {"crop": 0}, {"batch_size": 0}, {"seed": -1}])
def test_wrong_options(tmp_path, option):
    assert next(iter(option)) in refuse(gallery(tmp_path, 5), **option)


# Data sets that are kept as pictures --------------------------------------------------------------------------------


def made_up_cifar10(root: Path) -> Path:
    """Torchvision's layout, with 40 images in each file."""
    folder = root / sources.CIFAR10
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*sources.CIFAR10_FILES["train"], *sources.CIFAR10_FILES["test"]]:
        batch = {"data": rng.integers(0, 256, (40, 3072), dtype=np.uint8), "labels": rng.integers(0, 10, 40).tolist()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def test_cifar10_in_torchvisions_layout(tmp_path):
    folder = made_up_cifar10(tmp_path)
    data = CIFAR10(root=str(tmp_path), batch_size=10)
    data.setup()
    assert {part: tuple(x.shape) for part, (x, _) in data.splits.items()} == {
        "train": (180, 3, 32, 32),
        "val": (20, 3, 32, 32),
        "test": (40, 3, 32, 32),
    }
    first = pickle.loads((folder / "test_batch").read_bytes())
    assert torch.equal(data.splits["test"][0][0].flatten(), torch.from_numpy(first["data"][0]))
    assert data.splits["test"][1].tolist() == first["labels"]
    (folder / "data_batch_3").write_bytes(b"damaged")
    with pytest.raises(ZooError, match=r"data_batch_3 is missing or damaged"):
        CIFAR10(root=str(tmp_path)).setup()
    (folder / "data_batch_3").write_bytes(pickle.dumps(os.getcwd))
    with pytest.raises(ZooError, match="refusing"):
        CIFAR10(root=str(tmp_path)).setup()


def test_cifar10_as_jpeg(tmp_path):
    for part, count in {"train": 30, "test": 40}.items():
        for i in range(count):
            paint(tmp_path / f"cifar10_jpeg/{part}/{'cat' if i % 2 else 'ship'}/{i:04d}.jpg", 5 * i, size=(32, 32))
    data = CIFAR10(root=str(tmp_path), files="jpeg", batch_size=5)
    data.setup()
    assert [len(y) for _, y in data.splits.values()] == [27, 3, 40] and "JPEG" in data.notice
    labels = data.splits["test"][1]
    assert labels.sum() == 20 and 10 <= (labels.diff() != 0).sum() <= 30  # the folders are mixed


def test_cifar10_that_is_not_there(tmp_path, monkeypatch):
    import torchvision

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", refuse)
    monkeypatch.setenv("ZOO_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(ZooError, match=r"no network.*cifar-10-batches-py"):
        CIFAR10().setup()
    with pytest.raises(ZooError, match=r"neither .*cifar10_jpeg nor"):
        CIFAR10(files="jpeg").setup()
    paint(tmp_path / "data/cifar10_jpeg/train/cat/0.jpg")
    with pytest.raises(ZooError, match=r"data\.files=jpeg"):
        CIFAR10().setup()


def test_celeba_in_torchvisions_layout(tmp_path):
    folder = tmp_path / "celeba"
    for i in range(12):
        paint(folder / f"img_align_celeba/{i:06d}.jpg", 20 * i, size=(178, 218))
    parts = [0] * 8 + [1] * 2 + [2] * 2
    (folder / "list_eval_partition.txt").write_text("".join(f"{i:06d}.jpg {p}\n" for i, p in enumerate(parts)))
    (folder / "identity_CelebA.txt").write_text("".join(f"{i:06d}.jpg {100 - i // 2}\n" for i in range(12)))
    data = CelebA(root=str(tmp_path), size=16, batch_size=4)
    data.setup()
    assert [len(y) for _, y in data.splits.values()] == [8, 2, 2]
    assert data.splits["test"][1].tolist() == [0, 0] and data.classes[0] == "000095"
    assert data.splits["train"][0].shape == (8, 3, 16, 16)
    (folder / "list_eval_partition.txt").write_text("000000.jpg 3\n")
    with pytest.raises(ZooError, match="damaged"):
        CelebA(root=str(tmp_path)).setup()
    (folder / "list_eval_partition.txt").unlink()
    with pytest.raises(ZooError, match="CelebA is not there"):
        CelebA(root=str(tmp_path)).setup()


def test_omniglot_in_torchvisions_layout(tmp_path):
    for part, count in {"images_background": 40, "images_evaluation": 6}.items():
        for i in range(count):
            array = np.full((105, 105), 255, np.uint8)
            array[i : i + 40, 30:70] = 0
            path = tmp_path / f"omniglot-py/{part}/Greek/character{i % 2:02d}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).convert("1").save(path)
    data = Omniglot(root=str(tmp_path), batch_size=4, binarize="none")
    data.setup()
    counts = {part: len(y) for part, (_, y) in data.splits.items()}
    assert counts["test"] == 6 and counts["train"] + counts["val"] == 40 and counts["val"] >= 1
    assert data.classes == ["Greek/character00", "Greek/character01"]
    x = data.splits["test"][0]
    assert x.shape == (6, 1, 28, 28) and x[0, 0, 0, 0] == 0 and x.max() == 255  # ink is light


@pytest.mark.parametrize("kind", ["CIFAR10", "CelebA", "Omniglot", "MNIST"])
@pytest.mark.parametrize("held", ["a.png", "class/sub/sub/a.jpg", "notes.txt"])
def test_a_folder_that_holds_something_else_is_not_taken_for_a_directory_of_data(tmp_path, kind, held):
    path = tmp_path / "mine" / held
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    before = contents(tmp_path)
    with pytest.raises(ZooError, match=r"holds something else, such as .*data=image_folder data\.root="):
        from_config({"_target_": f"zoo.data.{kind}", "root": str(tmp_path / "mine")}, where="data")
    assert contents(tmp_path) == before
