"""What an objective is made from, and what it is to Optuna."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna_spark.device import Device
from optuna_spark.errors import SpecError
from optuna_spark.spec.data import DataSpec
from optuna_spark.spec.run_secrets import DataSecrets
from optuna_spark.spec.tuning import TuningSpec

if TYPE_CHECKING:
    import pyarrow as pa
    from optuna.artifacts import FileSystemArtifactStore

Objective = Callable[[Any], float | Sequence[float]]


@dataclass(frozen=True)
class ObjectiveContext:
    """What an objective is made from; a user's own may take it as its second argument.

    Attributes:
        spec: The run.
        device: What this worker's trials run on.
        table: The table, when Spark read it (distribution `dataframe`); `read_table` has it in every case. An objective
            of one's own gets it without the test rows.
        data_secrets: What `data.connection` holds.
    """

    spec: TuningSpec
    device: Device
    table: pa.Table | None = None
    data_secrets: DataSecrets = field(default_factory=DataSecrets, repr=False)

    @property
    def devices(self) -> tuple[Device, ...]:
        """All that a trial runs on: `device`, or with several GPUs per task a device for each, `device` first."""
        return tuple(replace(self.device, index=index) for index in self.device.indices) or (self.device,)

    def read_table(self) -> pa.Table:
        """The study's table, whoever reads it: Spark has, or this process does, once for all its trials.

        With `data.test` these are the training rows: no trial sees the test rows.

        Columns, types and values are the same under every distribution: docs/tables.md has the rules.

        Raises:
            SpecError: The study names no table.
            DataError: It is missing, unreadable, has two columns of one name, or its test rows cannot be told.
        """
        return self._read_here if self.table is None else self.table

    def for_trials(self) -> ObjectiveContext:
        """The same for code of the user's: where Spark has read the table, without its test rows.

        Raises:
            DataError: The test rows cannot be told.
        """
        if self.table is None or self.spec.data is None or self.spec.data.test is None:
            return self
        from optuna_spark.data.test_rows import training_part

        return replace(self, table=training_part(self.table, self.spec.data))

    def data_file(self) -> Path:
        """The file of `data.path` on this machine, of any format: fetched if it is a URL, checked by `data.sha256`.

        Raises:
            SpecError: The study names no file, Spark reads it (distribution `dataframe`), or `data.test` keeps rows of
                it back, which are in the file as well.
            DataError: It is missing, or another than the digest says.
        """
        return self._file_here

    @cached_property
    def artifact_store(self) -> FileSystemArtifactStore:
        """Where trials keep files: for `optuna.artifacts.upload_artifact(artifact_store=..., ...)`.

        Raises:
            SpecError: The study names no folder for them, or this machine cannot make it.
        """
        if self.spec.artifacts is None:
            raise SpecError("the objective keeps files and the study names no folder for them: give artifacts")
        folder = Path(self.spec.artifacts)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(
                f"a worker cannot make the folder {self.spec.artifacts!r} of artifacts ({error.strerror}): give one"
                " that every worker can write to"
            ) from error
        from optuna.artifacts import FileSystemArtifactStore  # Airflow imports this module, and keeps no files

        return FileSystemArtifactStore(folder)

    @cached_property
    def _read_here(self) -> pa.Table:
        from optuna_spark.data.table import read_training_table  # Airflow imports this module, and needs no pyarrow

        return read_training_table(self._data_to_read(), self.data_secrets)

    @cached_property
    def _file_here(self) -> Path:  # kept, because a digest takes as long as reading the file
        from optuna_spark.data.table import data_file

        data = self._data_to_read()
        if data.test is not None:
            raise SpecError(
                "with data.test no trial may see the test rows, and the file holds them too: use context.read_table(),"
                " which leaves them out, or remove data.test"
            )
        return data_file(data, self.data_secrets)

    def _data_to_read(self) -> DataSpec:
        data = self.spec.data
        if data is None:
            raise SpecError("the objective asks for its data and the study names none: give data.path")
        if self.spec.distribution == "dataframe":
            raise SpecError(
                f"with distribution dataframe Spark reads data.path {data.path!r}, and workers have no file of it:"
                " use context.read_table(), or distribution rdd or joblib"
            )
        return data
