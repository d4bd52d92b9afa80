"""What an operator may set: one frozen Struct, read once from `PULSE_*` variables, refused by name when wrong."""

import difflib
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Meta, Struct

from infra.errors import PulseError

PREFIX = "PULSE_"
ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRET = "for-development-only-change-me"  # noqa: S105 (production refuses this very value)
_SHORTEST_SECRET = 32
# Where clamd may listen; of a host only what no name and no address (in brackets where it has colons) can have is out.
_CLAMD = re.compile(r"unix:///[^\0]+|tcp://([^\s/:@\[\]]+|\[[0-9a-fA-F:.]+\]):(?P<port>[1-9]\d{0,4})")
_HIGHEST_PORT = 65_535
# Where the vendors' own tools look for their keys.
_VENDORS_OWN = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
# At least a microsecond for each request, which is the unit that limits are kept in.
_RATE = re.compile(r"off|(?P<count>[1-9]\d{0,5})/(?P<seconds>[1-9]\d{0,4})")

# Parameters of an address that are keys.
_KEYS = re.compile(r"key|token|secret|password|sig", re.IGNORECASE)


class Rate(Struct, frozen=True):
    """So many requests in so many seconds, all of them at once where nothing has passed for so long."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate | None":
        """Read `6000/60`; None for `off` and for nothing. Raises `ValueError`."""
        found = _RATE.fullmatch(text or "off")
        if found is None:
            raise ValueError(f"it looks like 6000/60 (requests in seconds) or off, and not like {text!r}")
        return None if found["count"] is None else cls(int(found["count"]), int(found["seconds"]))


class InvalidSetting(PulseError):
    """{key}: {reason}"""

    ar = "{key}: قيمة غير صالحة ({reason})"
    status = 500


def _text(description: str) -> Meta:
    return Meta(description=description)


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting; the variable of a field is `PULSE_` and its name in capitals (docs/settings.md is this table)."""

    env: Annotated[
        Literal["development", "test", "production"],
        _text("`production` refuses every stand-in and default secret."),
    ] = "development"
    home: Annotated[str, _text("Folder of the embedded servers' data; relative to the project's folder.")] = ".pulse"
    host: Annotated[str, _text("Address that the API listens on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535, description="Port of the API; `make run` takes the next free one.")] = (
        8000
    )
    database_url: Annotated[
        str, _text("PostgreSQL 18 to use, `postgresql://user:password@host/name`; empty: the embedded one.")
    ] = ""
    database_pool: Annotated[int, Meta(ge=1, le=200, description="Database connections a process may open.")] = 10
    redis_url: Annotated[
        str,
        _text("Redis 7+ or Valkey 8+ to use, `redis://...`, `rediss://...` or `unix://...`; empty: the embedded one."),
    ] = ""
    secret: Annotated[
        str,
        _text(
            "Signs links to files; API keys and webhook secrets are kept under it. 32 characters or more in production."
        ),
    ] = DEVELOPMENT_SECRET
    body_limit_bytes: Annotated[int, Meta(ge=1024, description="Largest request body; more is answered 413.")] = (
        1_048_576
    )
    proxies: Annotated[
        int,
        Meta(ge=0, le=16, description="Proxies before the API whose `X-Forwarded-For` is believed; 0: none."),
    ] = 0
    wait_s: Annotated[
        int, Meta(ge=1, le=600, description="Longest that one call may wait for a job (`Prefer: wait`, `?wait=`).")
    ] = 60
    account_streams: Annotated[
        int, Meta(ge=1, description="Event streams that one account may have open at a time.")
    ] = 200
    account_queued: Annotated[int, Meta(ge=1, description="Unfinished jobs of one account; more are answered 429.")] = (
        20_000
    )
    rate_ip: Annotated[
        str, _text("Requests of one address (IPv6: one /64) in seconds, all at once at most; `off`: no such limit.")
    ] = "60000/60"
    rate_key: Annotated[str, _text("Requests with one API key in seconds.")] = "60000/60"
    rate_account: Annotated[str, _text("Requests of one account in seconds, whatever the key.")] = "60000/60"
    rate_submit: Annotated[str, _text("Requests of one account in seconds that create something.")] = "12000/60"
    rate_webhook: Annotated[
        str, _text("Tests, replays and recoveries of webhooks that one account asks for in seconds.")
    ] = "120/60"
    rate_read: Annotated[str, _text("Requests of one account in seconds that only look.")] = "30000/60"
    rate_stream: Annotated[str, _text("Event streams that one account opens in seconds.")] = "3000/60"
    rate_sign_in: Annotated[str, _text("Tries to sign in from one address in seconds.")] = "20/60"
    rate_auth: Annotated[
        str,
        _text("Wrong API keys from one address in seconds; more are answered 429, and good ones pass all the same."),
    ] = "60/60"
    account_events: Annotated[
        int, Meta(ge=100, description="Events that an account's own stream keeps; the oldest leave first.")
    ] = 2_000
    public_url: Annotated[
        str, _text("Where the outside finds the API, for links to local files; empty: `http://` and its host and port.")
    ] = ""
    files_dir: Annotated[
        str, _text("Folder of the files, or where S3 is set, of those on their way; empty: `files` in `PULSE_HOME`.")
    ] = ""
    s3_assets: Annotated[
        str, _text("S3 bucket of what is served; empty: a local folder. Credentials and region as boto3 finds them.")
    ] = ""
    s3_quarantine: Annotated[
        str, _text("S3 bucket of what is not yet scanned; another one than that of the assets.")
    ] = ""
    s3_endpoint: Annotated[str, _text("Address of an S3-compatible server; empty: AWS.")] = ""
    s3_region: Annotated[str, _text("Region of the buckets; empty: as boto3 finds it.")] = ""
    upload_s: Annotated[
        int, Meta(ge=1, le=604_800, description="Seconds in which an upload has to begin after it was announced.")
    ] = 900
    link_s: Annotated[int, Meta(ge=1, le=604_800, description="Seconds for which a link to a file holds.")] = 300
    direct_upload_bytes: Annotated[
        int, Meta(ge=1, description="Largest file that is taken in one POST; larger ones are announced first.")
    ] = 33_554_432
    pending_uploads: Annotated[int, Meta(ge=1, description="Announced uploads of one account at a time.")] = 100
    account_files: Annotated[int, Meta(ge=1, description="Files of one account.")] = 20_000
    clamav: Annotated[
        str, _text("ClamAV's clamd: `tcp://host:3310` or `unix:///path`; empty: files are not scanned for viruses.")
    ] = ""
    scan_slots: Annotated[int, Meta(ge=1, description="Files that one worker process scans at a time.")] = 2
    scan_timeout_s: Annotated[float, Meta(gt=0, description="Longest that one try of a scan may run.")] = 300.0
    fetch_allow: Annotated[
        str,
        _text(
            "Networks that URLs of others may lead to although they are not public, such as `10.1.0.0/16,fd12::/64`."
        ),
    ] = ""
    heartbeat_s: Annotated[
        float, Meta(gt=0, le=60, description="Seconds of silence after which an event stream sends a comment.")
    ] = 15.0
    stream_keep_s: Annotated[
        int, Meta(ge=1, description="Seconds that a finished job's events stay in Redis; PostgreSQL serves them after.")
    ] = 900
    max_tries: Annotated[int, Meta(ge=1, le=20, description="Failed tries after which a job is given up.")] = 3
    retry_base_s: Annotated[
        float, Meta(gt=0, description="Longest wait before the first retry; doubled each time, with full jitter.")
    ] = 2.0
    retry_max_s: Annotated[float, Meta(gt=0, description="Longest wait before any retry.")] = 60.0
    lease_s: Annotated[
        float, Meta(ge=2, description="Seconds after which a silent worker's jobs are given to another.")
    ] = 8.0
    account_cap: Annotated[
        int, Meta(ge=0, description="Jobs of one account that run at once in a pool; 0: as many as there are slots.")
    ] = 0
    grace_s: Annotated[
        float, Meta(ge=0, description="Seconds a worker told to stop gives its running jobs before it hands them back.")
    ] = 110.0
    tend_every_s: Annotated[float, Meta(gt=0, description="Seconds between two rounds of the tender.")] = 5.0
    batch_slots: Annotated[int, Meta(ge=1, description="Batches that one worker process reads at a time.")] = 4
    batch_timeout_s: Annotated[float, Meta(gt=0, description="Longest that one try of reading a batch may run.")] = (
        3600.0
    )
    batch_lines: Annotated[int, Meta(ge=1, le=1_000_000, description="Lines that one batch may have.")] = 100_000
    batch_bytes: Annotated[int, Meta(ge=1024, description="Largest input of a batch.")] = 209_715_200
    batch_window: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Lines of one account's batches that are jobs at a time; the rest follow."),
    ] = 2_000
    parcel_lines: Annotated[
        int, Meta(ge=1, le=50_000, description="Lines that go to a vendor's own batch together at most.")
    ] = 10_000
    parcel_poll_s: Annotated[
        float, Meta(gt=0, description="Longest time between two looks at a vendor's batch; the first ones come sooner.")
    ] = 60.0
    parcel_doubt_s: Annotated[
        float,
        Meta(
            gt=0,
            description="For how long a batch is looked for at its vendor, when it is not known whether it was taken, "
            "before it is handed over again.",
        ),
    ] = 600.0
    parcel_tries: Annotated[
        int, Meta(ge=1, description="Failures to hand lines over to a vendor, after which they run in our own pools.")
    ] = 6
    batch_keep_days: Annotated[
        int, Meta(ge=1, description="Days for which the results of a finished batch are kept.")
    ] = 30
    account_batches: Annotated[int, Meta(ge=1, description="Unfinished batches of one account at a time.")] = 100
    webhook_slots: Annotated[int, Meta(ge=1, le=1000, description="Webhooks that one process delivers at a time.")] = 50
    webhook_timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="Seconds that a receiver has to answer a webhook.")
    ] = 20.0
    webhook_keep_days: Annotated[int, Meta(ge=1, description="Days for which the log of deliveries is kept.")] = 30
    account_webhooks: Annotated[int, Meta(ge=1, description="Webhook endpoints of one account.")] = 20
    chat_slots: Annotated[int, Meta(ge=1, description="Chat jobs that one worker process runs at a time.")] = 8
    chat_timeout_s: Annotated[float, Meta(gt=0, description="Longest that one try of a chat job may run.")] = 300.0
    chat_prompt_tokens: Annotated[
        int, Meta(ge=0, description="Longest conversation that is sent to a model, in tokens; 0: as the model takes.")
    ] = 0
    chat_output_tokens: Annotated[
        int, Meta(ge=0, description="Longest answer of a model, in tokens; 0: as the model makes.")
    ] = 0
    account_day_usd: Annotated[
        float, Meta(ge=0, le=1e8, description="US dollars that an account's jobs may cost at vendors a day; 0: no cap.")
    ] = 0.0
    moderation: Annotated[
        Literal["off", "list", "openai"],
        _text("What is not to be asked: words of a list, or what OpenAI's moderation flags; `off`: all may be asked."),
    ] = "off"
    moderation_list: Annotated[
        str,
        _text("File of the list: a word or phrase in each line, as it is written without vowel marks; `#`: a note."),
    ] = ""
    moderation_open: Annotated[
        bool, _text("Whether chat goes on while OpenAI's moderation cannot be asked; else such jobs wait and fail.")
    ] = False
    openai_api_key: Annotated[
        str,
        _text(
            "OpenAI's keys, separated by commas (`key*3` gets three times the calls); else `OPENAI_API_KEY` is read."
        ),
    ] = ""
    openai_base_url: Annotated[str, _text("Where OpenAI's Responses API is; empty: OpenAI itself.")] = ""
    anthropic_api_key: Annotated[str, _text("Anthropic's keys, as OpenAI's; else `ANTHROPIC_API_KEY` is read.")] = ""
    anthropic_base_url: Annotated[str, _text("Where Anthropic's Messages API is; empty: Anthropic itself.")] = ""
    google_api_key: Annotated[str, _text("Keys of the Gemini API, as OpenAI's; else `GEMINI_API_KEY` is read.")] = ""
    google_base_url: Annotated[str, _text("Where the Gemini API is; empty: Google itself.")] = ""
    compatible_url: Annotated[
        str, _text("Any OpenAI-compatible server (Ollama, vLLM, llama.cpp), such as `http://127.0.0.1:11434/v1`.")
    ] = ""
    compatible_api_key: Annotated[str, _text("Keys of the OpenAI-compatible server, as OpenAI's; empty: none.")] = ""
    compatible_models: Annotated[
        str, _text("Models that the OpenAI-compatible server offers, separated by commas.")
    ] = "default"
    models_file: Annotated[
        str, _text("Your own file of models and prices in place of `providers/models.toml`; empty: that one.")
    ] = ""
    vendor_tries: Annotated[
        int, Meta(ge=1, le=10, description="Tries at one model before the next one of its chain is asked.")
    ] = 3
    vendor_slots: Annotated[
        int, Meta(ge=1, le=100_000, description="Calls that one key has at a time, over all processes.")
    ] = 64
    first_token_s: Annotated[
        float,
        Meta(gt=0, description="Seconds in which a model has to begin; three times as long where it is to think."),
    ] = 60.0
    idle_s: Annotated[float, Meta(gt=0, description="Seconds that a model may be silent in its answer.")] = 30.0
    answer_s: Annotated[float, Meta(gt=0, description="Seconds that one try of an answer may take as a whole.")] = 240.0
    breaker_failures: Annotated[
        int, Meta(ge=1, description="Failures of a key's model in a row after which it is not asked for a while.")
    ] = 5
    breaker_rest_s: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds for which it is not asked then; one call tries it after that.")
    ] = 15.0
    resumable: Annotated[
        Literal["always", "long", "never"],
        _text(
            "Which answers a vendor is to go on with when nobody listens, so that a crash does not pay twice; `long`: "
            "those of more than 2000 tokens at most. The vendor stores them for that."
        ),
    ] = "always"
    local_port: Annotated[int, Meta(ge=1, le=65535, description="Port of the local model's server.")] = 8091
    local_gguf: Annotated[
        str, _text("GGUF file that the local model's server loads; empty: the SmolLM2 of the wheel.")
    ] = ""
    local_threads: Annotated[int, Meta(ge=0, description="Threads of the local model; 0: one per core.")] = 0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _text("Least severe log line shown.")] = "info"
    url: Annotated[str, _text("Where the `pulse` command finds the API; empty: the studio running here.")] = ""
    api_key: Annotated[str, _text("Key that the `pulse` command uses; empty: the one `make run` printed.")] = ""

    def __repr__(self) -> str:
        """Tell none of them: keys and passwords are among them."""
        return f"Settings(env={self.env!r})"

    @property
    def secrets(self) -> frozenset[str]:
        """Everything that may be told to nobody: vendors' keys, our own secret and key, and passwords in addresses."""
        vendors = (self.openai_api_key, self.anthropic_api_key, self.google_api_key, self.compatible_api_key)
        found = {weighed(key)[0] for keys in vendors for key in keys.split(",")} | {self.secret, self.api_key}
        servers = (self.openai_base_url, self.anthropic_base_url, self.google_base_url, self.compatible_url)
        for url in (self.database_url, self.redis_url, *servers):
            found |= _passwords(url)
        return frozenset(found - {"", DEVELOPMENT_SECRET})

    @property
    def folder(self) -> Path:
        """The absolute folder of the embedded servers' data."""
        return (ROOT / self.home).resolve()

    @property
    def files(self) -> Path:
        """The absolute folder of the files that are kept locally."""
        return (ROOT / self.files_dir).resolve() if self.files_dir else self.folder / "files"

    @property
    def fetch_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks that may be fetched from although they are not public."""
        return tuple(ip_network(network.strip()) for network in self.fetch_allow.split(",") if network.strip())

    @property
    def address(self) -> str:
        """Where the outside finds the API."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"

    @property
    def cloud(self) -> bool:
        """Whether chat goes to vendors or to an OpenAI-compatible server rather than to the local model."""
        return bool(self.openai_api_key or self.anthropic_api_key or self.google_api_key or self.compatible_url)


def weighed(text: str) -> tuple[str, int]:
    """Read one of a vendor's keys, `key` or `key*3`: the key and its weight."""
    key, star, weight = text.strip().rpartition("*")
    return (key, int(weight)) if star and weight.isdecimal() and int(weight) > 0 else (text.strip(), 1)


def _passwords(url: str) -> set[str]:
    """Return what an address has for its server alone: its password, and what is asked with it, as in `?key=...`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    given = {parts.password or "", *(value for name, value in parse_qsl(parts.query) if _KEYS.search(name))}
    return given | {unquote(each) for each in given}


def variable(field: str) -> str:
    """Return the environment variable of a field: `lease_s` -> `PULSE_LEASE_S`."""
    return PREFIX + field.upper()


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (the process's own by default).

    An empty value counts as not set. Raises `InvalidSetting` naming the key: one that is unknown, one whose value
    does not fit, or, in production, one that still has a stand-in's value.
    """
    environ = os.environ if environ is None else environ
    fields = {variable(field.name): field.name for field in msgspec.structs.fields(Settings)}
    given: dict[str, str] = {}
    for key, value in environ.items():
        if key.startswith(PREFIX) and value:
            if key not in fields:
                raise InvalidSetting(key=key, reason=_did_you_mean(key, list(fields)))
            given[fields[key]] = value
    for vendor, variables in _VENDORS_OWN.items():
        found = next((environ[name] for name in variables if environ.get(name)), None)
        if found is not None:
            given.setdefault(f"{vendor}_api_key", found)
    settings = Settings()
    for field, value in given.items():
        # One at a time, so that the error can name the variable whatever msgspec calls the place.
        try:
            checked = msgspec.convert({field: value}, Settings, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error).split(" - at ")[0]
            raise InvalidSetting(key=variable(field), reason=f"{reason} (it is {value!r})") from None
        settings = msgspec.structs.replace(settings, **{field: getattr(checked, field)})
    _refuse_half_a_store(settings)
    _refuse_no_scanner(settings)
    _refuse_no_networks(settings)
    _refuse_no_rates(settings)
    _refuse_no_moderation(settings)
    if settings.env == "production":
        _refuse_stand_ins(settings)
    return settings


def _did_you_mean(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return "no such setting" + (f"; did you mean {close[0]}?" if close else "")


def _refuse_half_a_store(settings: Settings) -> None:
    if bool(settings.s3_assets) != bool(settings.s3_quarantine):
        missing = "s3_quarantine" if settings.s3_assets else "s3_assets"
        raise InvalidSetting(key=variable(missing), reason="S3 needs a bucket for each of the two areas")
    if settings.s3_assets and settings.s3_assets == settings.s3_quarantine:
        raise InvalidSetting(key=variable("s3_quarantine"), reason="it must not be the bucket of what is served")


def _refuse_no_scanner(settings: Settings) -> None:
    found = _CLAMD.fullmatch(settings.clamav)
    if settings.clamav and (found is None or int(found["port"] or 1) > _HIGHEST_PORT):
        reason = f"it looks like tcp://host:3310 or unix:///path, and not like {settings.clamav!r}"
        raise InvalidSetting(key=variable("clamav"), reason=reason)


def _refuse_no_networks(settings: Settings) -> None:
    try:
        everything = [str(network) for network in settings.fetch_networks if network.prefixlen == 0]
    except ValueError as error:
        raise InvalidSetting(key=variable("fetch_allow"), reason=str(error)) from None
    if everything:
        raise InvalidSetting(key=variable("fetch_allow"), reason=f"{everything[0]} is every address there is")


def _refuse_no_rates(settings: Settings) -> None:
    for field in Settings.__struct_fields__:
        if field.startswith("rate_"):
            try:
                Rate.parse(getattr(settings, field))
            except ValueError as error:
                raise InvalidSetting(key=variable(field), reason=str(error)) from None


def _refuse_no_moderation(settings: Settings) -> None:
    if settings.moderation == "list" and not (ROOT / settings.moderation_list).is_file():
        reason = f"PULSE_MODERATION is list, and there is no file {settings.moderation_list!r}"
        raise InvalidSetting(key=variable("moderation_list"), reason=reason)
    if settings.moderation == "openai" and not settings.openai_api_key:
        raise InvalidSetting(key=variable("moderation"), reason="it is openai, and PULSE_OPENAI_API_KEY is not set")


def _refuse_stand_ins(settings: Settings) -> None:
    refusals = {
        "database_url": "the embedded PostgreSQL is for development" if not settings.database_url else "",
        "redis_url": "the embedded Valkey is for development" if not settings.redis_url else "",
        "secret": "the default is public" if settings.secret == DEVELOPMENT_SECRET else "",
        "files_dir": "the folder of `make run` is for development; set this, or PULSE_S3_ASSETS and PULSE_S3_QUARANTINE"
        if not settings.files_dir and not settings.s3_assets
        else "",
        "public_url": "the links to local files need it" if not settings.public_url and not settings.s3_assets else "",
        "openai_api_key": "the local model is for development; set this, another vendor's key or PULSE_COMPATIBLE_URL"
        if not settings.cloud
        else "",
    }
    if not refusals["secret"] and len(settings.secret) < _SHORTEST_SECRET:
        refusals["secret"] = f"shorter than {_SHORTEST_SECRET} characters"
    for field, reason in refusals.items():
        if reason:
            raise InvalidSetting(key=variable(field), reason=f"{reason}, and PULSE_ENV is production")


def table() -> str:
    """Return the Markdown table of every setting: variable, default and meaning (docs/settings.md holds it)."""
    described = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for field in msgspec.structs.fields(Settings):
        meaning = described[field.name]["description"]
        rows.append(f"| `{variable(field.name)}` | {_shown(field.default)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _shown(default: object) -> str:
    return f"`{default}`" if default != "" else "empty"
