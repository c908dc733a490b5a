"""Packages that are missing, and others that are there and fail."""

import pytest

from pyg_hash.utils.optional import imported, require
from pyg_hash.utils.settings import SettingError


def test_a_missing_package_is_named_with_its_extra():
    told = r"this needs the package no-such \(No module named 'no_such'\); install it with: pip"
    with pytest.raises(ImportError, match=told + r" install 'pyg_hash\[some\]'"):
        require("no_such", "no-such", extra="some")


def test_a_users_module_that_fails_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, source in (("odd_syntax", "def f(:"), ("odd_licence", "raise ValueError('none')")):
        (tmp_path / f"{name}.py").write_text(source)
        told = rf"model: {name}:f cannot be imported \((SyntaxError: .*|ValueError: none)\)"
        with pytest.raises(SettingError, match=told):
            imported(f"{name}:f", "model")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import no_such_part", "No module named 'no_such_part'"),
        ("raise RuntimeError('two\\n lines')", "two lines"),
        ("try: 1 / 0\nexcept ZeroDivisionError: import no_such_part", "No module .*'no_such_part'"),
        ("try: 1 / 0\nexcept Exception as e: raise ImportError('odd') from e", "division by zero"),
        ("try: import no_such\nexcept ImportError: raise ImportError('odd') from None", "odd"),
        (
            "try: import no_such_part\nexcept ImportError as e: raise ImportError('odd') from e",
            "No module named 'no_such_part'",
        ),
    ],
)
def test_a_package_that_is_there_and_fails_is_not_called_missing(
    tmp_path, monkeypatch, source, why
):
    (tmp_path / "fails_here.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    told = rf"^the package fails-here is installed, but its import fails \({why}\); mend it: pip"
    with pytest.raises(ImportError, match=told + r" install 'pyg_hash\[some\]'$"):
        require("fails_here", "fails-here", extra="some")
