"""A Docker engine of the test's own, and stand-ins for the base images, which a closed network cannot pull."""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import CERTIFICATES, debootstrap
from tests.support.waiting import wait_until

ENTRYPOINT = Path(__file__).with_name("mysql-entrypoint.sh")
NEEDED = ("dockerd", "docker", "docker-compose", "debootstrap")


@dataclass(frozen=True)
class Engine:
    """A running Docker engine, reached by its socket."""

    socket: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0"}

    def docker(self, *arguments: str, stdin: int | None = None) -> str:
        return run(["docker", *arguments], env=self.environment, stdin=stdin)


@contextmanager
def private_engine(state: Path) -> Iterator[Engine]:
    """An engine with its images in `state`, which is kept from run to run; its containers end with it."""
    sockets = Path(tempfile.mkdtemp(prefix="docker-"))
    engine = Engine(sockets / "docker.sock")
    # In a mount namespace of its own: what the engine leaves mounted goes with it.
    command = ["unshare", "--mount", "dockerd", "--data-root", state / "data", "--exec-root", sockets / "exec"]
    command += ["--host", f"unix://{engine.socket}", "--pidfile", sockets / "docker.pid", "--bridge", "none"]
    state.mkdir(parents=True, exist_ok=True)
    with (state / "dockerd.log").open("w") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers(engine, process), f"dockerd to start, see {state / 'dockerd.log'}", 60)
        yield engine
    finally:
        process.terminate()
        process.wait(60)
        shutil.rmtree(sockets)


def answers(engine: Engine, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "dockerd ended at its start"
    return subprocess.run(["docker", "info"], env=engine.environment, capture_output=True).returncode == 0


def make_base_images(engine: Engine, python_image: str, mysql_image: str) -> None:
    """Import Debian trees under the names that Dockerfile and compose file ask for, once for each recipe."""
    packages = ["python3", "python3-venv", "python3-dev", "ca-certificates"]
    import_tree(engine, python_image, "bookworm", packages, prepare_python, ["CMD python3"])
    changes = ['ENTRYPOINT ["/entrypoint.sh"]', 'VOLUME ["/var/lib/mysql"]']
    import_tree(engine, mysql_image, "sid", ["mysql-server-core", "mysql-client-core"], prepare_mysql, changes)


def import_tree(
    engine: Engine,
    image: str,
    suite: str,
    packages: Sequence[str],
    prepare: Callable[[Path], None],
    changes: Sequence[str],
) -> None:
    recipe = hashlib.sha256(f"{inspect.getsource(prepare)}{packages}{changes}{ENTRYPOINT.read_text()}".encode())
    label = f"recipe={recipe.hexdigest()}"
    if engine.docker("images", "--quiet", "--filter", f"label={label}", image).strip():
        return
    with tempfile.TemporaryDirectory(prefix="base-image-") as folder:
        root = Path(folder) / "root"
        run([str(part) for part in debootstrap(root, suite, packages)])
        prepare(root)
        changes = [*changes, f"ENV SSL_CERT_FILE={CERTIFICATES}", f"LABEL {label}"]
        options = [part for change in changes for part in ("--change", change)]
        with subprocess.Popen(["tar", "--create", "--directory", str(root), "."], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            engine.docker("import", *options, "-", image, stdin=tar.stdout.fileno())


def prepare_python(root: Path) -> None:
    """Python where the official image has it, and this machine's certificates and pip settings."""
    (root / "usr/local/bin/python3").symlink_to("/usr/bin/python3")
    shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    if Path("/etc/pip.conf").exists():
        shutil.copy("/etc/pip.conf", root / "etc/pip.conf")
    # Debian trees name one suite only; what the machine itself uses reaches the same packages.
    (root / "etc/apt/apt.conf.d/99test").write_text('Acquire::Retries "5";\n')


def prepare_mysql(root: Path) -> None:
    shutil.copy(ENTRYPOINT, root / "entrypoint.sh")
    (root / "entrypoint.sh").chmod(0o755)
    run(["chroot", str(root), "useradd", "--system", "--user-group", "mysql"])
    # As in the official image, which runs as any account by this.
    for folder in ("/var/lib/mysql", "/run/mysqld"):
        run(["chroot", str(root), "install", "--directory", "--owner=mysql", "--group=mysql", "--mode=1777", folder])


def run(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    cwd: Path | None = None,
    timeout_s: float = 1800,
) -> str:
    """Run to success and return stdout; on failure the end of the output is the error."""
    done = subprocess.run(
        command, env=env, stdin=stdin, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=timeout_s
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}"
    return done.stdout
