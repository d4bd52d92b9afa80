"""A conversation with a chat model: what is sent each time, and the prompt at which a person holds it."""

import readline  # noqa: F401  # pyright: ignore[reportUnusedImport]: gives input() editing and a history
from collections.abc import Mapping, Sequence

from rich.console import Console

from scripts.pulse import problems, words
from scripts.pulse.answers import Submitted
from scripts.pulse.client import Client
from scripts.pulse.problems import Interrupted, Problem
from scripts.pulse.screen import Screen
from scripts.pulse.view import watch
from scripts.pulse.words import Language


class Conversation:
    """Messages so far, and how each answer is to be made."""

    def __init__(
        self,
        system: str | None,
        *,
        timeout_s: int | None = None,
        shown: Sequence[Mapping[str, object]] = (),
        **options: object,
    ) -> None:
        """Begin; a try may take `timeout_s`; `options` are members of the job's input. None: the studio decides.

        `shown` are parts that come with the first question.
        """
        self._limits = {"timeout": timeout_s} if timeout_s is not None else {}
        self._messages: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
        self._shown = shown
        self._options = {name: value for name, value in options.items() if value is not None}

    def request(self, question: str) -> dict[str, object]:
        """Return the job that asks `question`."""
        messages = [*self._messages, self._asked(question)]
        return {"kind": "chat", "input": {"messages": messages, **self._options}, **self._limits}

    def _asked(self, question: str) -> dict[str, object]:
        words = [{"type": "text", "text": question}] if question else []
        return {"role": "user", "content": [*self._shown, *words] if self._shown else question}

    def hold(self, client: Client, language: Language) -> None:
        """Ask and answer at a prompt until Ctrl-D. A question that failed is as if it had not been asked."""
        said = words.of(language)
        Console(stderr=True, highlight=False).print(said.converse, style="dim")
        while True:
            try:
                question = input(said.you)
            except (EOFError, KeyboardInterrupt):
                print()
                return
            if not question.strip():
                continue
            try:
                self._ask(client, question, language)
            except Interrupted:
                raise
            except (problems.Ending, Problem) as error:
                problems.show(error, language, as_json=False)

    def _ask(self, client: Client, question: str, language: Language) -> None:
        submitted = client.read(client.submit(self.request(question)), Submitted)
        screen = Screen(words.of(language), submitted.quota, submitted.chosen(language))
        watch(client, submitted.job.id, screen, language)
        answer: dict[str, object] = {"role": "assistant", "content": screen.answer}
        self._messages += [self._asked(question), answer]
        self._shown = ()
