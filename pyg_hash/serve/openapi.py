"""The API in OpenAPI 3.1, as served at ``/api/openapi.json``."""

from __future__ import annotations

from typing import Any

from pyg_hash import __version__
from pyg_hash.serve.worker import Limits

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "integer", "minimum": 0}
_MODALITY: Json = {"type": "string", "enum": ["image", "text"]}


def describe_api(limits: Limits) -> Json:
    """The description, with the limits in it."""
    bounds = {"type": "integer", "minimum": 1, "maximum": limits.max_k, "default": limits.k}
    k = _query("k", "number of answers", bounds)
    target = _query("modality", "which codes to search; default: the other one", _MODALITY)
    words = _query("text", "what to search for", {**_TEXT, "maxLength": limits.letters}, True)
    by = _query("by", "which code of the item to search with", {**_MODALITY, "default": "image"})
    row = {"name": "row", "in": "path", "required": True, "schema": _NUMBER}
    file = {"schema": {"type": "string", "format": "binary"}}
    picture = {
        "required": True,
        "description": f"a picture file itself, at most {limits.upload_bytes} bytes",
        "content": {"image/*": file},
    }
    found, item, anything = _ref("Answers"), _ref("Item"), _json({"type": "object"})
    near = "Items nearest to"
    post = _get(f"{near} a picture", found, [k, target], 400, 408, 413, 415, 422, 503)["get"]
    small = _get("Its picture, small", {"image/jpeg": file}, [row], 304, 400, 404, 503)
    small["get"]["responses"]["304"] = {
        "description": "the picture that the client has is the right one"
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "pyg_hash search", "version": __version__},
        "paths": {
            "/api/search": {
                **_get(f"{near} words", found, [words, k, target], 400, 422, 503),
                "post": {**post, "requestBody": picture},
            },
            "/api/item/{row}": _get("One item", item, [row], 400),
            "/api/item/{row}/similar": _get(
                f"{near} an item", found, [row, by, k, target], 400, 404, 503
            ),
            "/api/item/{row}/picture": small,
            "/api/run": _get("What the run is and can do", anything, []),
            "/api/openapi.json": _get("This description", anything, []),
            "/healthz": _get("Whether the server lives", anything, []),
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
    near = {
        "distance": {**_NUMBER, "description": "Hamming distance to the query"},
        "score": {
            "type": ["number", "null"],
            "description": "inner product of real-valued codes, by which answers are ordered; null "
            "where they are ordered by distance alone",
        },
    }
    answers = {
        "modality": _MODALITY,
        "num_bits": {**_NUMBER, "description": "the largest possible distance"},
        "seconds": {"type": "number"},
        "notes": {"type": "array", "items": _TEXT},
        "tied": {**_NUMBER, "description": "items as far away as the last answer, itself included"},
        "answers": {"type": "array", "items": _object({**near, **item})},
    }
    error = {"error": {**_TEXT, "description": "what is wrong, and what to do"}}
    kinds = {"Item": item, "Answers": answers, "Error": error}
    return {name: _object(properties) for name, properties in kinds.items()}


def _object(properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _query(name: str, words: str, schema: Json, required: bool = False) -> Json:
    values = {"name": name, "in": "query", "required": required}
    return {**values, "description": words, "schema": schema}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Json:
    return _json({"$ref": f"#/components/schemas/{name}"})


def _get(words: str, content: Json, parameters: list[Json], *errors: int) -> Json:
    """A request with its answer and the errors that it can give."""
    refused = {"description": "refused; the message says why", "content": _ref("Error")}
    responses: Json = {"200": {"description": words, "content": content}}
    responses.update({str(status): dict(refused) for status in errors})
    return {"get": {"summary": words, "parameters": parameters, "responses": responses}}
