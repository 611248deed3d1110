"""Comparing tables from different places: values as values, not as what a library makes of them."""

import csv
import datetime
import io
import math
from decimal import Decimal

import numpy
import pandas
import pyarrow


def plain(value):
    """A Python value; missing is None, whichever way it is missing."""
    if value is None or value is pandas.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, numpy.generic):
        return plain(value.item())
    if isinstance(value, pandas.Timestamp):
        return value.to_pydatetime().replace(tzinfo=None)
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None)
    return value


def rows(table) -> list[tuple]:
    """The rows of a pyarrow Table, a pandas DataFrame, or a list of sequences."""
    if isinstance(table, pyarrow.Table):
        table = zip(*(column.to_pylist() for column in table.columns), strict=True)
    elif isinstance(table, pandas.DataFrame):
        table = zip(*(table[name].tolist() for name in table.columns), strict=True)
    return [tuple(plain(value) for value in row) for row in table]


def names(table) -> list[str]:
    return list(table.column_names if isinstance(table, pyarrow.Table) else table.columns)


def equal(left, right) -> bool:
    if isinstance(left, float) or isinstance(right, float):
        if left is None or right is None:
            return left is right
        return math.isclose(float(left), float(right), rel_tol=1e-9, abs_tol=1e-9)
    return left == right


def sort_key(row: tuple) -> tuple:
    """A total order of rows; floats coarsely, so that noise does not change the order."""
    return tuple("" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value) for value in row)


def assert_same(actual, expected, *, ordered: bool = True):
    """Same columns, same rows; floats within 1e-9."""
    if hasattr(actual, "columns") and hasattr(expected, "columns"):
        assert names(actual) == names(expected)
    assert_same_rows(rows(actual), rows(expected), ordered=ordered)


def assert_same_rows(actual: list[tuple], expected: list[tuple], *, ordered: bool = True):
    if not ordered:
        actual, expected = sorted(actual, key=sort_key), sorted(expected, key=sort_key)
    assert len(actual) == len(expected), f"{len(actual)} rows instead of {len(expected)}"
    for number, (left, right) in enumerate(zip(actual, expected, strict=True)):
        same = len(left) == len(right) and all(map(equal, left, right))
        assert same, f"row {number} is {left} instead of {right}"


def csv_text_rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8"), newline="")))


def as_text(table: pandas.DataFrame) -> list[list[str]]:
    """Header and rows as a CSV file has them."""

    def text(value) -> str:
        value = plain(value)
        if value is None:
            return ""
        if isinstance(value, Decimal):
            return format(value, "f")
        return str(value)

    return [list(table.columns), *([text(value) for value in row] for row in rows(table))]
