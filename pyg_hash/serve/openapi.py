"""The API in OpenAPI 3.1, as served at ``/api/openapi.json``."""

from __future__ import annotations

from typing import Any

from pyg_hash import __version__
from pyg_hash.serve.limits import Limits

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "integer", "minimum": 0}
_MODALITY: Json = {"type": "string", "enum": ["image", "text"]}


def describe_api(limits: Limits) -> Json:
    """The description, with the limits in it."""
    k = _query("k", "number of answers", {**_bounded(1, limits.max_k), "default": limits.k})
    target = _query("modality", "which codes to search; default: the other one", _MODALITY)
    words = _query("text", "what to search for", {**_TEXT, "maxLength": limits.letters}, True)
    by = _query("by", "which code of the item to search with", {**_MODALITY, "default": "image"})
    row = {"name": "row", "in": "path", "required": True, "schema": _NUMBER}
    picture = {
        "required": True,
        "description": f"a picture file itself, at most {limits.upload_bytes} bytes",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
    found, item = _json("#/components/schemas/Answers"), _json("#/components/schemas/Item")
    image = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    post = _operation(
        "Items nearest to a picture", found, [k, target], 400, 408, 413, 415, 422, 503
    )
    similar = _operation("Items nearest to an item", found, [row, by, k, target], 400, 404, 503)
    anything = _json({"type": "object"})
    return {
        "openapi": "3.1.0",
        "info": {"title": "pyg_hash search", "version": __version__},
        "paths": {
            "/api/search": {
                "get": _operation(
                    "Items nearest to words", found, [words, k, target], 400, 422, 503
                ),
                "post": {**post, "requestBody": picture},
            },
            "/api/item/{row}": {"get": _operation("One item", item, [row], 400)},
            "/api/item/{row}/similar": {"get": similar},
            "/api/item/{row}/picture": {
                "get": _operation("Its picture, small", image, [row], 304, 400, 404, 503)
            },
            "/api/run": {"get": _operation("What the run is and can do", anything, [])},
            "/api/openapi.json": {"get": _operation("This description", anything, [])},
            "/healthz": {"get": _operation("Whether the server lives", anything, [])},
        },
        "components": {"schemas": _schemas()},
    }


def _schemas() -> Json:
    item = {
        "row": {**_NUMBER, "description": "names the item in this API"},
        "id": {**_TEXT, "description": "its name in the data set"},
        "text": {"type": ["string", "null"]},
        "labels": {"type": "array", "items": _TEXT},
        "picture": {"type": ["string", "null"], "description": "address of its small picture"},
    }
    answer = {"distance": {**_NUMBER, "description": "Hamming distance to the query"}, **item}
    answers = {
        "modality": _MODALITY,
        "num_bits": {**_NUMBER, "description": "the largest possible distance"},
        "seconds": {"type": "number"},
        "notes": {"type": "array", "items": _TEXT},
        "answers": {"type": "array", "items": _object(answer)},
    }
    return {
        "Item": _object(item),
        "Answers": _object(answers),
        "Error": _object({"error": {**_TEXT, "description": "what is wrong, and what to do"}}),
    }


def _object(properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _bounded(low: int, high: int) -> Json:
    return {"type": "integer", "minimum": low, "maximum": high}


def _query(name: str, words: str, schema: Json, required: bool = False) -> Json:
    values = {"name": name, "in": "query", "required": required}
    return {**values, "description": words, "schema": schema}


def _json(schema: str | Json) -> Json:
    schema = {"$ref": schema} if isinstance(schema, str) else schema
    return {"application/json": {"schema": schema}}


def _operation(words: str, content: Json, parameters: list[Json], *errors: int) -> Json:
    """A ``GET`` or ``POST`` with its answer and the errors that it can give."""
    responses: Json = {"200": {"description": words, "content": content}}
    for status in errors:
        responses[str(status)] = {"description": "refused; the message says why"}
        if status != 304:
            responses[str(status)]["content"] = _json("#/components/schemas/Error")
    if 304 in errors:
        responses["304"]["description"] = "the picture that the client has is the right one"
    return {"summary": words, "parameters": parameters, "responses": responses}
