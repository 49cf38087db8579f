"""The training table of a run, as a study file names it."""

from __future__ import annotations

from dataclasses import dataclass

from optuna_spark.errors import SpecError
from optuna_spark.spec.form_fields import DATA, plain
from optuna_spark.spec.key import REQUIRED, Field, Reach, check_limits, key
from optuna_spark.spec.sections import NAME

PARQUET_ENDINGS = (".parquet", ".pq")
# What a run may name; a study file may name any format of Spark's.
FORMATS = ("csv", "parquet", "orc", "json")


@dataclass(frozen=True)
class TestColumn:
    """Test rows that the table itself names: those where `column` is true, or 1."""

    # Not a class of tests, though pytest takes its name for one.
    __test__ = False

    column: str


@dataclass(frozen=True)
class DataSpec:
    """The training table."""

    path: str = key(
        REQUIRED,
        "File as the workers see it (relative: to the study file), URL, or sklearn:<name>, a table of scikit-learn's.",
        field=Field(Reach.FILE, DATA, schema={"minLength": 1}),
    )
    format: str | None = key(
        None,
        "csv or parquet; with distribution dataframe any format Spark reads, or table: path is then the name of a table"
        " or view of Spark's catalog. null: what the file's ending says, else csv.",
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
        " password, or a bearer token as password alone. With distribution dataframe: type aws (s3a://) or wasb"
        " (abfss://) with the store's keys; any other type gives the reader user, password and the extra as options.",
        pattern=NAME.pattern,
        must="be the id of an Airflow connection",
    )
    names_in_errors: bool = key(
        True, "Errors may name the table's columns, never its values; a path from the trigger form sets it to false."
    )

    def __post_init__(self) -> None:
        if not self.path:
            raise SpecError("path must name a file, a URL or sklearn:<name>, got an empty text")
        if len(self.separator) != 1:
            raise SpecError(f"separator must be one character, got {self.separator!r}")
        check_limits(self)
        if self.is_url and self.sha256 is None:
            raise SpecError("sha256 is required for a URL: run sha256sum on the file and add it")
        if self.connection is not None:
            self._check_connection()

    def _check_connection(self) -> None:
        if self.is_bundled or self.is_catalog_table:
            raise SpecError(
                "connection is for files, URLs and databases; for tables of Spark's catalog name a connection in"
                " spark.conf_connection"
            )
        if self.is_url and not self.path.startswith("https://"):
            raise SpecError(
                f"connection needs an https:// URL: anyone on the way reads the login else, got {self.path}"
            )

    @property
    def is_url(self) -> bool:
        return self.path.startswith(("http://", "https://", "ftp://"))

    @property
    def is_bundled(self) -> bool:
        return self.path.startswith("sklearn:")

    @property
    def is_catalog_table(self) -> bool:
        return self.format == "table"

    def format_of(self, path: str, is_folder: bool = False) -> str:
        """The format of the file or folder at `path`: what the spec says, else what the ending says, else csv."""
        return self.format or ("parquet" if is_folder or path.endswith(PARQUET_ENDINGS) else "csv")
