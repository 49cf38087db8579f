"""The training table of a run, as a study file names it."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from optuna_spark.errors import SpecError
from optuna_spark.spec.form_fields import DATA, plain
from optuna_spark.spec.key import REQUIRED, Field, Reach, check_limits, key
from optuna_spark.spec.sections import NAME

PARQUET_ENDINGS = (".parquet", ".pq")
# What a run may name; a study file may name any format of Spark's.
FORMATS = ("csv", "parquet", "orc", "json")
# What Arrow reads, the same under every distribution.
FILE_FORMATS = (None, "csv", "parquet")
AUTO = "auto"
# What stands for a missing value in CSV, beside an empty cell: the words that pandas.read_csv has for it.
MISSING_IN_CSV = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


@dataclass(frozen=True)
class ColumnsSpec:
    """Which columns of the table are used."""

    drop: tuple[str, ...] = key(
        (), "Columns that are left out: names, or patterns with *, ? and [...]. A label that is named stays."
    )
    keep: tuple[str, ...] = key(
        (), "Columns that are features, by name or pattern; the label need not be among them. Empty: all."
    )


@dataclass(frozen=True)
class TestColumn:
    """Test rows that the table itself names: those where `column` is true, or 1."""

    # Not a class of tests, though pytest takes its name for one.
    __test__ = False

    column: str


@dataclass(frozen=True)
class DataSpec:
    """The training table."""

    path: str | tuple[str, ...] = key(
        REQUIRED,
        "File, folder or pattern (part-*.csv), or a list of them, as the workers see it (relative: to the study file);"
        " or a URL, or sklearn:<name>, a table of scikit-learn's. In an object store: s3://, s3a://, gs:// or abfss://.",
        field=Field(Reach.FILE, DATA, schema={"minLength": 1}),
    )
    format: str | None = key(
        None,
        "csv or parquet; with distribution dataframe any format Spark reads, or table: path is then the name of a table"
        " or view of Spark's catalog. null: parquet if the file is that, whatever its name, else csv.",
        field=plain(DATA, closed=FORMATS),
    )
    separator: str = key(",", "Separator of a CSV file.", field=plain(DATA, schema={"minLength": 1, "maxLength": 1}))
    label: str | None = key(
        None, "Column to predict. null: the last one.", field=plain(DATA, schema={"maxLength": 250})
    )
    test: float | TestColumn | None = key(
        None,
        "Share of the rows, such as 0.2, that no trial sees: only the final model (model) is scored on them. A row's"
        " content alone decides, so that it stays a test row when the table grows. Or {column: name}: a column that is"
        " true (or 1) for test rows, and no feature. null: none.",
        above=0,
        below=1,
    )
    encoding: str | None = key(
        None,
        "Encoding of a CSV file, such as latin-1, cp1252 or utf-16. null: UTF-8, with or without a byte order mark.",
    )
    missing: tuple[str, ...] | None = key(
        None,
        "Words that mean a value is missing, in addition to empty cells and nulls. null: in CSV NA, NaN, null, None and"
        " their like, in Parquet none. []: none, so that a class can be called NA.",
    )
    columns: ColumnsSpec = key(ColumnsSpec(), "Which columns are used.")
    categorical: str | tuple[str, ...] | None = key(
        AUTO,
        "Features that objective xgboost takes as categories. auto: those of texts, and pandas' categories, if they"
        " repeat. A list: these, by name or pattern. null: none. All others must hold numbers, booleans or dates.",
    )
    weight: str | None = key(
        None,
        "Column of the rows' weights, 0 or more, in training and in every metric of objective xgboost; no feature.",
    )
    # With the digest a run decides which content of the author's address counts.
    sha256: str | None = key(
        None,
        "SHA-256 of the file, 64 hex digits; required for a URL, so that every worker trains on the same bytes.",
        pattern="[0-9a-f]{64}",
        must="be 64 lower-case hex digits",
        field=Field(Reach.FILE, DATA),
    )
    format_options: dict[str, str] = key(
        None,
        "Options of Spark's reader, with distribution dataframe. No secret here: others can read this file.",
        make=dict,
    )
    connection: str | None = key(
        None,
        "Airflow connection that opens the table; its secrets show nowhere. An https:// URL takes host, login and"
        " password, or a bearer token as password alone. An object store takes type aws (s3://, s3a://), wasb or adls"
        " (abfss://) with its keys. With distribution dataframe any other type gives the reader user, password and the"
        " extra as options.",
        pattern=NAME.pattern,
        must="be the id of an Airflow connection",
    )
    names_in_errors: bool = key(
        True, "Errors may name the table's columns, never its values; a path from the trigger form sets it to false."
    )

    def __post_init__(self) -> None:
        if not self.path or not all(self.paths):
            raise SpecError("path must name a file, a URL or sklearn:<name>, got an empty text or list")
        if not isinstance(self.path, str):
            self._check_list(self.path)
        if len(self.separator) != 1:
            raise SpecError(f"separator must be one character, got {self.separator!r}")
        check_limits(self)
        if isinstance(self.categorical, str) and self.categorical != AUTO:
            raise SpecError(f"categorical must be auto, a list of columns or null, got {self.categorical!r}")
        if self.is_url and self.sha256 is None:
            raise SpecError("sha256 is required for a URL: run sha256sum on the file and add it")
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.connection is not None:
            self._check_connection()

    def _check_list(self, paths: tuple[str, ...]) -> None:
        if self.is_catalog_table:
            raise SpecError("path must name one table of Spark's catalog, got a list")
        for path in paths:
            if path.startswith((*_URLS, _BUNDLED)):
                raise SpecError(f"path may list files and folders only, got {path}: give a URL or a table alone")

    def _check_connection(self) -> None:
        if self.is_bundled or self.is_catalog_table:
            raise SpecError(
                "connection is for files, URLs and databases; for tables of Spark's catalog name a connection in"
                " spark.conf_connection"
            )
        if self.is_url and not self.location.startswith("https://"):
            raise SpecError(
                f"connection needs an https:// URL: anyone on the way reads the login else, got {self.location}"
            )

    @property
    def paths(self) -> tuple[str, ...]:
        """Each path: one, or those of a list."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def location(self) -> str:
        """The path, or of several the first and how many there are: for sentences, and where there is only one."""
        first, *more = self.paths or ("",)
        return f"{first} and {len(more)} more" if more else first

    @property
    def row_columns(self) -> dict[str, str]:
        """The columns that say something of rows, by the key that names each: no features, whatever is dropped."""
        return {} if self.weight is None else {"data.weight": self.weight}

    @property
    def test_column(self) -> str | None:
        """The column that names the test rows; None without one."""
        return self.test.column if isinstance(self.test, TestColumn) else None

    @property
    def is_url(self) -> bool:
        return self.location.startswith(_URLS)

    @property
    def is_store(self) -> bool:
        """Whether any path is in an object store that Arrow opens."""
        return any(path.startswith(STORES) for path in self.paths)

    @property
    def is_bundled(self) -> bool:
        return self.location.startswith(_BUNDLED)

    @property
    def is_catalog_table(self) -> bool:
        return self.format == "table"


STORES = ("s3://", "s3a://", "gs://", "abfss://")
_URLS = ("http://", "https://", "ftp://")
_BUNDLED = "sklearn:"


def _check_encoding(name: str) -> None:
    try:
        codecs.lookup(name)
        "".encode(name)  # refuses those that are not for text, such as base64
    except (LookupError, ValueError):
        raise SpecError(f"encoding must be one that Python knows, such as latin-1 or utf-16, got {name!r}") from None
