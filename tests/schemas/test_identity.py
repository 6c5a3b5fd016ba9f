"""Pseudonyms and hashed choices."""

import hashlib
from types import SimpleNamespace

import pytest

from schemas.identity import pseudonym, uniform


def test_pseudonyms_are_stable_and_depend_on_kind_and_key() -> None:
    # HMAC-SHA-256 with an empty key, computed with: printf 'id\0a.png' | openssl dgst -sha256 -hmac ''
    assert pseudonym("id", "a.png") == "c6d9a8350bab62267e24864f28e7ee17"
    assert len({pseudonym("id", "a"), pseudonym("group", "a"), pseudonym("id", "a", b"key")}) == 3


def test_hashed_numbers_are_uniform_and_independent_across_purposes() -> None:
    names = [f"n{i}" for i in range(20_000)]
    first = [uniform(0, "split", name) for name in names]
    assert abs(sum(value < 0.1 for value in first) / len(names) - 0.1) < 0.01
    both = sum(uniform(0, "sample", name) < 0.1 and value < 0.1 for name, value in zip(names, first, strict=True))
    assert abs(both / len(names) - 0.01) < 0.005
    assert all(0 <= value < 1 for value in first)


def test_a_hashed_number_is_below_one_whatever_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "sha256", lambda _: SimpleNamespace(digest=lambda: b"\xff" * 32))
    assert 0.999 < uniform(0, "split", "name") < 1
