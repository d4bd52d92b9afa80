"""`pulse chat`: asks a chat model, once or in a conversation."""

import sys
from typing import get_args

import click

from providers.types import Effort
from scripts.pulse import pictures, words
from scripts.pulse.answers import Submitted
from scripts.pulse.client import Client
from scripts.pulse.command import Command, connect, json_option, language
from scripts.pulse.conversation import Conversation
from scripts.pulse.lines import Lines, write
from scripts.pulse.screen import Screen
from scripts.pulse.view import watch


@click.command("chat", cls=Command)
@click.argument("text", nargs=-1)
@click.option("--system", metavar="TEXT", help="Tell the model how to answer, before the conversation.")
@click.option("--model", metavar="ID", help="The model to ask, by its id or alias; the studio chooses otherwise.")
@click.option("--effort", type=click.Choice(get_args(Effort)), help="How hard the model is to think.")
@click.option("--image", "images", multiple=True, metavar="PATH", help="Show a picture (PNG, JPEG, WebP, GIF).")
@click.option("--file", "files", multiple=True, metavar="ID", help="Have a file read that you uploaded: PDF or text.")
@click.option("--max-tokens", type=int, metavar="N", help="The longest answer, in the model's tokens.")
@click.option("--temperature", type=float, metavar="T", help="0 for the likeliest words, up to 2 for surprising ones.")
@click.option("--timeout", type=int, metavar="SECONDS", help="Longest that one try may take; the studio's own holds.")
@click.option("--follow/--no-follow", default=True, help="Watch the answer, or print the job's id and leave.")
@json_option
def command(
    *,
    text: tuple[str, ...],
    system: str | None,
    model: str | None,
    effort: Effort | None,
    images: tuple[str, ...],
    files: tuple[str, ...],
    max_tokens: int | None,
    temperature: float | None,
    timeout: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Ask a chat model and watch the answer come, word by word.

    The answer goes to stdout and everything about it (model, tokens, units charged, speed, quota left) to stderr, so
    that it can be piped. Without TEXT the question is read from stdin; in a terminal a conversation begins. A lost
    connection is made again without losing or repeating a word. Ctrl-C leaves the job running and says how to come
    back. Exit codes: 0 answered, 1 failed or refused, 3 cancelled, 130 left.

    With --json every event is one line, such as {"id": "1-4", "type": "delta", "text": "..."}; the first line is the
    job: {"type": "submitted", "job": {...}, "quota": {...}, "model": "...", "reason": {...}}.

    \b
    Examples:
      pulse chat "Tell me a short story about the sea"
      pulse chat --system "Answer in one sentence" "What is a lease?"
      git diff | pulse chat --system "Review this change" -
      pulse chat --image cat.jpg "What is this?"
      pulse chat --effort high --model smart "Prove that there are infinitely many primes"
      pulse chat --json "Hello" | jq -r 'select(.type == "delta").text'
      pulse chat
    """
    client = connect()
    options = {"model": model, "effort": effort, "max_output_tokens": max_tokens, "temperature": temperature}
    shown = [*map(pictures.part, images), *({"type": "file", "file_id": file_id} for file_id in files)]
    conversation = Conversation(system, timeout_s=timeout, shown=shown, **options)
    asked = " ".join(text)
    if not text and follow and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        conversation.hold(client, language())
        return
    if asked in {"", "-"} and text in {(), ("-",)}:
        # As in arguments, bytes that are no UTF-8 reach the API as surrogates, and it refuses them by field.
        asked = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").rstrip("\r\n")
    _ask(client, conversation.request(asked), follow=follow, as_json=as_json)


def _ask(client: Client, request: dict[str, object], *, follow: bool, as_json: bool) -> None:
    answer = client.submit(request)
    submitted = client.read(answer, Submitted)
    if as_json:
        write({"type": "submitted", **client.read(answer, dict[str, object])})
    elif not follow:
        print(submitted.job.id)
    if follow:
        viewer = Lines() if as_json else Screen(words.of(language()), submitted.quota, submitted.chosen(language()))
        watch(client, submitted.job.id, viewer, language())
