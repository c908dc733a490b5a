"""The Dockerfile and the compose file: whole, and their commands are commands of this version."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import yaml

from pyg_hash.cli.command import parse
from pyg_hash.runs import CATALOG

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()


def steps():
    """Instructions of the Dockerfile and their texts."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    return [line.split(" ", 1) for line in text.splitlines() if line]


def test_the_dockerfile_builds_what_is_there():
    found = steps()
    assert [name for name, _ in found][:2] == ["FROM", "ARG"]
    known = ("FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "STOPSIGNAL")
    assert {name for name, _ in found} == {*known, "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    for name, text in found:
        for source in text.split()[:-1] if name == "COPY" else ():
            assert (ROOT / source).exists()
    extras = re.search(r"'\.\[(.*)\]'", DOCKERFILE)[1].split(",")
    offered = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    assert set(extras) <= set(offered) and "latest" not in DOCKERFILE + COMPOSE
    by_name = dict(found)
    assert by_name["USER"] != "root" and json.loads(by_name["ENTRYPOINT"]) == ["pyg-hash"]
    args = parse(json.loads(by_name["CMD"]))
    assert args.serve.host == "0.0.0.0" and str(args.serve.port) == by_name["EXPOSE"]
    shown = re.sub(r" \\\n# +", " ", DOCKERFILE[: DOCKERFILE.index("FROM")])
    *_, words = [shlex.split(line) for line in shown.splitlines() if "docker run" in line]
    args = parse(words[words.index("pyg-hash") + 1 :]).serve  # of a run without its pictures
    mounted = [v.split(":")[1] for at, v in enumerate(words) if words[at - 1] == "-v"]
    assert mounted == [args.run, args.images_root] and args.host == "0.0.0.0"
    check = json.loads(by_name["HEALTHCHECK"].partition("CMD ")[2])
    assert compile(check[2], "check", "exec") and ":8765/readyz" in check[2]


def test_the_compose_file_is_whole():
    found = yaml.safe_load(COMPOSE)
    services = found["services"]
    assert set(services) == {"milvus", "fill", "page"}
    for name in ("fill", "page"):
        service = services[name]
        assert (ROOT / "deploy" / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        args = parse(service["command"])
        targets = [re.sub(r"\$\{.*?\}", "", volume).split(":")[1] for volume in service["volumes"]]
        if name == "page":
            assert targets == [args.serve.run, "/run-folder/added", args.serve.images_root]
        else:  # a store of a catalogue, which has the field that pictures are shown of
            assert args.export.run.startswith(f"{targets[0]}/{CATALOG}/") and targets[1:] == []
        where = args.serve.store if name == "page" else args.export.out
        assert where == "http://milvus:19530" and set(service["depends_on"]) <= set(services)
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
    page = services["page"]
    assert parse(page["command"]).serve.token_file == "/run/secrets/" + page["secrets"][0]
    assert set(page["secrets"]) == set(found["secrets"])
    assert {c["source"] for c in services["milvus"]["configs"]} == set(found["configs"])
    assert yaml.safe_load(found["configs"]["etcd"]["content"])["auto-compaction-mode"] == "revision"
    named = {v.partition(":")[0] for v in services["milvus"]["volumes"]}
    assert named == set(found["volumes"])
