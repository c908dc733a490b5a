"""From raw pictures and texts to a feature file, a run and a search with raw items."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_hash.cli import main
from pyg_hash.cli.build import load_model
from pyg_hash.datasets import FeatureFile, encode_feature_file, write_feature_file
from pyg_hash.features import BagOfWords, OwnEncoder, load_image
from pyg_hash.runs import Run
from pyg_hash.serve import SearchEngine
from pyg_hash.utils.checksums import CorruptFileError
from pyg_hash.utils.locks import BusyError, replace_folder

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")
COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220)}


def mean_colors(paths):
    """Mean, scaled and centred, with some pixels behind."""
    rows = [load_image(path, 4).float().flatten(1) / 255 for path in paths]
    return torch.stack([torch.cat((row.mean(1), row[:, 0], row[:, 5])) for row in rows])


def raw(folder, n=36):
    rng = np.random.default_rng(0)
    names, paths, texts = list(COLORS), [], []
    for i in range(n):
        color = names[i % 3]
        pixels = np.clip(np.array(COLORS[color]) + rng.integers(-20, 20, (6, 6, 3)), 0, 255)
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
        texts.append(f"{color} thing {'small' if i % 2 else 'large'}")
    return paths, texts, np.arange(n) % 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    paths, texts, labels = raw(folder)
    query = np.arange(36) % 6 == 0
    more = {"labels": labels, "class_names": list(COLORS), "train": ~query, "query": query}
    image, text = OwnEncoder(mean_colors, 9), BagOfWords("count").fit(texts)
    path = encode_feature_file(
        folder / "mine.h5",
        images=paths,
        texts=texts,
        image_encoder=image,
        text_encoder=text,
        batch_size=5,
        **more,
    )
    return path, paths, texts, more


def test_features_are_those_of_the_encoders(made):
    path, paths, texts, _ = made
    dataset = FeatureFile(path)
    torch.testing.assert_close(dataset[0]["image"].x, mean_colors(paths))
    assert torch.equal(dataset[0]["text"].x, dataset.text_encoder()(texts))
    assert dataset.texts[3] == texts[3]
    assert [str(p) for p in paths] == [str(p) for p in dataset.image_paths]
    assert dataset.image_encoder().name == "mean_colors"


def test_two_at_a_time_do_not_share_the_encoders_folder(made, tmp_path, monkeypatch):
    _, paths, texts, more = made
    new, words, told = tmp_path / "new.h5", BagOfWords("count").fit(texts), []
    encoders = {"image_encoder": OwnEncoder(mean_colors, 9), "text_encoder": words}
    rows = {"image": mean_colors(paths), "text": words(texts)}

    def second(*args):
        for change in (
            lambda: write_feature_file(new, **rows, **encoders, **more),
            lambda: encode_feature_file(new, images=paths, texts=texts, **encoders, **more),
        ):
            with pytest.raises(BusyError, match=rf"path: .*new.h5: is .*process {os.getpid()} on"):
                change()
        told.append(write_feature_file(new, **rows, **more))  # it shares nothing
        return mean_colors(*args) if len(args) == 1 else replace_folder(*args)

    own = {"image_encoder": OwnEncoder(second, 9), "text_encoder": words}
    encode_feature_file(new, images=paths, texts=texts, batch_size=36, **own, **more)
    assert len(told) == 1
    monkeypatch.setattr(sys.modules["pyg_hash.datasets.feature_write"], "replace_folder", second)
    write_feature_file(new, **rows, **encoders, **more)
    assert len(told) == 2
    monkeypatch.undo()
    encode_feature_file(new, images=paths, texts=texts, **encoders, **more)
    assert FeatureFile(new).image_encoder().name == "mean_colors"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.h5", "new.h5.encoders"]


def test_somebody_elses_folder_of_encoders_is_kept(made, tmp_path):
    _, paths, texts, more = made
    new, words = tmp_path / "new.h5", BagOfWords("count").fit(texts)
    rows = {"image": mean_colors(paths), "text": words(texts)}
    own = {"image_encoder": mean_colors, "text_encoder": words}
    folder = Path(f"{new}.encoders")
    calls = (
        lambda: write_feature_file(new, **rows, **own, **more),
        lambda: encode_feature_file(new, images=paths, texts=texts, **own, **more),
    )
    (folder / "image").mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    for call in calls:
        with pytest.raises(FileExistsError, match=r"h5\.encoders, which holds image, thesis\.txt;"):
            call()
    (folder / "thesis.txt").rename(folder / ".DS_Store")
    for call in calls:
        call()
    assert FeatureFile(new).text_encoder().vocabulary == words.vocabulary
    shutil.rmtree(folder)
    folder.write_text("mine")
    for call in calls:
        with pytest.raises(FileExistsError, match=r"h5\.encoders, which is no folder; move"):
            call()
    assert folder.read_text() == "mine"


def test_features_of_another_encoder_are_refused(made, tmp_path, capsys):
    path, _, texts, more = made
    assert main(["train", f"--dataset={path}", f"--out={tmp_path}/run", "--model=scm"]) == 0
    words = BagOfWords("count", min_df=2).fit([*texts, "blue and red"])
    other = tmp_path / "other.h5"
    write_feature_file(
        other, image=FeatureFile(path)[0]["image"].x, text=words(texts), text_encoder=words, **more
    )
    command = ["encode", f"{tmp_path}/run", "--source=text", f"--out={tmp_path}/x.h5"]
    assert main([*command, f"--features={path}"]) == 0
    capsys.readouterr()
    assert main([*command, f"--features={other}"]) == 1
    assert "are of another encoder" in capsys.readouterr().err
    assert main([*command, f"--features={other}", "--force"]) == 0


def test_a_run_takes_raw_items(made, tmp_path, capsys, monkeypatch):
    path, paths, _, _ = made
    run = f"{tmp_path}/run"
    words = ["--num_bits=16", "--k=4", "--epochs=20", "--label_rate=0.5"]
    assert main(["train", f"--dataset={path}", f"--out={run}", *words]) == 0
    capsys.readouterr()
    assert main(["search", run, "--text=blue", "-k3", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert {answer["labels"][0] for answer in answers} == {"blue"}
    assert main(["search", run, f"--image={paths[0]}"]) == 1
    assert "'mean_colors' is a function of yours" in capsys.readouterr().err
    engine = SearchEngine.of(Run.open(run), load_model(Run(Path(run))))
    assert engine.about()["queries"] == ["text"]
    assert any("'mean_colors'" in note for note in engine.notes)
    monkeypatch.setitem(sys.modules, "my_colors", sys.modules[__name__])
    own = "--image_encoder=my_colors:mean_colors"
    assert main(["search", run, f"--image={paths[1]}", "-k3", "--json", own]) == 0
    answers = json.loads(capsys.readouterr().out)["answers"]
    assert {answer["labels"][0] for answer in answers} == {"green"}


@pytest.mark.parametrize("kind", ["list", "array", "tensor", "list of tensors", "ragged"])
def test_a_function_may_give_lists_arrays_or_tensors(made, tmp_path, kind):
    path, paths, texts, more = made
    forms = {
        "list": torch.Tensor.tolist,
        "array": torch.Tensor.numpy,
        "tensor": torch.Tensor.double,
        "list of tensors": list,
        "ragged": lambda x: [[1.0], *x.tolist()][: len(x)],
    }

    def own(paths):
        return forms[kind](mean_colors(paths))

    words = BagOfWords("count").fit(texts)
    new = tmp_path / "x.h5"

    def encoded():
        raw = {"images": paths, "texts": texts}
        encode_feature_file(new, **raw, image_encoder=own, text_encoder=words, **more)
        return FeatureFile(new)

    if kind == "ragged":
        with pytest.raises(TypeError, match="'own' gave list, expected rows of numbers"):
            encoded()
        return
    torch.testing.assert_close(encoded()[0]["image"].x, FeatureFile(path)[0]["image"].x)
    # the same of features that are there already
    features = {"image": mean_colors(paths), "text": words(texts)}
    write_feature_file(new, **features, image_encoder=own, text_encoder=words, **more)
    dataset = FeatureFile(new)
    assert (dataset.image_encoder().name, dataset.image_encoder().num_features) == ("own", 9)
    assert torch.equal(dataset.text_encoder()(texts), dataset[0]["text"].x)
    for wrong in (OwnEncoder(own, 9), BagOfWords("count").fit(["a"])):
        with pytest.raises(ValueError, match="makes [19] features, "):
            write_feature_file(new, **features, text_encoder=wrong, **more)
    with pytest.raises(TypeError, match="image_encoder: expected an encoder or a function, got 3"):
        write_feature_file(new, **features, image_encoder=3, **more)


def test_bad_items_are_all_named_and_nothing_is_written(made, tmp_path):
    _, paths, texts, more = made
    (tmp_path / "bad.png").write_bytes(b"x")
    paths = [*paths[:3], tmp_path / "bad.png", *paths[4:]]
    words = [*texts[:7], "nothing known", *texts[8:]]
    encoders = {"image_encoder": OwnEncoder(mean_colors, 9)}
    encoders["text_encoder"] = BagOfWords().fit(texts)
    with pytest.raises(ValueError, match="2 items cannot be encoded") as error:
        encode_feature_file(tmp_path / "x.h5", images=paths, texts=words, **encoders, **more)
    assert "image 3 (" in str(error.value) and "text 7 (" in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.png"]
    with pytest.raises(ValueError, match="35 texts and 36 pictures"):
        encode_feature_file(tmp_path / "x.h5", images=paths, texts=texts[1:], **encoders, **more)


def test_encoders_of_another_file_are_not_taken(made, tmp_path):
    path, _, _, more = made
    shutil.copytree(f"{path}.encoders", tmp_path / "new.h5.encoders")
    x = torch.ones(36, 9)
    write_feature_file(tmp_path / "new.h5", image=x, text=x, **more)
    with pytest.raises(ValueError, match="ready-made"):
        FeatureFile(tmp_path / "new.h5").image_encoder()
    shutil.copy(path, tmp_path / "new.h5")
    assert FeatureFile(tmp_path / "new.h5").image_encoder().num_features == 9
    settings = tmp_path / "new.h5.encoders" / "text" / "encoder.json"
    own = settings.read_bytes()
    settings.write_text("{}")
    with pytest.raises(CorruptFileError, match="text: is not the encoder that made .*new.h5"):
        FeatureFile(tmp_path / "new.h5").text_encoder()
    settings.write_bytes(own)
    (settings.parent / "more.txt").touch()  # any file of it counts
    with pytest.raises(CorruptFileError, match="text: is not the encoder that made .*new.h5"):
        FeatureFile(tmp_path / "new.h5").text_encoder()


def test_damaged_encoders_are_an_error_before_the_training(made, tmp_path, capsys):
    path, new, run = made[0], tmp_path / "new.h5", tmp_path / "run"
    shutil.copy(path, new)
    shutil.copytree(f"{path}.encoders", f"{new}.encoders")
    weights = tmp_path / "new.h5.encoders" / "text" / "encoder.safetensors"
    own = weights.read_bytes()
    weights.write_bytes(b"x")
    words = ["train", f"--dataset={new}", f"--out={run}", "--num_bits=16", "--k=4", "--epochs=1"]
    assert main(words) == 1
    assert "encoder.safetensors" in capsys.readouterr().err
    assert not (run / "checkpoint.safetensors").exists()
    assert (run / "encoders" / "image").is_dir()
    weights.write_bytes(own)
    shutil.rmtree(f"{new}.encoders/image")
    assert main(words) == 0  # nothing was trained: the folder is taken over, with what is there now
    assert [f.name for f in (run / "encoders").iterdir()] == ["text"]
