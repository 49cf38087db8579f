"""A table on its way through Spark: as rows that each hold a piece of it in Arrow's own format.

So Spark changes no name and no type: what a worker gets is what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from optuna_spark.errors import DataError, SpecError, TuningError

if TYPE_CHECKING:
    import pyarrow as pa

# One row with what went wrong, or rows with a piece each.
PACKED_SCHEMA = "problem string, kind string, piece binary"
ABSENT, BAD = "absent", "bad"
_PIECE_BYTES = 32 << 20


def pack(read: Callable[[], pa.Table], shown: Callable[[Exception], str]) -> Iterator[pa.RecordBatch]:
    """A table as rows of PACKED_SCHEMA; if reading it fails, one row that says why.

    Args:
        read: Reads the table.
        shown: The text of an error that is not ours.
    """
    try:
        table = read()
    except (DataError, SpecError) as error:
        yield problem(str(error), BAD)
        return
    except Exception as error:  # noqa: BLE001  # a library's; Spark would try again, and print a traceback
        yield problem(str(error) if isinstance(error, TuningError) else shown(error), BAD)
        return
    yield from (_row(None, None, piece) for piece in _pieces(table))


def problem(text: str, kind: str) -> pa.RecordBatch:
    """A row that says why there is no table."""
    return _row(text, kind, None)


def _row(text: str | None, kind: str | None, piece: pa.Buffer | None) -> pa.RecordBatch:
    import pyarrow as pa

    fields = [("problem", pa.string()), ("kind", pa.string()), ("piece", pa.binary())]
    values = [pa.array([text], pa.string()), pa.array([kind], pa.string()), _binary(piece)]
    return pa.RecordBatch.from_arrays(values, schema=pa.schema(fields))


def _binary(piece: pa.Buffer | None) -> pa.Array:
    """One value, which is the buffer itself and no copy."""
    import pyarrow as pa

    if piece is None:
        return pa.nulls(1, pa.binary())
    offsets = pa.array([0, piece.size], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), 1, [None, offsets, piece])


def _pieces(table: pa.Table) -> Iterator[pa.Buffer]:
    import pyarrow as pa

    rows = max(1, int(_PIECE_BYTES * table.num_rows / max(table.nbytes, 1)))
    for start in range(0, max(table.num_rows, 1), rows):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table.slice(start, rows))
        yield sink.getvalue()


def unpack(batches: list[pa.RecordBatch]) -> pa.Table:
    """The table of such rows. The list is emptied, so that only the table keeps their memory."""
    import pyarrow as pa

    pieces = [value.as_buffer() for batch in batches for value in batch.column("piece")]
    batches.clear()
    return pa.concat_tables(_opened(pieces))


def _opened(pieces: Sequence[pa.Buffer]) -> Iterator[pa.Table]:
    import pyarrow as pa

    for piece in pieces:
        with pa.ipc.open_stream(piece) as stream:
            yield stream.read_all()
