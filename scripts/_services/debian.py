"""Debian: packages of the host, and a Debian sid of its own in the cache folder."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from _services.cache import Cache, ServiceError
from _services.process import run

SID_PACKAGES = (
    # The -core packages: the full mysql-server and DocumentDB's PostGIS (through
    # mariadb-common) exclude each other.
    "mysql-server-core",
    "mysql-client-core",
    "postgresql-18",
    "postgresql-18-documentdb",
)
RECIPE = " ".join(SID_PACKAGES)
"""Written into a finished sid; another recipe builds it anew."""

CLEAN_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "HOME": "/srv",
    "DEBIAN_FRONTEND": "noninteractive",
}
_NO_AUTOSTART = "#!/bin/sh\n# Written by prefect-lume's scripts/services.\nexit 101\n"
_POLICY = Path("/usr/sbin/policy-rc.d")

# Mounts live in a namespace of the process's own: nothing is left behind on the
# machine, and removing the cache folder can never reach into /dev.
_ENTER = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"]
_ON_HOST = (
    'mount --bind "$1" /srv; ids=$2; shift 2; cd /srv; '
    'exec setpriv --reuid="${ids%:*}" --regid="${ids#*:}" --clear-groups -- "$@"'
)
_IN_SID = (
    'root=$3; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"; '
    'mount --bind "$1" "$root/srv"; ids=$2; shift 3; '
    'exec chroot --userspec="$ids" --groups="" "$root" "$@"'
)


class Host:
    """The machine itself: its package manager and its users."""

    sid: Path | None = None
    """None: commands run on the host. A folder: they run in the chroot there."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def inside(self, command: Sequence[str], *, data: Path, user: str) -> list[str]:
        """Return the command that runs `command` as `user`, with `data` at /srv."""
        ids = ":".join(map(str, self.ids(user)))
        if self.sid is None:
            return [*_ENTER, _ON_HOST, "sh", str(data), ids, *command]
        root = str(self.sid)
        return [*_ENTER, _IN_SID, "sh", str(data), ids, root, *command]

    def ids(self, user: str) -> tuple[int, int]:
        """Return the user and group id of a user of this Debian."""
        passwd = (self.sid or Path("/")) / "etc/passwd"
        for line in passwd.read_text("utf-8").splitlines():
            name, _, uid, gid, *_ = line.split(":")
            if name == user:
                return int(uid), int(gid)
        message = f"{passwd} has no user {user!r}"
        raise ServiceError(message)

    def own(self, folder: Path, user: str) -> None:
        """Give a folder with all that is in it to a user."""
        uid, gid = self.ids(user)
        if folder.stat().st_uid == uid:
            return
        for base, _, names in os.walk(folder):
            for name in names:
                os.chown(Path(base, name), uid, gid, follow_symlinks=False)
            if Path(base) != folder:
                os.chown(base, uid, gid)
        # Last: its owner says that the whole folder is done.
        os.chown(folder, uid, gid)


class Apt:
    """apt-get of the host; never starts a daemon, never asks, one at a time."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.log = cache.log("apt")
        self._one_at_a_time = threading.Lock()

    def ensure(self, command: str, package: str) -> str:
        """Return the path of a command; install its package if it is missing."""
        with self._one_at_a_time:
            found = shutil.which(command, path=CLEAN_ENV["PATH"])
            if found is None:
                self._install(package)
                found = shutil.which(command, path=CLEAN_ENV["PATH"])
        if found is None:
            message = f"package {package} was installed but has no command {command}"
            raise ServiceError(message, self.log)
        return found

    def ensure_folder(self, pattern: str, package: str) -> Path:
        """Return the newest folder like `pattern`; install its package if none is."""
        with self._one_at_a_time:
            if not (found := _newest(pattern)):
                self._install(package)
                found = _newest(pattern)
        if not found:
            message = f"package {package} was installed but {pattern} does not exist"
            raise ServiceError(message, self.log)
        return found

    def mirror(self) -> str:
        """Return the Debian mirror that this machine's apt uses."""
        fields = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
        with self._one_at_a_time:
            for _ in range(2):
                query = ["apt-get", "indextargets", "--format", fields]
                listed = subprocess.run(
                    [*query, "Created-By: Packages"],
                    capture_output=True,
                    text=True,
                    check=False,
                ).stdout
                for line in listed.splitlines():
                    origin, label, uri = line.split("|", 2)
                    if (origin, label) == ("Debian", "Debian"):
                        return uri
                self._get("update")
        message = (
            "the apt sources of this machine name no Debian mirror; the servers need"
            " a Debian machine (elsewhere: docker compose, see tests/README.md)"
        )
        raise ServiceError(message)

    def network_settings(self) -> str:
        """Return the host's apt options about fetching, as an apt.conf for sid."""
        dump = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=True
        ).stdout
        wanted = re.compile(r"Acquire::(https?::(Proxy|Verify)|Check-|Retries)")
        return "".join(line + "\n" for line in dump.splitlines() if wanted.match(line))

    def _install(self, package: str) -> None:
        lists = Path("/var/lib/apt/lists")
        if not any(lists.glob("*_Packages*")):
            self._get("update")
        with _no_autostart():
            try:
                self._get("install", "-y", "--no-install-recommends", package)
            except ServiceError:
                # Package lists that are older than the mirror name files that are gone.
                self._get("update")
                self._get("install", "-y", "--no-install-recommends", package)

    def _get(self, *arguments: str) -> None:
        archives = self.cache.folder("debs")
        (archives / "partial").mkdir(exist_ok=True)
        run(
            [
                "apt-get",
                "-q",
                "-o=DPkg::Lock::Timeout=300",
                "-o=APT::Sandbox::User=root",
                "-o=APT::Keep-Downloaded-Packages=true",
                "-o=Dpkg::Options::=--force-confdef",
                "-o=Dpkg::Options::=--force-confold",
                f"-o=Dir::Cache::Archives={archives}",
                *arguments,
            ],
            self.log,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            what=f"apt-get {arguments[0]} {arguments[-1]}",
        )


class Sid(Host):
    """A Debian sid in the cache folder; it changes nothing of the host."""

    def __init__(self, cache: Cache, apt: Apt) -> None:
        super().__init__(cache)
        self.apt = apt
        self.sid: Path = cache.root / "sid"
        self.log = cache.log("sid")
        self._once = threading.Lock()

    def ensure(self) -> bool:
        """Build the chroot if it is missing; return whether it was built now."""
        marker = self.sid / ".prefect-lume-recipe"
        with self._once:
            if marker.is_file() and marker.read_text("utf-8") == RECIPE:
                return False
            self._build()
            marker.write_text(RECIPE, "utf-8")
            return True

    def root_command(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` in the chroot as root."""
        scratch = self.cache.folder("scratch")
        root = str(self.sid)
        return [*_ENTER, _IN_SID, "sh", str(scratch), "0:0", root, *command]

    def _build(self) -> None:
        debootstrap = self.apt.ensure("debootstrap", "debootstrap")
        mirror = self.apt.mirror()
        _remove_tree(self.sid)
        settings = self.apt.network_settings()
        env = dict(os.environ)
        if proxy := re.search(r'http::Proxy "(.+)"', settings):
            env.setdefault("http_proxy", proxy[1])
        run(
            [
                *_ENTER,
                'exec "$@"',
                "sh",
                debootstrap,
                "--variant=minbase",
                "--include=ca-certificates",
                "sid",
                str(self.sid),
                mirror,
            ],
            self.log,
            env=env,
            what="debootstrap of Debian sid",
        )
        self._write("usr/sbin/policy-rc.d", _NO_AUTOSTART).chmod(0o755)
        self._write("etc/dpkg/dpkg.cfg.d/lume", "force-unsafe-io\n")
        self._write("etc/apt/apt.conf.d/90lume", settings)
        # No cluster of its own: the script makes its own in the cache folder.
        self._write(
            "etc/postgresql-common/createcluster.conf", "create_main_cluster = false\n"
        )
        bundle = Path("/etc/ssl/certs/ca-certificates.crt")
        if bundle.is_file():
            shutil.copyfile(bundle, self.sid / bundle.relative_to("/"))
        self.install(*SID_PACKAGES)
        add_user = "id mysql || useradd --system --user-group mysql"
        run(self.root_command(["sh", "-c", add_user]), self.log, env=CLEAN_ENV)

    def install(self, *packages: str) -> None:
        """Install packages of sid into the chroot."""
        command = ["apt-get", "-q", "install", "-y", "--no-install-recommends"]
        run(
            self.root_command(["env", "-C", "/", *command, *packages]),
            self.log,
            env=CLEAN_ENV,
            what=f"apt-get install {' '.join(packages)} in sid",
        )
        run(self.root_command(["apt-get", "clean"]), self.log, env=CLEAN_ENV)

    def _write(self, name: str, text: str) -> Path:
        path = self.sid / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path


def check_mounts() -> None:
    """Raise unless this process may mount in a namespace of its own."""
    tried = subprocess.run(
        [*_ENTER, "mount --bind /tmp /srv"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        message = (
            "this machine forbids mounts in a namespace of their own, which every"
            " server here needs (in a container: give it CAP_SYS_ADMIN):"
            f" {tried.stderr.strip()}"
        )
        raise ServiceError(message)


def _newest(pattern: str) -> Path | None:
    found = Path("/").glob(pattern.lstrip("/"))
    return max(found, key=_version_key, default=None)


def _version_key(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _remove_tree(folder: Path) -> None:
    if not folder.exists():
        return
    for line in Path("/proc/mounts").read_text("utf-8").splitlines():
        if line.split()[1].startswith(f"{folder}/"):
            message = f"{folder} holds a mount ({line.split()[1]}); unmount it first"
            raise ServiceError(message)
    shutil.rmtree(folder)


@contextlib.contextmanager
def _no_autostart() -> Iterator[None]:
    """Keep dpkg from starting daemons; leave a policy of the machine's own alone."""
    ours = not _POLICY.exists() or _POLICY.read_text("utf-8") == _NO_AUTOSTART
    if ours:
        _POLICY.write_text(_NO_AUTOSTART, "utf-8")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink()
