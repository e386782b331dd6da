"""The quality gate: how alike what a variant answers is to what fp32 answers, for any JSON output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Quality:
    """How a variant's outputs for a sample compare with those of fp32."""

    similarity_min: float
    """Of the numbers, the item that fared worst: 1 is equal, 0 is nothing in common."""
    similarity_mean: float
    agreement: float
    """The share of items whose labels (texts, truth values, shapes, errors) are all equal."""

    def passes(self, min_similarity: float) -> bool:
        """Whether every item's numbers, and this share of all labels, are what fp32 says."""
        return self.similarity_min >= min_similarity and self.agreement >= min_similarity


def compare(reference: Sequence[Any], candidate: Sequence[Any]) -> Quality:
    """Compare outputs item by item. `None` stands for an item that failed."""
    if not reference or len(reference) != len(candidate):
        raise ValueError("a sample needs items, and one output of each side for each of them")
    pairs = [similarity(left, right) for left, right in zip(reference, candidate, strict=True)]
    numbers = [alike for alike, _ in pairs]
    return Quality(min(numbers), sum(numbers) / len(numbers), sum(agree for _, agree in pairs) / len(pairs))


def similarity(left: Any, right: Any) -> tuple[float, bool]:
    """How alike the numbers of two outputs are, at worst, and whether all else is equal.

    Numbers that stand side by side, in a list or an object, are one vector. Two vectors are as alike as
    `a·b / max(|a|², |b|²)`: the cosine where they are of one length, and less where they are not. Of a
    single number that is one minus the relative error.
    """
    alike, agree = 1.0, True
    for part in _parts(left, right):
        if part is None:
            agree = False
        else:
            alike = min(alike, _vectors(*part))
    return alike, agree


Vectors = tuple[list[float], list[float]]


def _parts(left: Any, right: Any) -> Iterator[Vectors | None]:
    """The pairs of vectors in two outputs, and None for each place where they disagree otherwise."""
    if isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            yield None
            return
        members = [(left[key], right[key]) for key in left]
    elif isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            yield None
            return
        members = list(zip(left, right, strict=True))
    else:
        members = [(left, right)]
    numbers = [(a, b) for a, b in members if _is_number(a) and _is_number(b)]
    if numbers:
        yield [float(a) for a, _ in numbers], [float(b) for _, b in numbers]
    for a, b in members:
        if _is_number(a) and _is_number(b):
            continue
        if isinstance(a, dict | list) and type(a) is type(b):
            yield from _parts(a, b)
        elif a != b or type(a) is not type(b):
            yield None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _vectors(left: list[float], right: list[float]) -> float:
    if left == right:
        return 1.0
    longest = max(sum(a * a for a in left), sum(b * b for b in right))
    return sum(a * b for a, b in zip(left, right, strict=True)) / longest if longest > 0 else 1.0
