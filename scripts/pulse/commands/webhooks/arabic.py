"""The help of `pulse webhooks` in Arabic."""

from scripts.pulse.bilingual import Arabic

_CURSOR = "الصفحة التالية: ‎next_cursor من الصفحة السابقة."

WEBHOOKS = Arabic("""عناوين تُبلَّغ بما يؤول إليه أمر المهام والدفعات والملفات. من غير أمر فرعي: القائمة.

    الرسائل موقّعة (Standard Webhooks)، ويتكرر إرسالها حتى تُستلم، أيامًا إن لزم.

    \b
    أمثلة:
      pulse webhooks add https://example.com/hook --event 'job.*' --event batch.completed
      pulse webhooks
      pulse webhooks test 01a2...
      pulse webhooks deliveries 01a2... --state failed
    """)

LIST = Arabic(
    """اعرض عناوين الحساب، الأحدث أولًا: بماذا تُبلَّغ، وهل تستلم.

    \b
    مثال:
      pulse webhooks list --json | jq -r '.webhooks[] | select(.enabled | not).url'
    """,
    {"limit": "عدد العناوين في الصفحة، من 1 إلى 100.", "cursor": _CURSOR},
)

ADD = Arabic(
    """أضف عنوانًا يُبلَّغ بالأحداث، واطبع معرّفه وما تُتحقَّق به رسائله.

    \b
    أمثلة:
      pulse webhooks add https://example.com/hook
      pulse webhooks add https://example.com/hook --event 'batch.*' --json | jq -r .secret
    """,
    {
        "events": "مثل job.failed أو 'batch.*'، وإلا فالأحداث كلها.",
        "description": "الغرض منه.",
        "signature": "كيف توقَّع الرسائل، وإلا فبطريقة hmac.",
    },
)

TEST = Arabic("""أرسل إلى عنوان رسالة تجربة، واطبع معرّفها.

    \b
    مثال:
      pulse webhooks test 01a2... && pulse webhooks deliveries 01a2... --limit 1
    """)

ROTATE = Arabic(
    """أنشئ سرًّا جديدًا لعنوان واطبع ما يُتحقَّق به، ويوقّع القديم معه إلى حين.

    \b
    مثال:
      pulse webhooks rotate 01a2... --overlap 2h
    """,
    {"overlap": "مدة يوقّع فيها السر القديم أيضًا: من 0 إلى 7d، والمعتاد 24h."},
)

RM = Arabic("""احذف عنوانًا وأسراره، فلا يُرسل إليه ما ينتظره.

    \b
    مثال:
      pulse webhooks rm 01a2...
    """)

DELIVERIES = Arabic(
    """اعرض ما أُرسل إلى عنوان، أو إلى العناوين كلها: بماذا أُجيب، ومتى المحاولة التالية.

    \b
    أمثلة:
      pulse webhooks deliveries 01a2... --state failed
      pulse webhooks deliveries --json | jq -r '.deliveries[] | select(.status == 500).id'
    """,
    {
        "state": "التسليمات التي في هذه الحالة فقط.",
        "limit": "عدد التسليمات في الصفحة، من 1 إلى 100.",
        "cursor": _CURSOR,
    },
)

REPLAY = Arabic("""أرسل رسالة مرة أخرى بمعرّفها نفسه، في تسليم جديد، واطبع معرّف هذا التسليم.

    \b
    أمثلة:
      pulse webhooks replay 01a2...
      pulse webhooks deliveries --state failed --json | jq -r '.deliveries[].id' | xargs -n1 pulse webhooks replay
    """)
