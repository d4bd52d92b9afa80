"""Decides where the servers are: what the settings say, else sockets whose place every process works out by itself."""

import hashlib
import os
import stat
import urllib.parse
from pathlib import Path

from infra.errors import PulseError
from infra.settings import InvalidSetting, Settings

DATABASE = "pulse"
USER = "postgres"
POSTGRES_SOCKET = ".s.PGSQL.5432"
VALKEY_SOCKET = "valkey.sock"
_LONGEST_SOCKET_BYTES = 103  # sun_path of macOS less its NUL; Linux has four more
_DATABASE_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
_REDIS_SCHEMES = ("redis", "rediss", "unix")


class UnsafeSocketFolder(PulseError):
    """{path} must be a folder of this user alone; remove it, then try again."""

    ar = "يجب أن يكون {path} مجلدًا لهذا المستخدم وحده؛ احذفه ثم حاول مرة أخرى."


def socket_folder(settings: Settings) -> Path:
    """Return where the embedded servers' sockets are: below the studio's folder when its path fits in an address."""
    folder = settings.folder / "run"
    longest = str(folder / POSTGRES_SOCKET)
    # Every client writes a path that needs no quoting alike; asyncpg would split it at a comma.
    if len(os.fsencode(longest)) <= _LONGEST_SOCKET_BYTES and urllib.parse.quote(longest) == longest:
        return folder
    digest = hashlib.sha256(os.fsencode(settings.folder)).hexdigest()[:16]
    # Not tempfile.gettempdir(): another terminal may have another TMPDIR and would look elsewhere.
    return Path("/tmp") / f"pulse-{os.getuid()}-{digest}"  # noqa: S108 - ownership is checked when it is made


def make_socket_folder(settings: Settings) -> Path:
    """Make the folder of the sockets, for this user alone: whoever reaches a socket in it is trusted.

    Raises `UnsafeSocketFolder` when somebody else made it or can look into it.
    """
    folder = socket_folder(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_relative_to(settings.folder):
        folder.chmod(0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise UnsafeSocketFolder(path=folder)
    return folder


def database_url(settings: Settings) -> str:
    """Return the database's address as SQLAlchemy's asyncpg dialect reads it. Raises `InvalidSetting`."""
    if not settings.database_url:
        return f"postgresql+asyncpg://{USER}@/{DATABASE}?host={socket_folder(settings)}&port=5432"
    scheme, _, rest = settings.database_url.partition("://")
    if scheme not in _DATABASE_SCHEMES or not rest:
        raise InvalidSetting(key="PULSE_DATABASE_URL", reason="it must begin with postgresql://")
    place, _, query = rest.partition("?")
    # libpq and every hosting panel say sslmode; asyncpg takes the same values under the name ssl.
    options = [("ssl" if key == "sslmode" else key, value) for key, value in urllib.parse.parse_qsl(query)]
    return f"postgresql+asyncpg://{place}" + (f"?{urllib.parse.urlencode(options, safe='/')}" if options else "")


def redis_url(settings: Settings) -> str:
    """Return the address of Redis or Valkey as redis-py reads it. Raises `InvalidSetting`."""
    if not settings.redis_url:
        return f"unix://{socket_folder(settings) / VALKEY_SOCKET}"
    if settings.redis_url.partition("://")[0] not in _REDIS_SCHEMES:
        raise InvalidSetting(key="PULSE_REDIS_URL", reason="it must begin with redis://, rediss:// or unix://")
    return settings.redis_url
