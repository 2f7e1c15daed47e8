"""A real SLURM on this host, for tests: two nodes that share it, accounting, preemption.

Everything lives in one folder and on ports of its own; it needs root, because slurmd starts jobs as
their users, and Debian's packages, which are installed where they are missing.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
NODES = ("0x7f000001", "0x7f000002")
"""Names that resolve without a name server, as ranks look for the first: 127.0.0.1, 127.0.0.2."""
POLICY = Path("/usr/sbin/policy-rc.d")
INSTALL_S, START_S, STOP_S = 400, 90, 20

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
ReturnToService=2
KillWait=5
InactiveLimit=0
SlurmctldTimeout=120
SlurmdTimeout=120
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounts}
AccountingStoragePass={root}/munge/socket
{nodes}
PartitionName=test Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=60 DefaultTime=5 PriorityTier=1 GraceTime=30
PartitionName=high Nodes=ALL MaxTime=60 DefaultTime=5 PriorityTier=10 PreemptMode=OFF
"""

ACCOUNTING = """\
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounts}
SlurmUser=root
LogFile={root}/log/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""


class NoSlurmError(Exception):
    """There can be no SLURM here, for want of root or of packages; the text says why."""


class BrokenSlurmError(Exception):
    """All is here and it does not start: that is for nobody to overlook."""


class RealSlurm:
    """Starts the daemons one after the other and waits for each to answer.

    Args:
        root: New folder; a short path, as unix sockets have short names.
        cpus: Of each node, more than there are if need be.
    """

    def __init__(self, root: Path, *, cpus: int = 2) -> None:
        self.root, self.cpus = root, cpus
        self.started: list[subprocess.Popen[bytes]] = []
        self.environment = {"SLURM_CONF": str(root / "slurm.conf")}

    def start(self) -> None:
        """Install, configure, start.

        Raises:
            NoSlurmError: It is impossible here: a reason to skip.
            BrokenSlurmError: It was to be possible: a reason to fail.
        """
        if os.geteuid() != 0:
            raise NoSlurmError("slurmd starts jobs as other users: the tests need root")
        _install([name for name in PACKAGES if shutil.which(name) is None])
        self._configure()
        self._munge()
        self._accounts()
        self._daemon("slurmctld", "-D", "-f", self.root / "slurm.conf")
        self._wait("slurmctld", lambda: self._says("scontrol", "ping"))
        for node in NODES:
            (self.root / "spool" / node).mkdir(parents=True)
            self._daemon("slurmd", "-D", "-N", node, "-f", self.root / "slurm.conf")
        idle = lambda: self._says("sinfo", "-h", "-N", "-p", "test", "-o", "%T")  # noqa: E731
        self._wait("slurmd", lambda: (idle() or "").split() == ["idle"] * len(NODES))

    def stop(self) -> None:
        """End the jobs, then the daemons in the opposite order; they are all our own children."""
        if self._says("squeue", "-h") is not None:
            self._says("scancel", "--user=root")
            self._wait("the queue", lambda: self._says("squeue", "-h") == "", needed=False)
        for process in reversed(self.started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.root, ignore_errors=True)

    def _configure(self) -> None:
        for name in ("log", "munge", "state", "spool", "db"):
            (self.root / name).mkdir(parents=True)
        (self.root / "munge").chmod(0o711)
        ports = _free_ports(2 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs={self.cpus} RealMemory=4000 State=UNKNOWN"
            for name, port in zip(NODES, ports[2:], strict=True)
        )
        values = {"root": self.root, "host": host, "control": ports[0], "accounts": ports[1]}
        (self.root / "slurm.conf").write_text(CONFIG.format(nodes=nodes, **values))
        (self.root / "cgroup.conf").write_text("CgroupAutomount=no\n")
        accounting = self.root / "slurmdbd.conf"
        accounting.write_text(ACCOUNTING.format(**values))
        accounting.chmod(0o600)

    def _munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        self._daemon(
            *("munged", "--foreground", "--force", f"--socket={folder}/socket"),
            *(f"--key-file={key}", f"--pid-file={folder}/pid"),
            *(f"--log-file={self.root}/log/munged.log", f"--seed-file={folder}/seed"),
        )
        self._wait("munged", lambda: self._says("munge", "-S", f"{folder}/socket", "-n"))

    def _accounts(self) -> None:
        data, bell = self.root / "db" / "data", self.root / "db" / "socket"
        self.environment["MYSQL_UNIX_PORT"] = str(bell)
        made = self._says(
            *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"),
            *("--auth-root-authentication-method=socket", "--skip-test-db"),
        )
        if made is None:
            raise BrokenSlurmError("mariadb-install-db failed")
        self._daemon(
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={bell}"),
            *("--skip-networking", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M"),
            *("--innodb-lock-wait-timeout=900", "--innodb-flush-log-at-trx-commit=2"),
            *("--performance-schema=OFF", f"--pid-file={self.root}/db/pid"),
        )
        ping = ("mariadb-admin", "--no-defaults", f"--socket={bell}", "ping")
        self._wait("mariadbd", lambda: self._says(*ping))
        self._daemon("slurmdbd", "-D")
        self._wait("slurmdbd", lambda: self._says("sacctmgr", "-n", "list", "cluster") is not None)
        self._says("sacctmgr", "-Q", "-i", "add", "cluster", "test")

    def _daemon(self, *command: object) -> None:
        name = str(command[0])
        with (self.root / "log" / f"{name}-{len(self.started)}.out").open("wb") as output:
            self.started.append(
                subprocess.Popen(
                    [str(part) for part in command],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def _says(self, *command: str) -> str | None:
        """Output of a command, None where it failed or gave no answer."""
        environment = {**os.environ, **self.environment}
        try:
            answer = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True, timeout=30
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return answer.stdout

    def _wait(self, what: str, ready: Callable[[], object], *, needed: bool = True) -> None:
        end = time.monotonic() + START_S
        while not ready():
            if time.monotonic() > end:
                if needed:
                    raise BrokenSlurmError(f"{what} does not answer: {self._logs()}")
                return
            time.sleep(0.2)

    def _logs(self) -> str:
        files = sorted((self.root / "log").iterdir())
        return " | ".join(
            line for path in files for line in path.read_text(errors="replace").splitlines()[-2:]
        )


def _install(missing: list[str]) -> None:
    """Debian's packages, kept from starting daemons of their own."""
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoSlurmError(f"{', '.join(missing)} are not installed and there is no apt-get")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = [PACKAGES[name] for name in missing]
    brief = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10"]  # without a network
    install = ["apt-get", "install", *brief, "-y", "-q", "--no-install-recommends", *packages]
    with _no_service_starts():
        for command in (["apt-get", "update", *brief, "-q"], install):
            try:
                subprocess.run(
                    command, env=environment, capture_output=True, check=True, timeout=INSTALL_S
                )
            except subprocess.SubprocessError as error:
                raise NoSlurmError(f"{' '.join(command[:2])} failed: {error}") from error


class _no_service_starts:  # noqa: N801 - reads as a statement
    """While packages are installed, their scripts start nothing."""

    def __enter__(self) -> None:
        self.made = not POLICY.exists()
        if self.made:
            POLICY.write_text("#!/bin/sh\nexit 101\n")
            POLICY.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self.made:
            POLICY.unlink()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
