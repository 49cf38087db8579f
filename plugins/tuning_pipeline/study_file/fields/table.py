"""The table that an objective reads."""

from __future__ import annotations

from tuning_pipeline.study_file.fields.field import DATA, FormField, Reach, text_schema

# What a run may name; a study file may name any format of Spark's.
FORMATS = ("csv", "parquet", "orc", "json")

TABLE = (
    FormField(
        "data.path", "File, URL or sklearn:<name>, as the workers see it.", text_schema(minLength=1), Reach.FILE, DATA
    ),
    FormField(
        "data.format",
        "What the file is: csv or parquet; with distribution dataframe also orc or json. Empty: by the file's ending.",
        text_schema(null=True, examples=list(FORMATS)),
        Reach.NOTHING,
        DATA,
        closed=FORMATS,
    ),
    FormField("data.separator", "Separator of a CSV file.", text_schema(minLength=1, maxLength=1), Reach.NOTHING, DATA),
    FormField(
        "data.label",
        "Column to predict. Empty: the last one.",
        text_schema(null=True, maxLength=250),
        Reach.NOTHING,
        DATA,
    ),
    # With the digest a run decides which content of the author's address counts.
    FormField(
        "data.sha256",
        "SHA-256 of the file, 64 hex digits; required for a URL.",
        text_schema(null=True, pattern="^[0-9a-f]{64}$"),
        Reach.FILE,
        DATA,
    ),
)
