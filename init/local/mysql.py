"""A private MySQL or MariaDB server: its own data directory, loopback only, a free port, a generated password."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from init.local import scratch
from init.local.accounts import give_to, open_path, run_as
from init.local.console import detail, run_step, tail
from init.local.errors import SetupError
from init.local.passwords import write_private
from init.local.ports import LOOPBACK, same_ports
from init.local.processes import Service, tied_to_parent

ADMIN_USER = "tuning_admin"
PROGRAM_VARIABLE = "TUNING_MYSQLD"
SERVER_FOLDERS = ("/usr/sbin", "/usr/libexec", "/usr/local/sbin", "/usr/local/mysql/bin", "/usr/bin")
START_S = 90.0
START_TRIES = 3


@dataclass(frozen=True)
class Program:
    """The server program on this machine."""

    path: str
    is_mariadb: bool


def find_program() -> Program | None:
    """The program that TUNING_MYSQLD names, else MariaDB's, else MySQL's; None if there is none.

    MariaDB comes first, because Ubuntu's AppArmor profile lets `mysqld` use no data directory but the system's.
    """
    folders = os.pathsep.join([os.environ.get("PATH", ""), *SERVER_FOLDERS])
    named = os.environ.get(PROGRAM_VARIABLE)
    for name in [named] if named else ["mariadbd", "mysqld"]:
        path = shutil.which(name, path=folders)
        if path:
            version = subprocess.run([path, "--no-defaults", "--version"], capture_output=True, text=True).stdout
            return Program(path, "mariadb" in version.lower())
    return None


def find_installer() -> str | None:
    """MariaDB's script that fills a data directory; None if it is missing or cannot run.

    It calls my_print_defaults, which is in Debian's package of the client.
    """
    if not shutil.which("my_print_defaults"):
        return None
    return shutil.which("mariadb-install-db") or shutil.which("mysql_install_db")


def is_installed() -> bool:
    program = find_program()
    return program is not None and (not program.is_mariadb or find_installer() is not None)


@dataclass(frozen=True)
class MysqlServer:
    """One private server in a state folder.

    Attributes:
        state: The state folder.
        admin_password: Password of the account ADMIN_USER.
        die_with_parent: For tests: the server ends with the process that started it, even if that is killed.
        options: For tests: further options of the server program.
    """

    state: Path
    admin_password: str
    die_with_parent: bool = False
    options: tuple[str, ...] = ()

    @property
    def service(self) -> Service:
        return Service("mysql", self.state)

    @property
    def datadir(self) -> Path:
        return self.state / "mysql" / "data"

    @property
    def scratch(self) -> Path:
        return self.state / "mysql" / "tmp"

    @property
    def host(self) -> str:
        return LOOPBACK

    @property
    def admin_user(self) -> str:
        return ADMIN_USER

    @property
    def port(self) -> int:
        return int(self.service.facts()["port"])

    def ensure(self) -> bool:
        """Starts the server unless it runs and answers. Returns whether it had to."""
        if self.service.running() and self.service.facts().get("key") == self._key() and greets(self.port):
            return False
        port = self.service.last_facts().get("port")
        self.stop()
        self._start(port)
        return True

    def stop(self) -> bool:
        return self.service.stop()

    def _key(self) -> str:
        """A text that changes with the admin password and the way to start: then a running server must be restarted."""
        return sha256(f"own account|{self.admin_password}".encode()).hexdigest()[:16]

    def _start(self, port: object) -> None:
        """Starts the server, at its last port if that is still free, because others may know it."""
        program = find_program()
        if program is None:
            raise SetupError("no MySQL server is installed: install mariadb-server or mysql-server")
        account = open_path(self.datadir.parent)
        if os.geteuid() == 0 and account is None:
            detail(f"the MySQL server runs as root: no other account can reach {self.datadir.parent}")
        self._prepare_scratch(account)
        if not self.datadir.exists():
            self._initialise(program, account)
        for attempt in range(1, START_TRIES + 1):
            try:
                self._launch(program, account, *same_ports(port))
                return
            except SetupError:
                self.stop()
                if attempt == START_TRIES or "already in use" not in self.service.log.read_text(errors="replace"):
                    raise
                port = None  # somebody else has taken it: try another one

    def _prepare_scratch(self, account: int | None) -> None:
        """Makes a folder for temporary tables. In /tmp, a server that starts removes those of every other server."""
        self.scratch.mkdir(mode=0o700, exist_ok=True)
        scratch.empty(self.scratch)
        give_to(self.scratch, account)

    def _environment(self) -> dict[str, str]:
        """The environment of the server and of the programs that it starts: little of the present one."""
        own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.datadir.parent), "LANG": "C.UTF-8"}
        # ":/etc/localtime" is what glibc uses if TZ is not set.
        return own | {"TZ": os.environ.get("TZ", ":/etc/localtime"), "TMPDIR": str(self.scratch)}

    def _initialise(self, program: Program, account: int | None) -> None:
        """Fills a new data directory, and renames it once it is complete: an interrupted step leaves no half one."""
        new = self.datadir.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        give_to(new, account)
        log = self.service.log.with_name("mysql-initialise.log")
        command = run_as(account) + initialise_command(program, new)
        run_step("preparing the MySQL data directory", command, log=log, env=self._environment())
        new.rename(self.datadir)

    def _launch(self, program: Program, account: int | None, port: int) -> None:
        # The password reaches the server in a file: a program's arguments can be read by every user.
        init_file = self.datadir.parent / "init.sql"
        write_private(init_file, admin_sql(self.admin_password))
        give_to(init_file, account)
        for leftover in self.datadir.glob("server.sock*"):
            leftover.unlink()
        command = [*server_command(program, self.datadir, port, init_file), f"--tmpdir={self.scratch}", *self.options]
        if os.geteuid() == 0 and account is None:
            command.append("--user=root")
        launch = tied_to_parent(command, tied=self.die_with_parent)
        self.service.start(run_as(account) + launch, self._environment(), {"port": port, "key": self._key()})
        try:
            self._wait(port)
        finally:
            init_file.unlink()

    def _wait(self, port: int) -> None:
        # The server makes its socket file once it has the port. The greeting alone may come from another server there.
        own_socket = self.datadir / "server.sock"
        deadline = time.monotonic() + START_S
        while not (own_socket.exists() and greets(port)):
            if not self.service.running():
                raise SetupError(f"the MySQL server ended at its start. The end of its log:\n{tail(self.service.log)}")
            if time.monotonic() > deadline:
                raise SetupError(f"the MySQL server did not answer within {START_S:.0f} s, see {self.service.log}")
            time.sleep(0.1)


def initialise_command(program: Program, datadir: Path) -> list[str]:
    if not program.is_mariadb:
        return [program.path, "--no-defaults", "--initialize-insecure", f"--datadir={datadir}"]
    installer = find_installer()
    if installer is None:
        raise SetupError(f"{program.path} is there but not what fills its data directory: install mariadb-server")
    # With the method `socket`, there is no account without a password at any time.
    options = ["--auth-root-authentication-method=socket", "--skip-test-db", "--skip-name-resolve"]
    return [installer, "--no-defaults", f"--datadir={datadir}", *options]


def server_command(program: Program, datadir: Path, port: int, init_file: Path) -> list[str]:
    command = [program.path, "--no-defaults", f"--datadir={datadir}", f"--port={port}", f"--bind-address={LOOPBACK}"]
    # Relative to the data directory, because the path of a socket must have at most 107 bytes.
    command += ["--socket=server.sock", "--pid-file=server.pid", f"--init-file={init_file}"]
    command += ["--skip-name-resolve", "--skip-log-bin", "--performance-schema=OFF", "--max-connect-errors=1000000"]
    command += ["--character-set-server=utf8mb4", "--innodb-buffer-pool-size=64M"]
    if not program.is_mariadb:
        command += ["--mysqlx=OFF", "--secure-file-priv=NULL"]
    return command


def admin_sql(password: str) -> str:
    """The statements that the server runs before it accepts connections.

    A fresh `root` of MySQL has no password. MariaDB's `root` logs in by its system account, and gets a password too.
    """
    quoted = "'" + password.replace("\\", "\\\\").replace("'", "''") + "'"
    admin = f"'{ADMIN_USER}'@'{LOOPBACK}'"
    statements = [
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY {quoted}",
        f"CREATE USER IF NOT EXISTS {admin} IDENTIFIED BY {quoted}",
        f"ALTER USER {admin} IDENTIFIED BY {quoted}",
        f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION",
    ]
    return "".join(f"{statement};\n" for statement in statements)


def greets(port: int) -> bool:
    """Whether a MySQL server answers at the port, with the first packet of protocol version 10.

    https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_v10.html
    """
    try:
        with socket.create_connection((LOOPBACK, port), timeout=2) as connection:
            packet = connection.recv(5)
    except OSError:
        return False
    return len(packet) == 5 and packet[4] == 10
