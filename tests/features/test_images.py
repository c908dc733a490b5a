import io
import os

import numpy as np
import pytest
import torch

from pyg_hash.datasets.sources import open_source
from pyg_hash.features import UnreadableImageError, load_image
from pyg_hash.utils.pictures import open_picture, picture_problem, square_jpeg

Image = pytest.importorskip("PIL.Image")


def save(path, array, mode="RGB", **kwargs):
    Image.fromarray(np.asarray(array, dtype=np.uint8), mode).save(path, **kwargs)
    return path


def test_shape_dtype_and_channel_order(tmp_path):
    picture = np.zeros((4, 4, 3))
    picture[..., 0] = 200
    x = load_image(save(tmp_path / "red.png", picture), 8)
    assert x.shape == (3, 8, 8) and x.dtype == torch.uint8
    assert (x[0] == 200).all() and (x[1:] == 0).all()


def test_transparency_is_composited_on_white(tmp_path):
    picture = np.zeros((2, 2, 4))  # black, and fully transparent
    assert (load_image(save(tmp_path / "a.png", picture, "RGBA"), 4) == 255).all()
    picture[..., 3] = 51  # a fifth opaque: 255 * 4 / 5
    assert (load_image(save(tmp_path / "b.png", picture, "RGBA"), 4) == 204).all()


def test_transparent_palette(tmp_path):
    picture = Image.new("P", (3, 3), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "p.png", transparency=0)
    assert (load_image(tmp_path / "p.png", 3) == 255).all()


def test_grey_becomes_three_channels(tmp_path):
    x = load_image(save(tmp_path / "g.png", np.full((3, 3), 77), "L"), 3)
    assert (x == 77).all() and x.shape == (3, 3, 3)


@pytest.mark.parametrize("wide", [True, False])
def test_central_square_is_used(tmp_path, wide):
    picture = np.zeros((4, 8, 3))
    picture[:, 2:6] = 255
    picture = picture if wide else picture.swapaxes(0, 1)
    assert (load_image(save(tmp_path / "w.png", picture), 4) == 255).all()


def test_exif_rotation_is_applied(tmp_path):
    picture = np.zeros((8, 8, 3))
    picture[:4] = 255  # white on top
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    x = load_image(save(tmp_path / "r.png", picture, exif=exif), 8)
    assert (x[:, :, 4:] == 255).all() and (x[:, :, :4] == 0).all()


@pytest.mark.parametrize(
    ("content", "what"), [(b"no picture", "cannot be read"), (b"", "cannot be read")]
)
def test_damaged_file_is_named(tmp_path, content, what):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=what) as error:
        load_image(path, 8)
    assert str(path) in str(error.value)


def test_truncated_file_is_named(tmp_path):
    path = save(tmp_path / "t.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3)))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UnreadableImageError, match=r"t\.png"):
        load_image(path, 8)


def test_missing_file_and_folder_are_named(tmp_path):
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(UnreadableImageError, match="no such picture file"):
            load_image(path, 8)


def test_square_jpeg_is_the_picture_that_is_read(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20), (200, 40, 40)).save(path)
    content = square_jpeg(path, 16, 90)
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (16, 16))
        red, green, blue = picture.getpixel((8, 8))
    assert abs(red - 200) < 8 and abs(green - 40) < 8 and abs(blue - 40) < 8
    with pytest.raises(UnreadableImageError, match=r"none\.png"):
        square_jpeg(tmp_path / "none.png", 16, 90)


def test_a_large_photograph_is_read_smaller_and_another_large_picture_is_refused(tmp_path):
    whole = Image.new("RGB", (6240, 4160), (200, 40, 40))
    whole.paste((40, 40, 200), (0, 0, 3120, 4160))
    whole.save(tmp_path / "a.jpg")
    x = load_image(tmp_path / "a.jpg", 8).int()
    assert abs(x[:, 4, 0] - torch.tensor([40, 40, 200])).max() < 8
    assert abs(x[:, 4, 7] - torch.tensor([200, 40, 40])).max() < 8
    with open_picture(tmp_path / "a.jpg") as picture:
        assert picture.size == (3120, 2080)
    Image.new("1", (6240, 4160)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="at most 25,000,000 and"):
        load_image(tmp_path / "a.png", 8)


def test_a_photograph_that_pillow_refuses_is_refused_in_our_words(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = (20_000).to_bytes(2, "big") * 2
    (tmp_path / "a.jpg").write_bytes(data)
    words = (
        "a.jpg: .*it has 400,000,000 pixels, and at most 175,000,000 of a JPEG, .*make it smaller"
    )
    with pytest.raises(UnreadableImageError, match=words):
        load_image(tmp_path / "a.jpg", 8)
    assert "it has 400,000,000 pixels" in picture_problem(tmp_path / "a.jpg")


RAMP = np.tile(np.linspace(0, 255, 16), (16, 1))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("16.png", np.rint(RAMP * 257).astype(np.uint16)),
        ("16.tif", np.rint(RAMP * 257).astype(np.uint16)),
        ("dark.png", np.rint(RAMP).astype(np.uint16)),  # nearly black, and stays so
        ("32.tif", np.rint(RAMP * 257).astype(np.int32)),
        ("8in32.tif", np.rint(RAMP).astype(np.int32)),
        ("unit.tif", (RAMP / 255).astype(np.float32)),
        ("float.tif", RAMP.astype(np.float32)),
    ],
)
def test_pictures_of_more_than_eight_bits_keep_their_greys(tmp_path, name, array):
    Image.fromarray(array).save(tmp_path / name)
    expected = RAMP / 257 if name == "dark.png" else RAMP
    x = load_image(tmp_path / name, 16)
    assert np.abs(x[0].numpy() - expected).max() <= 1


@pytest.mark.parametrize("array", [RAMP - 1, RAMP * 300, RAMP * np.nan])
def test_numbers_without_a_known_black_and_white_are_refused(tmp_path, array):
    Image.fromarray(array.astype(np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImageError, match=r"x\.tif: .*one channel of numbers"):
        load_image(tmp_path / "x.tif", 16)
    Image.fromarray(np.full((4, 4), -5, np.int32)).save(tmp_path / "y.tif")
    with pytest.raises(UnreadableImageError, match=r"y\.tif"):
        load_image(tmp_path / "y.tif", 16)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    assert picture_problem(tmp_path / "a.jpg") == "no regular file"
    assert picture_problem(tmp_path / "b.jpg") == "no such file"
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match="a.csv: no regular file"):
        open_source([tmp_path / "a.csv"])
