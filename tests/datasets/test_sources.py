"""Sources of a catalogue as people have them: folders, odd tables, captions, features."""

from __future__ import annotations

import datetime
import decimal
import errno
import json
import os
import shutil
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyg_hash.cli.catalogue import digest_of
from pyg_hash.datasets import write_feature_file
from pyg_hash.datasets.sources import open_source
from pyg_hash.index import HammingIndex
from pyg_hash.utils.oddities import OddDataWarning


def picture(path, color=(200, 30, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)
    return path


def table(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return open_source([path])


def test_a_folder_gives_captions_names_of_files_and_of_folders(tmp_path):
    for name in ("cats/IMG_001.jpg", "cats/sleepingTabby.png", "dogs/2.png", "dogs/.hidden.png"):
        picture(tmp_path / name)
    (tmp_path / "dogs" / "2.txt").write_text("a dog \n that  barks", encoding="utf-8-sig")
    (tmp_path / "dogs" / "notes.md").write_text("no picture")
    source = open_source([tmp_path])
    assert source.ids == ["cats/IMG_001.jpg", "cats/sleepingTabby.png", "dogs/2.png"]
    assert source.texts == ["cats", "sleeping Tabby", "a dog that barks"]
    assert source.labels == [["cats"], ["cats"], ["dogs"]]
    listed = "no picture files: dogs/.hidden.png, dogs/notes.md"
    assert source.read_as["not taken"] == listed
    (tmp_path / "dogs" / "more").symlink_to(tmp_path / "cats")
    for number in range(9):
        (tmp_path / f"{number}.heic").touch()
    told = open_source([tmp_path]).read_as["not taken"]
    assert told.endswith("8.heic, dogs/.hidden.png and 2 more") and told.count(".heic") == 9
    flat = open_source([tmp_path / "cats"])
    assert flat.labels == [[], []] and flat.texts == [None, "sleeping Tabby"]
    assert "not taken" not in flat.read_as
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.heic").touch()
    told = r"no picture in .*/empty; not taken, no picture files: a\.heic"
    with pytest.raises(FileNotFoundError, match=told):
        open_source([tmp_path / "empty"])


def test_pictures_outside_of_their_folder_are_said(tmp_path):
    (dl := tmp_path / "dl").mkdir()
    for path in (dl / "a.png", tmp_path / "b.png"):
        picture(path)
    (dl / "link.png").symlink_to("../b.png")
    (dl / "in.png").symlink_to("a.png")
    (dl / "t.csv").write_text("image,text\na.png,a\nin.png,b\nlink.png,c\n../b.png,d\n")
    told = f", but {{}} outside of {dl}, or links out of it (first: {dl}/link.png)"
    assert open_source([dl / "t.csv"]).read_as["image"].endswith(f", below {dl}{told.format(2)}")
    assert open_source([dl]).read_as["image"] == f"3 files{told.format(1)}"


def test_what_of_a_folder_cannot_be_read_is_a_problem(tmp_path, monkeypatch):
    for name in ("cats/one.png", "dogs/two.png", "dogs/three.png", "shut/four.png"):
        picture(tmp_path / name)
    (tmp_path / "cats" / "one.txt").write_bytes(b"\xff")
    (tmp_path / "dogs" / "two.txt").write_text("a dog")
    scan, read = os.scandir, Path.read_text

    def refuse(path, call, *names, **more):
        if Path(path).name in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return call(path, **more)

    monkeypatch.setattr(os, "scandir", lambda path: refuse(path, scan, "shut"))
    monkeypatch.setattr(Path, "read_text", lambda p, **more: refuse(p, read, "two.txt", **more))
    source, told = open_source([tmp_path]), "cannot be read (Permission denied)"
    assert source.texts == [None, "three", None] and "not taken" not in source.read_as
    assert source.problems == {
        str(tmp_path / "shut"): told,
        str(tmp_path / "cats" / "one.txt"): "not UTF-8 (invalid start byte at byte 0)",
        str(tmp_path / "dogs" / "two.txt"): told,
    }
    with pytest.raises(FileNotFoundError, match="shut: cannot be read"):
        open_source([tmp_path / "shut"])


def test_captions_are_found_whatever_the_case_of_their_ending_and_their_normal_form(tmp_path):
    for name in ("UP.JPG", "caf\u00e9.png", "cafe\u0301s.png"):
        picture(tmp_path / name)
    for name in ("UP.TXT", "cafe\u0301.txt", "caf\u00e9s.txt", "cafe\u0301s.txt"):
        (tmp_path / name).write_text(f"words {len(name)}")
    source = open_source([tmp_path])
    assert source.texts == ["words 6", "words 10", "words 9"]
    assert source.read_as["not taken"] == "no picture files: caf\u00e9s.txt"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("\u732b", "\u732b"),
        ("\u0928\u092e\u0938\u094d\u0924\u0947_2", "\u0928\u092e\u0938\u094d\u0924\u0947"),
        ("n\u0303andu\u0301", "\u00f1and\u00fa"),
        ("\uc0ac\uc9c4 12", None),  # of a camera
        ("xy1z", None),
    ],
)
def test_names_of_files_are_words_in_any_script(tmp_path, name, text):
    picture(tmp_path / f"{name}.png")
    assert open_source([tmp_path]).texts == [text]


def test_dates_cameras_and_short_names_that_all_have_leave_the_folder_its_name(tmp_path):
    dogs = ["2020年12月3日", "截图 上午1", "画像2", "図1", "nº1", "1ª", "m²", "10½", "〇"]
    names = {
        "Dogs": [*dogs, "IMG_0001 à"],
        "いぬ科": ["その1", "その2"],
        "動物": ["猫1", "猫2", "犬3"],
    }
    for folder, own in names.items():
        for name in own:
            picture(tmp_path / folder / f"{name}.png")
    source = open_source([tmp_path])
    found = {(*own, text) for own, text in zip(source.labels, source.texts, strict=True)}
    assert found == {("Dogs", "Dogs"), ("いぬ科", "いぬ科"), ("動物", "猫"), ("動物", "犬")}


def test_labels_are_one_in_any_normal_form(tmp_path):
    for name in ("\u00c4pfel/1.png", "A\u0308pfel/2.png", "Birnen/3.png"):
        picture(tmp_path / name)
    (tmp_path / "t.csv").write_text("text,label\na,\u00c4pfel\nb,A\u0308pfel\n", encoding="utf-8")
    for source in (open_source([tmp_path]), open_source([tmp_path / "t.csv"])):
        assert source.labels.count(["\u00c4pfel"]) == 2


def test_pictures_are_found_in_folders_of_another_normal_form(tmp_path):
    for name in ("\u00c4pfel/b\u00e4r.png", "\u00c4pfel/zo\u00eb.png"):  # the second in both
        picture(tmp_path / unicodedata.normalize("NFD", name))
    there = str(picture(tmp_path / "\u00c4pfel" / "zo\u00eb.png"))
    (tmp_path / "b.csv").write_text("image,text\nb\u00e4r.png,a\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text("image,text\n\u00c4pfel/zo\u00eb.png,a\n", encoding="utf-8")
    assert open_source([tmp_path / "t.csv"]).images == [there]
    (image,) = open_source([tmp_path / "b.csv"], images_root=tmp_path / "A\u0308pfel").images
    assert os.path.isfile(image)
    shutil.rmtree(tmp_path / "\u00c4pfel")
    (image,) = open_source([tmp_path / "t.csv"]).images
    assert os.path.isfile(image)
    (tmp_path / "t.csv").write_text("image,text\n\u00f6/\u00fc.png,a\n", encoding="utf-8")
    assert open_source([tmp_path / "t.csv"]).images == [str(tmp_path / "\u00f6" / "\u00fc.png")]


def test_a_source_is_the_same_when_its_pictures_are_moved_away(tmp_path):
    picture(tmp_path / "new" / "a\u0308" / "o\u0308.png")
    arrays = {"text": np.eye(3), "image": np.eye(3), "labels": ["A\u0308", "b", "b"]}
    np.savez(tmp_path / "x.npz", image_paths=["/old/\u00e4/\u00f6.png"] * 3, **arrays)
    source = open_source([tmp_path / "x.npz"], images_root=tmp_path / "new")
    assert os.path.isfile(source.images[0]) and source.labels[0] == ["\u00c4"]
    shutil.rmtree(tmp_path / "new" / "a\u0308")
    moved = open_source([tmp_path / "x.npz"], images_root=tmp_path / "new")
    assert moved.images != source.images and digest_of(moved) == digest_of(source)
    long = "\u00e4/" * 2000
    assert table(tmp_path / "t.csv", f"image,text\n{long}1.png,a\n").images[0].endswith("ä/1.png")


def test_texts_without_spaces_are_found_or_their_column_is_named(tmp_path):
    head, cat, fruit = (
        "\u5199\u771f,\u8aac\u660e,\u5206\u985e\n",
        "\u9ed2\u3044\u732b",
        "\u679c\u7269",
    )
    source = table(tmp_path / "t.csv", f"{head}1.png,{cat}\u304c\u5bdd\u3066\u3044\u308b,{fruit}\n")
    assert source.texts == [f"{cat}\u304c\u5bdd\u3066\u3044\u308b"]
    source = table(tmp_path / "t.csv", f"{head}1.png,{cat},{fruit}\n2.png,\u9ce5,\n3.png,\u72ac,\n")
    assert source.read_as["text"] == "none; for texts: --text_column '\u8aac\u660e'"
    assert "text" not in table(tmp_path / "t.csv", "a,b\n1.png,3\n").read_as
    left = open_source([tmp_path / "t.csv"], columns={"text": ""})
    assert left.texts == [None] and "text" not in left.read_as


def test_of_columns_without_spaces_that_of_many_long_texts_is_taken_if_no_spaced_one_is(tmp_path):
    columns = {
        "a": [f"2020年{i}月3日 上午10时23分45秒" for i in range(4)],
        "b": ["機械学習の本"] * 4,  # a class
        "c": [f"スニーカーシューズ{i}" for i in range(4)],  # two words
        "d": [f"東京都渋谷区{i}" for i in range(4)],
        "e": [f"黒い猫が寝ている、白い犬も{i}" for i in range(4)],
    }

    def read(**columns):
        rows = [[*columns], *zip(*columns.values(), strict=True)]
        return table(tmp_path / "t.csv", "".join(f"{','.join(row)}\n" for row in rows))

    assert read(**columns).texts == columns["e"]
    assert read(**columns, f=["one black cat"] * 4).texts == ["one black cat"] * 4
    plain = {"g": [f"2020-12-03T10:00:0{i}" for i in range(4)]}
    plain |= {"image": [f"{i}.png" for i in range(4)], "h": [f"http://a.b/{i}" for i in range(4)]}
    assert "text" not in read(**plain, a=columns["a"]).read_as


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-32"])
def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(f"{chr(0xFEFF) * (encoding != 'utf-32')}id,text\na,b\n".encode(encoding))
    for given in (encoding, None):
        assert open_source([path], encoding=given).ids == ["a"]


def test_encodings_that_nobody_tells(tmp_path):
    for name in ("le", "be"):
        with pytest.raises(ValueError, match=f"without a byte order mark.*utf-16-{name}$"):
            table(tmp_path / "t.csv", "id,text\na,b\n", f"utf-16-{name}")
    padded = "id,text\na\0\0\0\0,bcde\0\0\0\0\0\0\0\0\0\n"
    assert table(tmp_path / "t.csv", padded).texts == ["bcde\0\0\0\0\0\0\0\0\0"]
    with pytest.raises(ValueError, match="^(?!.*looks like UTF-16)"):
        table(tmp_path / "t.csv", "id,text\na,b\n", "utf-32-le")
    with pytest.raises(ValueError, match="saved in, e.g. cp932, gbk, euc-kr, cp1252, utf-16$"):
        table(tmp_path / "t.csv", "id,text\na,\u732b\n", "cp932")
    with pytest.raises(ValueError, match="not in CP932.*, e.g. gbk, euc-kr, cp1252, utf-16$"):
        (tmp_path / "t.csv").write_bytes(b"id,text\na,\x81\n")
        open_source([tmp_path / "t.csv"], encoding="CP932")


TEXT = "id;file;caption;label;year;price;shown;code;nothing\n"
ROW = 'a;"x, y.jpg";"He said ""hi"";\nthen left";red|big;2004;1.5;true;007;\n'
ROW += "b;z.jpg;ünï cödé;red;;-2e3;FALSE;12;\n\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_of_a_spreadsheet(tmp_path, encoding, end):
    path = tmp_path / "t.csv"
    path.write_bytes((TEXT + ROW).replace("\n", end).encode(encoding))
    if encoding == "cp1252":
        with pytest.raises(ValueError, match=r"line 4 is not in utf-8 \(byte 0xfc\).*--encoding"):
            open_source([path])
    source = open_source([path], encoding="cp1252" if encoding == "cp1252" else None)
    assert not source.problems
    assert source.ids == ["a", "b"]
    assert source.images == [str(tmp_path / "x, y.jpg"), str(tmp_path / "z.jpg")]
    assert source.texts == ['He said "hi"; then left', "ünï cödé"]
    assert source.labels == [["red", "big"], ["red"]]
    assert source.fields == {
        "year": (int, [2004, None]),
        "price": (float, [1.5, -2000.0]),
        "shown": (bool, [True, False]),
        "code_": (str, ["007", "12"]),  # 'code' is a word of the stores
    }


def test_rows_that_do_not_fit_are_named_and_values_tell_what_names_do_not(tmp_path):
    source = table(
        tmp_path / "t.tsv", "a\tb\n1.png\tone small thing\nonly\n2.png\ttwo big things\n"
    )
    assert source.problems == {"t.tsv, line 3": "1 cells, the head has 2"}
    assert [path[-5:] for path in source.images] == ["1.png", "2.png"]
    assert source.texts == ["one small thing", "two big things"] and source.ids == ["0", "1"]


def test_a_row_is_named_by_its_line_where_there_are_lines(tmp_path):
    text = 'text,image\n"two\nlines",1.png\n\none,\nodd\n"a\nb",2.png\n'
    source = table(tmp_path / "t.csv", text)
    assert source.problems == {"t.csv, line 6": "1 cells, the head has 2"}
    assert [source.place(row) for row in range(3)] == ["line 2", "line 5", "line 7"]
    source = table(tmp_path / "t.jsonl", '{"text": "a"}\n\n{"text": "b", "image": 3}\n')
    assert source.place(1) == "line 3" and [*source.problems] == ["t.jsonl, line 3"]
    source = table(tmp_path / "t.json", '[{"text": "a", "image": 3}]')
    assert [*source.problems] == ["t.json, row 0"]
    with pytest.raises(ValueError, match="line 2 is 5; expected an object a row"):
        table(tmp_path / "t.jsonl", '{"text": "a"}\n5\n')


@pytest.mark.parametrize("word", ["nan", "NaN", "None"])
def test_texts_that_mean_that_there_is_none_are_said_once(tmp_path, word):
    text = f"text,image\na cup,1.png\n{word},2.png\n,3.png\n{word},4.png\n"
    with pytest.warns(OddDataWarning) as said:
        source = table(tmp_path / "t.csv", text)
    (message,) = [str(one.message) for one in said]
    assert f"t.csv: 2 of 4 texts are {word!r} or the like (first: line 3)" in message
    assert "leave the cell empty" in message
    assert source.texts == ["a cup", word, None, word]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table(tmp_path / "t.csv", "text,image\nnan bread,1.png\n,2.png\n")


BAD = {
    "no hint": (
        "a,b\n1,2\n3,4\n",
        "give --image_column or --text_column; its columns are 'a', 'b'",
    ),
    "twice": ("a,a\n1,2\n", "two columns are named 'a'"),
    "empty": ("text,b\n", "holds no row"),
    "nothing": ("", "holds no row"),
    "network": ("image\nhttp://x/y.png\n", "line 2 names a picture on the network"),
    "no names, pictures": ("1.jpg,a cat\n2.jpg,a dog\n", "line 1 should name the columns"),
    "no names, numbers": ("a cat,.5\na dog,2\n", "'.5' looks like a value; put a line of names"),
    "quote": ('text\n"a" b\n', "line 2: "),
}


@pytest.mark.parametrize("name", BAD)
def test_tables_that_cannot_be_read(name, tmp_path):
    text, words = BAD[name]
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        table(tmp_path / "t.csv", text)
    if name in ("empty", "nothing"):
        with pytest.raises(ValueError, match=words):
            table(tmp_path / "t.tsv", text)


def test_names_of_single_things_are_no_labels(tmp_path):
    rows = "".join(f"a {i},brand {min(i, 11)}\n" for i in range(14))
    source = table(tmp_path / "t.csv", f"caption,category\n{rows}")
    assert source.labels == [[]] * 14 and source.fields["category"][0] is str
    told = open_source([tmp_path / "t.csv"], columns={"label": "category"})
    assert told.labels[10:] == [["brand 10"], *[["brand 11"]] * 3]
    with pytest.raises(ValueError, match="label_column: .* has none called 'kind'"):
        open_source([tmp_path / "t.csv"], columns={"label": "kind"})


@pytest.mark.parametrize(
    ("mark", "first"),
    [(None, ["New York", "NY"]), ("", ["New York, NY|red"]), ("|", ["New York, NY", "red"])],
)
def test_what_stands_between_labels(tmp_path, mark, first):
    rows = [{"text": "a", "label": "New York, NY|red"}, {"text": "b", "label": "Rome"}]
    if mark is None:
        rows[0]["label"] = "New York, NY"
    (tmp_path / "t.json").write_text(json.dumps(rows * 5))
    source = open_source([tmp_path / "t.json"], label_separator=mark)
    assert source.labels[:2] == [first, ["Rome"]]


def test_json_lines_lists_and_captions_of_coco(tmp_path):
    rows = [
        {"image": "1.png", "text": ["a", "b"], "tags": ["x", "y"], "n": 1, "more": {"k": 1}},
        {"image": None, "text": "c", "tags": [], "n": 2.5},
    ]
    lines = "\n".join([json.dumps(rows[0]), "{oops", json.dumps(rows[1]), ""])
    source = table(tmp_path / "t.jsonl", lines)
    assert list(source.problems) == ["t.jsonl, line 2"]
    assert source.texts == ["a b", "c"] and source.images[1] is None
    assert source.labels == [["x", "y"], []]
    assert source.fields == {"n": (float, [1.0, 2.5]), "more": (str, ['{"k": 1}', None])}
    assert table(tmp_path / "t.json", json.dumps(rows)).texts == source.texts
    coco = {
        "images": [{"id": 9, "file_name": "9.jpg"}, {"id": 4, "file_name": "4.jpg"}],
        "annotations": [{"image_id": 4, "caption": " four"}, {"image_id": 9, "caption": "nine "}]
        * 2,
    }
    source = table(tmp_path / "captions.json", json.dumps(coco))
    assert (source.ids, source.texts) == (["9", "4"], ["nine nine", "four four"])
    with pytest.raises(ValueError, match="an object a row"):
        table(tmp_path / "t.json", "[1, 2]")
    rows[0]["tags"] = ["y", None, " x", "y", ""]  # in their order, each once
    assert table(tmp_path / "t.json", json.dumps(rows)).labels == [["y", "x"], []]
    coco["annotations"].append({"image_id": 4, "caption": None})
    source = table(tmp_path / "captions.json", json.dumps(coco))
    assert source.texts == ["nine nine", "four four"]


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([{}], [], r"images\[0\] has no id"),
        ([{"id": 1}], [], r"images\[0\] has no file_name"),
        ([(1, "a.jpg"), (1, "b.jpg")], [], "images: two have the id 1; keep one"),
        ([(1, "a.jpg")], [(2, "x")], r"annotations\[0\] is of an image 2, which is not there"),
        ([(1, "a.jpg")], [{"image_id": 1, "bbox": 3}], r"annotations\[0\] has no caption; these"),
    ],
)
def test_captions_of_coco_that_do_not_fit(tmp_path, images, annotations, message):
    def entries(given, *names):
        return [dict(zip(names, e, strict=True)) if isinstance(e, tuple) else e for e in given]

    images = entries(images, "id", "file_name")
    annotations = entries(annotations, "image_id", "caption")
    with pytest.raises(ValueError, match=f"source: .*t.json: {message}"):
        table(tmp_path / "t.json", json.dumps({"images": images, "annotations": annotations}))


def test_quotes_of_tsv_that_do_not_pair_are_letters(tmp_path):
    text = 'text\tn\n"Stop! a red sign\t1\na cat\t2\na tv of 42"\t3\n'
    for lines in (text, text + '"He" said\t4\n'):
        source = table(tmp_path / "t.tsv", lines)
        assert source.texts[:3] == ['"Stop! a red sign', "a cat", 'a tv of 42"']
        assert len(source) == lines.count("\n") - 1 and source.problems == {}
        assert source.read_as["quotes"] == "are letters, as they do not pair"
    odd = "".join(f"{i}\ta{chr(34) * (i in (1, 9))}\n" for i in range(1, 12))
    source = table(tmp_path / "t.tsv", "n\ttext\n" + odd + "12\tb\tmore\n")
    assert len(source) == 11 and list(source.problems) == ["t.tsv, line 13"]
    odd = odd.replace('1\ta"', '1\t"a').replace('9\ta"', '9\ta"')
    source = table(tmp_path / "t.tsv", "n\ttext\n" + odd + "12\tb\tmore\n")
    assert len(source) == 11 and list(source.problems) == ["t.tsv, line 13"]
    cell = '1\ta.png\t"A cat\nsits\there"\tcat\n'
    source = table(tmp_path / "t.tsv", "id\timage\ttext\tlabel\n" + cell)
    assert source.texts == ["A cat sits here"] and "quotes" not in source.read_as
    paired = table(tmp_path / "t.tsv", 'text\tn\n"a\tb ""c"""\t1\n"two\nlines"\t2\n')
    assert paired.texts == ['a b "c"', "two lines"] and "quotes" not in paired.read_as


def test_what_programs_write_into_csv(tmp_path):
    exported = 'id,labels,tags,text\na,"[""cat""]","[""x"", ""y""]",one\nb,[],,two\n'
    source = table(tmp_path / "t.csv", exported)
    assert source.labels == [["cat"], []]
    assert source.fields == {"tags": (list, [["x", "y"], None])}
    for cells in ('"[1]"', "[oops]", '"[""a""] b"'):
        assert table(tmp_path / "t.csv", f"text,n\na,{cells}\n").fields["n"][0] is str
    source = table(tmp_path / "t.csv", "sep=;\r\ntext;n\r\na,b;1\r\nx;2;3\r\n")
    assert source.texts == ["a,b"] and list(source.problems) == ["t.csv, line 4"]
    source = table(tmp_path / "t.csv", ",text\n0,a\n1,b\n")
    assert source.read_as["not kept"] == "a column without a name"


def test_pictures_of_windows_or_that_have_moved(tmp_path):
    here = str(picture(tmp_path / "pics" / "a" / "0.png"))
    for name, root in (
        (r"pics\a\0.png", None),
        ("/data/img/a/0.png", "pics"),
        (r"C:\old\a\0.png", "pics"),
        (here, "pics"),
    ):
        (tmp_path / "t.csv").write_text(f"image,text\n{name},a\n")
        root = root and tmp_path / root
        assert open_source([tmp_path / "t.csv"], images_root=root).images == [here]
    (tmp_path / "t.csv").write_text("image,text\nb/0.png,a\n")  # another one that is not there
    (image,) = open_source([tmp_path / "t.csv"], images_root=tmp_path / "pics" / "a").images
    assert image == str(tmp_path / "pics" / "a" / "b" / "0.png")
    (tmp_path / "t.csv").write_text("image,text\n/data/img/a/0.png,a\n")  # nobody says where
    assert open_source([tmp_path / "t.csv"]).images == ["/data/img/a/0.png"]


def test_sub_folders_are_labels_whatever_else_there_is(tmp_path):
    for name in ("cats/1.png", "dogs/2.png", "3.png", "train/cats/4.png", "val/dogs/5.png"):
        picture(tmp_path / name)
    source = open_source([tmp_path])
    labels = dict(zip(source.ids, source.labels, strict=True))
    assert labels["3.png"] == [] and labels["cats/1.png"] == ["cats"] == labels["train/cats/4.png"]
    assert source.read_as["labels"] == "2 sub-folders: cats, dogs"
    picture(tmp_path / "train" / "6.png")  # of no class
    source = open_source([tmp_path])
    assert source.labels[source.ids.index("train/6.png")] == []
    shutil.rmtree(tmp_path / "train" / "cats")
    shutil.rmtree(tmp_path / "val")
    source = open_source([tmp_path])
    assert source.labels[source.ids.index("train/6.png")] == ["train"]  # a class of that name


def test_parquet_of_vectors_and_columns(tmp_path):
    # before, vectors of a fixed length cannot be missing
    arrow = pytest.importorskip("pyarrow", minversion="26")
    from pyarrow import parquet

    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    vectors = arrow.array([*x[:2].tolist(), None, x[3].tolist()], arrow.list_(arrow.float32(), 3))
    columns = {"image_emb": vectors, "text": ["a", "b", "c", None], "year": [1, 2, None, 4]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet", row_group_size=2)
    source = open_source([tmp_path / "t.parquet"])
    assert source.has("image").tolist() == [True, True, False, True]
    assert source.has("text").tolist() == [True, True, True, False]
    assert np.array_equal(source.rows("image", np.array([0, 3])), x[[0, 3]])
    assert source.fields == {"year": (int, [1, 2, None, 4])}
    columns["image_emb"] = arrow.array([None, None, [1.0], [1.0, 2.0]])
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="image_emb: vectors of different lengths, row 0 or later"):
        open_source([tmp_path / "t.parquet"])
    columns["other"] = arrow.array([[], None, [], []], arrow.list_(arrow.float32()))
    columns["image_emb"] = vectors
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")  # none of them is asked for
    assert open_source([tmp_path / "t.parquet"]).has("image").sum() == 3
    columns = {"embedding": vectors, "caption": ["a", "b", "c", None], "code": list("1234")}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    source = open_source([tmp_path / "t.parquet"])
    told = "column 'embedding' (vectors of 3; what they are tells --image_column or --text_column)"
    assert source.read_as["not kept"] == told and not source.features
    assert source.fields == {"code_": (str, ["1", "2", "3", "4"])}  # texts as they are
    source = open_source([tmp_path / "t.parquet"], columns={"image": "embedding"})
    assert "not kept" not in source.read_as and source.has("image").sum() == 3
    columns = {"text_emb": vectors, "caption": ["a", "b", "c", None]}
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    source = open_source([tmp_path / "t.parquet"])
    told = "column 'text_emb', features of 3; shown: column 'caption'"
    assert source.read_as["text"] == told and source.texts == ["a", "b", "c", None]
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(ValueError, match="no Parquet file"):
        open_source([tmp_path / "t.parquet"])


def test_parquet_that_pyarrow_cannot_read(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def read(*_, **__):
        raise arrow.ArrowInvalid("lists")

    parquet.write_table(arrow.table({"text": ["a"]}), tmp_path / "t.parquet")
    monkeypatch.setattr(parquet.ParquetFile, "read", read)
    with pytest.raises(ValueError, match=r"pyarrow \S+ cannot read it, a newer one may \(lists"):
        open_source([tmp_path / "t.parquet"])


def test_parquet_of_dates_and_bytes(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    day, moment = datetime.date(2024, 1, 3), datetime.datetime(2024, 1, 3, 4, 5, 6)
    columns = {
        "text": ["a b", "c"],
        "day": arrow.array([day, None]),
        "ms": arrow.array([moment, None], arrow.timestamp("ms")),
        "ns": arrow.array([10**9 * 86400 + 5, 0], arrow.timestamp("ns")),
        "blob": [b"a", b"b"],
        "cost": [decimal.Decimal("1.50"), None],
        "when": [[day], []],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    source = open_source([tmp_path / "t.parquet"])
    assert source.fields == {
        "day": (str, ["2024-01-03", None]),
        "ms": (str, ["2024-01-03T04:05:06", None]),
        "ns": (str, ["1970-01-02T00:00:00.000000005", "1970-01-01T00:00:00"]),
        "cost": (str, ["1.50", None]),
        "when": (str, ['["2024-01-03"]', "[]"]),
    }
    assert source.read_as["not kept"] == "column 'blob' (binary)"


@pytest.mark.parametrize("kind", ["struct", "binary"])
def test_pictures_inside_of_parquet_are_refused(kind, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    pictures = [{"bytes": b"a", "path": "a.jpg"}] * 2 if kind == "struct" else [b"a", b"b"]
    columns = {"image": pictures, "text": ["a b", "c d"]}
    for more in ({}, {"text": [1, 2]}):  # a text or none
        parquet.write_table(arrow.table(columns | more), tmp_path / "t.parquet")
        for told in ({}, {"image": "image"}):
            with pytest.raises(
                ValueError, match="'image' holds pictures as bytes, .*write each into a f"
            ):
                open_source([tmp_path / "t.parquet"], columns=told)
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    source = open_source([tmp_path / "t.parquet"], columns={"image": ""})
    assert source.texts == ["a b", "c d"] and "column 'image'" in source.read_as["not kept"]
    parquet.write_table(arrow.table({**columns, "file": ["a.png"] * 2}), tmp_path / "t.parquet")
    assert open_source([tmp_path / "t.parquet"]).images[0] == str(tmp_path / "a.png")


BIG = "1234567890123456789"


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        (["9223372036854775807", "-9223372036854775808"], int, [2**63 - 1, -(2**63)]),
        (["9223372036854775808", "1"], str, ["9223372036854775808", "1"]),
        ([BIG, "1.5"], str, [BIG, "1.5"]),
        (["9" * 5000, "1"], str, ["9" * 5000, "1"]),
        ([10**30, 1], str, [str(10**30), "1"]),
        ([int(BIG), 1.5], str, [BIG, "1.5"]),
        ([2**53 - 1, 1.5], float, [float(2**53 - 1), 1.5]),
    ],
)
def test_numbers_that_would_lose_digits_are_texts(tmp_path, values, kind, kept):
    rows = [{"text": "a", "n": value} for value in values]
    texts = all(isinstance(value, str) for value in values)
    lines = "".join(f"a,{value}\n" for value in values)
    source = table(tmp_path / "t.csv", f"text,n\n{lines}")
    if not texts:
        source = table(tmp_path / "t.json", json.dumps(rows))
    assert source.fields == {"n": (kind, kept)}
    assert ("too large for numbers" in source.read_as["fields"]) == (kind is str)
    if texts:  # which JSON says by itself
        source = table(tmp_path / "t.json", json.dumps(rows))
        assert source.fields == {"n": (str, values)} and "large" not in source.read_as["fields"]


def test_columns_that_are_renamed_are_told(tmp_path):
    source = table(tmp_path / "t.csv", "text,weird name,code,True_,Not\na,1,2,3,4\n")
    assert source.read_as["fields"] == (
        "column 'weird name' as weird_name (int), column 'code' as code_ (int), "
        "True_ (int), column 'Not' as Not_ (int)"
    )


def test_columns_keep_the_letters_of_any_language(tmp_path):
    head = "text;Größe;größe;Preis (€);La\u0308nge;Цена;価格;2. Wahl;_x"
    source = table(tmp_path / "t.csv", f"{head}\na;1;2;3;4;5;6;7;8\n")
    names = ["Größe", "größe", "Preis", "Länge", "Цена", "価格", "c_2_Wahl", "x"]
    assert [*source.fields] == names
    index = HammingIndex(8, fields={name: kind for name, (kind, _) in source.fields.items()})
    values = {name: own for name, (_, own) in source.fields.items()}
    index.add(torch.ones(1, 8, dtype=torch.int8), [0], values)
    for number, name in enumerate(names, 1):
        assert index.list(f"{name} = {number} and `{name}` < 9").tolist() == [0]
    renamed = {"Preis (€)": "Preis", "La\u0308nge": "Länge", "2. Wahl": "c_2_Wahl"}
    for asked, name in renamed.items():
        with pytest.raises(ValueError, match=f"is not known, but as '{name}'; this store keeps"):
            index.list(f"`{asked}` = 1")


@pytest.mark.parametrize(
    ("values", "kind", "told"),
    [
        (["1.371,40", "0,5", ""], str, ", as its numbers have commas; for numbers write 1371.40"),
        (["1.001", "1,1", "7"], str, ", as its numbers have commas"),
        (["1,371.40", "-5"], str, ", as its numbers have commas"),
        (["1,2,3", "1,5"], str, ""),
        (["22.08.2025", "1,5"], str, ""),
        (["1.5", "2"], float, ""),
        (["1.001", "2", "12.000"], float, ""),
    ],
)
def test_numbers_with_commas_are_texts_and_told(tmp_path, values, kind, told):
    rows = "".join(f"a;{value}\n" for value in values)
    source = table(tmp_path / "t.csv", f"text;n\n{rows}")
    assert source.fields["n"][0] is kind and source.fields["n"][1][0] == kind(values[0])
    said = f"n ({kind.__name__}{told}"
    assert source.read_as["fields"].startswith(said if told else f"{said})")


def test_points_of_thousands_beside_decimal_commas_are_no_decimal_points(tmp_path):
    path = tmp_path / "t.csv"
    source = table(path, "text;part;n;kg\na;1,1;1.001;0.250\nb;2,25;7;1.500\n")
    assert {name: kind for name, (kind, _) in source.fields.items()} == {
        "part": str, "n": str, "kg": float,
    }  # fmt: skip
    assert (
        "n (str, as its numbers have points, and others decimal commas; for numbers write"
        in (source.read_as["fields"])
    )
    rows = [{"text": "a", "part": "1,1", "n": 1.001}]
    assert table(tmp_path / "t.json", json.dumps(rows)).fields["n"] == (float, [1.001])
    source = table(path, "text;part;n\na;1,100;1.001\n")  # thousands, as in English
    assert source.fields["n"] == (float, [1.001])


def test_arrays_and_feature_files(tmp_path):
    x = np.random.default_rng(0).random((6, 3), np.float32)
    hot = np.eye(2, dtype=np.uint8)[[0, 1] * 3] | np.array([[1, 0]], np.uint8)
    for name, value in {"img": x, "txt": x + 1, "label": hot, "odd": x}.items():
        np.save(tmp_path / f"{name}.npy", value)
    source = open_source([tmp_path / f"{name}.npy" for name in ("img", "txt", "label")])
    assert source.labels[:2] == [["class 0"], ["class 0", "class 1"]]
    assert np.array_equal(source.rows("text", np.array([1, 5])), x[[1, 5]] + 1)
    alone = open_source([tmp_path / "odd.npy"], columns={"text": "odd"})
    assert (alone.has("image").any(), alone.has("text").all()) == (False, True)
    with pytest.raises(ValueError, match="nothing tells what is picture"):
        open_source([tmp_path / "odd.npy"])
    places = np.array(["a.jpg", "", "https://x/y.png", "b.jpg", "d.jpg", "e.jpg"])
    np.savez(tmp_path / "p.npz", image=x, text=x, image_paths=places)
    found = open_source([tmp_path / "p.npz"]).images
    assert found[:3] == [str(tmp_path / "a.jpg"), None, None]
    more = {"labels": list("ababab"), "ids": list("uvwxyz"), "train": [0, 1, 2], "query": [5]}
    path = write_feature_file(tmp_path / "f.h5", image=x, text=x, **more)
    source = open_source([path])
    assert (source.ids, source.labels[1]) == (list("uvwxyz"), ["b"])
    assert source.splits["query"].tolist() == [False] * 5 + [True]
    assert np.array_equal(source.rows("image", np.array([2])), x[[2]])
