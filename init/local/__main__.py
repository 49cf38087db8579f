"""The commands that the Makefile calls: set up this machine, start and stop services, run a study."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

# Before the imports below, which fail on an older Python.
if sys.version_info < (3, 11):  # noqa: UP036 - the message is the point
    sys.exit("error: Python 3.11 or later is needed, this is " + sys.version.split()[0] + "; set PYTHON=python3.11")
if sys.version_info >= (3, 15):
    # Locked packages have no wheels for it, and nothing but pyspark is built here (environments.py).
    sys.exit("error: Python 3.14 or earlier is needed, this is " + sys.version.split()[0] + "; set PYTHON=python3.14")

from init.local import (
    airflow,
    audit,
    compose,
    digests,
    dist,
    docs,
    environments,
    keeper,
    licenses,
    locks,
    pack,
    run,
    stack,
    tidy,
    ui,
)
from init.local.console import complain, say
from init.local.errors import SetupError
from init.local.layout import REPOSITORY, Layout
from init.local.processes import one_at_a_time


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python3 -m init.local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    setup = commands.add_parser("setup", help="install everything, start nothing")
    setup.add_argument("--dev", action="store_true", help="with the test and lint tools")
    setup.add_argument("--tests", action="store_true", help="with those, and the programs that only tests start")
    setup.add_argument("--bench", action="store_true", help="with the peers of the benchmark")
    setup.add_argument("--only-spark", action="store_true", help="Java and the Spark environment, for a cluster node")
    running = commands.add_parser("run", help="tune one study")
    running.add_argument("--study", default="diabetes")
    running.add_argument("--trials", default="")
    restoring = commands.add_parser("restore", help="bring back a study that a reset replaced")
    restoring.add_argument("--study", default="diabetes")
    restoring.add_argument("--replaced", default="")
    commands.add_parser("studies", help="list the studies")
    finishing = commands.add_parser("finish", help="tell the run of a study to finish early")
    finishing.add_argument("--study", default="diabetes")
    syncing = commands.add_parser("mlflow-sync", help="write to MLflow what it lacks of a study")
    syncing.add_argument("--study", default="diabetes")
    naming = commands.add_parser("study-url", help="print a study's storage URL, with its password")
    naming.add_argument("--study", default="diabetes")
    showing = commands.add_parser("ui", help="start Airflow's services, MySQL and Spark")
    showing.add_argument("--port", type=int, default=ui.PORT)
    tidying = commands.add_parser("tidy", help="remove what Airflow keeps of old runs")
    tidying.add_argument("--days", default="30")
    commands.add_parser("dist", help="build the wheel")
    commands.add_parser("docs", help="build the site of docs/")
    commands.add_parser("pack", help="build the archive for workers that have nothing installed")
    commands.add_parser("compose-env", help="write the secrets for docker compose")
    commands.add_parser("compose-digests", help="hold the images of docker compose to their digests")
    commands.add_parser("stop", help="stop every process this checkout started")
    commands.add_parser("clean", help="stop, and remove .state")
    commands.add_parser("licenses", help="list the licence of every installed package")
    commands.add_parser("audit", help="look locked packages up among known vulnerabilities")
    commands.add_parser("lock", help="resolve requirements/*.in anew")
    return parser.parse_args(arguments)


def run_command(layout: Layout, study: str, trials: str) -> int:
    run.check_request(layout, study, trials)
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        env = bring_up(layout)
    # Without the lock: several studies may run at the same time.
    return run.run_study(layout, study, trials, env)


def tuning_command(layout: Layout, arguments: list[str]) -> int:
    """Runs the command `tuning`, whose own lines are the only ones on stdout: a shell may read them."""
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"), redirect_stdout(sys.stderr):
        env = bring_up(layout)
    return run.tuning(layout, arguments, env)


def bring_up(layout: Layout) -> dict[str, str]:
    """Installs and starts what a run needs. Returns the environment for Airflow's processes."""
    ready = stack.install(layout)
    ready.ensure()
    server = ready.mysql if ready.has_mysql else None
    spark = ready.spark
    connections = airflow.connections(layout, server, spark.port, ready.secrets, spark_page=spark.web_url)
    env = airflow.environment(layout, connections, ready.java_home)
    airflow.migrate(layout, env)
    return env


def ui_command(layout: Layout, port: int) -> None:
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        keeper.dismiss(layout)  # it must not start a service that this command is starting, too
        env = bring_up(layout)
        services = ui.AirflowServices(layout, env, port)
        say("starting Airflow's services (about half a minute)")
        services.ensure()
        keeper.engage(layout, dict(os.environ))
    ui.show_login(layout, services)


def setup_command(layout: Layout, options: argparse.Namespace) -> None:
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        if options.only_spark:
            stack.install_spark(layout)
        else:
            stack.install(layout, tests=options.tests)
        if options.dev or options.tests:
            for environment in (layout.airflow_env, layout.spark_env):
                environments.add(layout, environments.dev_lock(layout, environment))
        if options.tests:
            environments.build(layout, environments.s3_lock(layout))
            environments.build(layout, environments.mlflow_lock(layout))
        if options.bench:
            environments.build(layout, environments.bench_lock(layout))
    say("everything is installed")


def dist_command(layout: Layout) -> None:
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        dist.build_wheel(layout, layout.root / "dist")


def docs_command(layout: Layout) -> None:
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        docs.build_site(layout)


def pack_command(layout: Layout) -> None:
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        pack.pack(layout, gpu=stack.gpus_to_use() > 0)


def audit_command(layout: Layout) -> None:
    layout.prepare()
    with one_at_a_time(layout.state / "run" / "setup.lock"):
        audit.audit(layout)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    layout = Layout(Path(REPOSITORY))
    try:
        if options.command == "run":
            return run_command(layout, options.study, options.trials)
        if options.command == "restore":
            run.check_request(layout, options.study, "")
            return tuning_command(layout, ["restore", options.study, *filter(None, [options.replaced])])
        if options.command == "studies":
            return tuning_command(layout, ["studies"])
        if options.command == "finish":
            return tuning_command(layout, ["finish", options.study])
        if options.command == "mlflow-sync":
            return tuning_command(layout, ["mlflow-sync", options.study])
        if options.command == "study-url":
            return tuning_command(layout, ["study-url", options.study])
        if options.command == "ui":
            ui_command(layout, options.port)
        elif options.command == "tidy":
            tidy.tidy(layout, options.days)
        elif options.command == "setup":
            setup_command(layout, options)
        else:
            actions = {
                "stop": stack.stop,
                "clean": stack.clean,
                "lock": locks.compile_all,
                "licenses": licenses.show_licenses,
                "audit": audit_command,
                "pack": pack_command,
                "dist": dist_command,
                "docs": docs_command,
                "compose-env": compose.write_environment,
                "compose-digests": digests.write_digests,
            }
            actions[options.command](layout)
    except SetupError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        complain("interrupted; running the same command again goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
