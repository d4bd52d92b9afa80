"""`python -m scripts.studio`: what `make run` becomes once the environment is there."""

import asyncio
import sys

from infra import schema
from infra import settings as config
from infra.errors import PulseError
from infra.settings import ROOT, InvalidSetting, Settings
from scripts.pulse import account
from scripts.studio import course


def main() -> None:
    """Run the studio that the environment describes, and exit: 0 when told to stop, 2 for a wrong setting."""
    try:
        sys.exit(course.run(_for_one_person(config.load()), ROOT / "Procfile", _prepare))
    except KeyboardInterrupt:
        sys.exit(0)
    except InvalidSetting as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (PulseError, OSError) as error:
        sys.exit(str(error))


def _for_one_person(settings: Settings) -> Settings:
    """Return the settings; raises `InvalidSetting` for production, where nobody gets an account and a key unasked."""
    if settings.env == "production":
        raise InvalidSetting(key="PULSE_ENV", reason="make run is for development; start the lines of the Procfile")
    return settings


def _prepare(settings: Settings) -> str:
    schema.migrate(settings)
    return asyncio.run(account.development_key(settings))


if __name__ == "__main__":
    main()
