"""What Databricks is told: nothing its SDK would drop, nothing secret, everything the study file says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optuna_spark.errors import SpecError
from tests.support.databricks_check import refuse_bad_job, refuse_bad_submission
from tests.support.studies import study_reader
from tuning_pipeline.dag.form import form_params, study_of_run
from tuning_pipeline.study_file.study_file import StudyFile, StudyFileError
from tuning_pipeline.targets.databricks.keys.settings import databricks_settings
from tuning_pipeline.targets.databricks.payload import bundle, idempotency_token, job_definition, run_payload
from tuning_pipeline.targets.databricks.payload_check import check_job, check_run, lost_keys
from tuning_pipeline.targets.databricks.workspace.paths import RemoteFiles, is_local, on_cluster, study_copy_path

FOLDER = "/Volumes/main/default/tuning"
FILES = RemoteFiles(
    package=f"{FOLDER}/code/1/optuna_spark.zip",
    entry=f"{FOLDER}/code/2/tune_databricks.py",
    init_scripts=(f"{FOLDER}/code/3/init_optuna.sh",),
    spec=f"{FOLDER}/runs/s/r/spec.json",
    output=f"{FOLDER}/runs/s/r",
)
BASE = f"objective: quadratic\ntarget: databricks\ndatabricks:\n  files: {FOLDER}\n"
NODES = {"azure": "Standard_NC4as_T4_v3", "aws": "g4dn.xlarge", "gcp": "g2-standard-8"}

Study = Callable[[str], StudyFile]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_reader(tmp_path)


def payload(study: StudyFile, storage: str | None = None, files: RemoteFiles = FILES) -> dict[str, Any]:
    body = run_payload(study, study.to_spec("run 1"), files, "token", storage)
    check_run(body)
    refuse_bad_submission(body)
    assert json.loads(json.dumps(body)) == body
    return body


def cluster(study: StudyFile, storage: str | None = None) -> dict[str, Any]:
    new: dict[str, Any] = payload(study, storage)["tasks"][0]["new_cluster"]
    return new


def test_the_drivers_database_is_for_the_workers_only_where_they_use_it(study: Study) -> None:
    assert "TUNING_DB_CLIENTS" not in cluster(study(f"{BASE}  cluster: {{node_type: n}}\n"))["spark_env_vars"]
    given = cluster(study(f"{BASE}  cluster: {{node_type: n}}\ncoordination: database\n"))
    assert given["spark_env_vars"]["TUNING_DB_CLIENTS"] == "cluster"


@pytest.mark.parametrize("cloud", NODES)
def test_a_gpu_cluster_of_each_cloud(study: Study, cloud: str) -> None:
    node = f"  cluster: {{node_type: {NODES[cloud]}, workers: 2}}\n"
    text = f"{BASE}{node}resources: {{gpus_per_task: 0.5}}\ndistribution: rdd\n"
    given = cluster(study(text))
    assert given["spark_version"] == "17.3.x-gpu-ml-scala2.13"
    assert given["node_type_id"] == NODES[cloud]
    assert given["num_workers"] == 2
    assert given["data_security_mode"] == "SINGLE_USER"
    assert given["spark_conf"] == {"spark.task.cpus": "1", "spark.task.resource.gpu.amount": "0.5"}
    assert given["spark_env_vars"] == {"LIBCUDF_CUFILE_POLICY": "OFF", "TUNING_DATABASE": "driver"}
    assert given["init_scripts"] == [{"volumes": {"destination": FILES.init_scripts[0]}}]


def test_every_key_of_the_cluster_reaches_databricks(study: Study) -> None:
    text = (
        f"{BASE}  cluster:\n    spark_version: 16.4.x-cpu-ml-scala2.12\n    node_type: m5.xlarge\n"
        "    driver_node_type: m5.large\n    autoscale: {min_workers: 1, max_workers: 4}\n"
        "    spark_conf: {spark.sql.shuffle.partitions: 8, spark.ui.enabled: false}\n"
        "    env: {HF_TOKEN: '{{secrets/tuning/hf}}', MODE: fast}\n    tags: {team: ml}\n    policy_id: P1\n"
        "    single_user: ann@example.com\n    log_destination: /Volumes/main/default/logs\n"
        "    init_scripts: [/Workspace/Shared/more.sh]\n    extra: {aws_attributes: {availability: SPOT}}\n"
    )
    given = cluster(study(text))
    assert given["autoscale"] == {"min_workers": 1, "max_workers": 4}
    assert "num_workers" not in given
    assert given["spark_conf"]["spark.ui.enabled"] == "false"
    assert given["spark_env_vars"]["HF_TOKEN"] == "{{secrets/tuning/hf}}"
    assert given["custom_tags"] == {"team": "ml"}
    assert given["cluster_log_conf"] == {"volumes": {"destination": "/Volumes/main/default/logs"}}
    assert given["init_scripts"][1] == {"workspace": {"destination": "/Shared/more.sh"}}
    assert given["aws_attributes"] == {"availability": "SPOT"}
    named = ("node_type_id", "driver_node_type_id", "policy_id", "single_user_name")
    assert [given[key] for key in named] == ["m5.xlarge", "m5.large", "P1", "ann@example.com"]


def test_instance_pools_take_the_place_of_node_types(study: Study) -> None:
    given = cluster(study(f"{BASE}  cluster: {{instance_pool_id: pool-1, driver_instance_pool_id: pool-2}}\n"))
    assert (given["instance_pool_id"], given["driver_instance_pool_id"]) == ("pool-1", "pool-2")
    assert "node_type_id" not in given


def test_a_single_node_says_so_in_conf_and_tags(study: Study) -> None:
    given = cluster(study(f"{BASE}  cluster: {{node_type: m5.xlarge, workers: 0}}\n"))
    assert given["num_workers"] == 0
    assert given["spark_conf"]["spark.databricks.cluster.profile"] == "singleNode"
    assert given["custom_tags"] == {"ResourceClass": "SingleNode"}


def test_the_form_changes_the_cluster_of_a_run(study: Study) -> None:
    form = "form: {fields: [trials, node_type, workers]}\n"
    given = study(f"{BASE}  cluster: {{node_type: n, workers: 2}}\n{form}")
    changed = study_of_run(given, {"mode": "resume", "node_type": "m", "workers": 5}, {"workers": 5})
    assert (cluster(changed)["node_type_id"], cluster(changed)["num_workers"]) == ("m", 5)
    existing = study(f"{BASE}  existing_cluster_id: c\n")
    assert "workers" in form_params(given)
    assert "workers" not in form_params(existing)


def test_an_existing_cluster_gets_no_cluster_settings(study: Study) -> None:
    (task,) = payload(study(f"{BASE}  existing_cluster_id: 1122-334455-abc\n"))["tasks"]
    assert task["existing_cluster_id"] == "1122-334455-abc"
    assert "new_cluster" not in task


def test_the_standalone_spark_section_goes_along(study: Study) -> None:
    spark = "spark: {executor_memory: 8g, conf: {spark.a: 1}}\n"
    text = f"{BASE}  cluster: {{node_type: n, spark_conf: {{spark.a: 2}}}}\n{spark}"
    conf = cluster(study(text))["spark_conf"]
    assert (conf["spark.executor.memory"], conf["spark.a"]) == ("8g", "2")


def test_an_external_database_sends_the_name_of_the_secret_only(study: Study) -> None:
    text = f"{BASE}  database: external\n  secret_scope: s1\n  secret_key: k1\n  cluster: {{node_type: n}}\n"
    body = payload(study(text), "mysql+pymysql://tuning@db.example.com:3306/optuna")
    (task,) = body["tasks"]
    new = task["new_cluster"]
    assert new["spark_env_vars"]["OPTUNA_STORAGE_PASSWORD"] == "{{secrets/s1/k1}}"
    assert new["spark_conf"]["spark.executorEnv.OPTUNA_STORAGE_PASSWORD"] == "-"
    given = task["spark_python_task"]["parameters"]
    assert given[given.index("--storage") + 1] == "mysql+pymysql://tuning@db.example.com:3306/optuna"
    assert given[given.index("--secret") + 1] == "s1/k1"
    assert "--study-copy" not in given


def test_a_driver_database_names_the_copy_of_the_study(study: Study) -> None:
    given = study(f"{BASE}  cluster: {{node_type: n}}\n")
    copy = study_copy_path(databricks_settings(given.settings), "example")
    assert copy == f"{FOLDER}/studies/example/study.db"
    files = RemoteFiles(**{**vars(FILES), "study_copy": copy, "py_files": ("/Volumes/a/b/c/own.py",)})
    sent = payload(given, files=files)["tasks"][0]["spark_python_task"]
    assert sent["python_file"] == FILES.entry
    assert sent["parameters"] == [
        FILES.package, "--spec-file", FILES.spec, "--output", FILES.output, "--py-file", "/Volumes/a/b/c/own.py",
        "--study-copy", copy, "--dump-every", "60",
    ]  # fmt: skip


def test_a_run_ends_with_its_task_and_has_the_token(study: Study) -> None:
    body = payload(study(f"{BASE}  cluster: {{node_type: n}}\nexecution_timeout_s: 600\n"))
    assert (body["timeout_seconds"], body["idempotency_token"]) == (600, "token")
    assert body["run_name"] == "tune example (run 1)"


def test_tokens_differ_by_run_and_attempt_only() -> None:
    tokens = {idempotency_token(run, attempt) for run in ("a", "b") for attempt in (1, 2)}
    assert len(tokens) == 4
    assert idempotency_token("a", 1) in tokens
    assert all(len(token) <= 64 for token in tokens)


def test_the_job_definition_is_the_same_task_with_a_run_id_of_its_own(study: Study) -> None:
    given = study(f"{BASE}  cluster: {{node_type: n, tags: {{team: ml}}}}\n")
    job = job_definition(given, given.to_spec("job"), FILES, None)
    check_job(job)
    refuse_bad_job(job)
    sent, submitted = job["tasks"][0], payload(given)["tasks"][0]
    assert sent["new_cluster"] == submitted["new_cluster"]
    assert sent["spark_python_task"]["parameters"][-2:] == ["--run-id", "{{job.run_id}}"]
    assert job["tags"] == {"study": "example", "team": "ml"}
    assert bundle("tune_example", job)["resources"]["jobs"]["tune_example"] == job


def test_a_key_the_sdk_does_not_know_is_refused(study: Study) -> None:
    given = study(f"{BASE}  cluster: {{node_type: n, extra: {{aws_attributs: {{availability: SPOT}}}}}}\n")
    with pytest.raises(SpecError, match=r"tasks\[0\]\.new_cluster\.aws_attributs"):
        payload(given)
    with pytest.raises(SpecError, match=r"no such key or value: taskss"):
        check_run({"taskss": []})


def test_a_value_of_another_kind_is_refused(study: Study) -> None:
    given = study(f"{BASE}  cluster: {{node_type: n, extra: {{aws_attributes: {{availability: CHEAP}}}}}}\n")
    with pytest.raises(SpecError, match=r"availability|wrong kind"):
        payload(given)


WRONG = [
    {"tasks": [{"task_key": "tune", "new_cluster": {"num_workrs": 2}}]},
    {"tasks": [{"task_key": "tune", "new_cluster": {"num_workers": 2}, "spark_python_tsk": {}}]},
    {"tasks": [{"task_key": "tune", "new_cluster": {"init_scripts": [{"volumes": {"destinaton": "/a"}}]}}]},
    {"timeout_seconds": "600"},
    {"run_nam": "x"},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_stand_in_refuses_what_databricks_would_drop(study: Study, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"does not keep|unknown fields|must be"):
        refuse_bad_submission(payload(study(BASE + "  cluster: {node_type: n}\n")) | wrong)


def test_lost_keys_are_named_by_their_path() -> None:
    assert lost_keys({"a": [{"b": 1}]}, {"a": [{"b": "1"}]}) == ["a[0].b"]
    assert lost_keys({"a": 1}, {"a": 1, "b": 2}) == []
    assert lost_keys([1], [1, 2], "x") == ["x"]


PATHS = [
    ("rdd", "/Volumes/a/b/c/t.csv", "/Volumes/a/b/c/t.csv"),
    ("rdd", "dbfs:/Volumes/a/b/c/t.csv", "/Volumes/a/b/c/t.csv"),
    ("joblib", "dbfs:/data/t.csv", "/dbfs/data/t.csv"),
    ("joblib", "/dbfs/data/t.csv", "/dbfs/data/t.csv"),
    ("rdd", "/Workspace/Shared/t.csv", "/Workspace/Shared/t.csv"),
    ("dataframe", "/dbfs/data/t.csv", "dbfs:/data/t.csv"),
    ("dataframe", "/Workspace/Shared/t.csv", "file:/Workspace/Shared/t.csv"),
    ("dataframe", "/Volumes/a/b/c/t.csv", "/Volumes/a/b/c/t.csv"),
]


@pytest.mark.parametrize(("distribution", "path", "expected"), PATHS)
def test_each_reader_gets_its_kind_of_path(study: Study, distribution: str, path: str, expected: str) -> None:
    text = BASE.replace("objective: quadratic", f"objective: xgboost\ndata: {{path: '{path}'}}")
    given = study(f"{text}  cluster: {{node_type: n}}\ndistribution: {distribution}\n")
    spec = on_cluster(given.to_spec("r"))
    assert spec.data is not None
    assert spec.data.path == expected


def test_only_files_of_this_machine_are_local() -> None:
    assert is_local("/data/t.csv")
    for path in (
        "/Volumes/a/b/c/t.csv",
        "/dbfs/t.csv",
        "/Workspace/t.csv",
        "dbfs:/t.csv",
        "s3://b/t.csv",
        "sklearn:iris",
    ):
        assert not is_local(path)


REFUSED = {
    "objective: quadratic\ntarget: databricks\n": "databricks.files is required",
    BASE: "databricks.cluster.node_type is required for a new cluster",
    BASE.replace(FOLDER, "/tmp/x"): "databricks: files must be a folder /Volumes/<catalog>/<schema>/<volume>",
    BASE.replace(FOLDER, "/Workspace/Shared")
    + "  cluster: {node_type: n}\n": "must be below /Volumes for database driver",
    BASE
    + "  cluster: {node_type: n, workers: 0}\nresources: {gpus_per_task: 1}\n": "workers must be at least 1 with GPUs",
    BASE + "  cluster: {node_type: n}\n  existing_cluster_id: c\n": "cluster or existing_cluster_id, not both",
    BASE + "  existing_cluster_id: c\nspark: {driver_memory: 2g}\n": "cannot change a cluster that exists",
    BASE + "  cluster: {node_type: n}\nspark: {archives: [e.tar.gz]}\n": "spark.archives is for target standalone",
    BASE + "  cluster: {node_type: n, env: {API_TOKEN: abc}}\n": "env.API_TOKEN: its name looks like a secret",
    BASE + "  cluster: {node_type: n, env: {LIBCUDF_CUFILE_POLICY: 'ON'}}\n": "env must not hold LIBCUDF_CUFILE_POLICY",
    BASE + "  cluster: {node_type: n, spark_conf: {spark.my.password: x}}\n": "looks like a secret",
    BASE + "  cluster: {node_type: n, spark_conf: {spark.task.cpus: 2}}\n": "is set by resources",
    BASE + "  cluster: {node_type: n, extra: {num_workers: 2}}\n": "extra must not hold num_workers",
    BASE + "  cluster: {node_type: n, autoscale: {min_workers: 3, max_workers: 2}}\n": "not above max_workers",
    BASE + "  cluster: {nodetype: n}\n": "unknown key 'nodetype' (did you mean 'node_type'?)",
    BASE + "  cluster: {node_type: n, log_destination: /logs}\n": "log_destination must start with /Volumes/",
    BASE + "  poll_s: 0\n": "poll_s must be at least 1",
    BASE + "  secret_scope: 'a b'\n": "secret_scope must be letters",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_section_that_cannot_work_is_refused(study: Study, text: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        study(text)
    assert REFUSED[text] in str(caught.value)
