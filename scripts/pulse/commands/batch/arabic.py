"""The help of `pulse batch` in Arabic."""

from scripts.pulse.bilingual import Arabic

_FORCE = "الكتابة فوق الموجود."
_PAGE = {"limit": "عدد الدفعات في الصفحة، من 1 إلى 100.", "cursor": "الصفحة التالية: ‎next_cursor من الصفحة السابقة."}

BATCH = Arabic("""سلّم ملفًا من الطلبات، وتابع تنفيذها، واعرف ما آل إليه كل منها. من غير أمر فرعي: القائمة.

    تستمر الدفعة سواء أتابعها أحد أم لا. وما ينقطع في الطريق، من اتصالك أو من الاستوديو، يُستأنف: فلا يُنفَّذ سطر مرتين ولا
    يضيع سطر.

    \b
    أمثلة:
      pulse batch submit requests.jsonl -o results.jsonl
      pulse batch
      pulse batch status 01a2... --follow
      pulse batch results 01a2... -o results.jsonl
      pulse batch cancel 01a2...
    """)

SUBMIT = Arabic(
    """سلّم ملفًا من الطلبات وتابعه حتى تنتهي كلها. الرمز `-` هو ما يأتي عبر الدخل القياسي.

    في كل سطر من الملف طلب (‎.jsonl)، بصيغة الاستوديو أو بصيغة OpenAI أو Anthropic، أو يكون الملف كله كائن JSON واحدًا
    {"requests": [...]}. يُطبع معرّف الدفعة حالما يصل الملف كله، وما ينقطع من اتصال أو جواب يُعاد إرساله ولا يُنشئ دفعة
    ثانية. يترك Ctrl-C الدفعة تعمل، ويقول كيف تتابعها.

    رموز الخروج: 0 نجحت الأسطر كلها، 1 رُفض الطلب، 3 انتهت الدفعة ولم تنجح أسطرها كلها (أو فشلت أو أُلغيت أو انتهت
    مهلتها)، 130 تركتها بـ Ctrl-C وهي مستمرة. ومع ‎--json يكون كل سطر هو الدفعة كما كانت: عند إنشائها، وعند كل تغيّر في
    حالتها، وأخيرًا عند انتهائها.

    \b
    أمثلة:
      pulse batch submit requests.jsonl -o results.jsonl --errors errors.jsonl
      pulse batch submit requests.jsonl --mode all --window 2h --metadata team=sea --detach
      make-requests | pulse batch submit - -o - | jq -r .result.text
      pulse batch submit requests.jsonl --key nightly-2026-11-26
    """,
    {
        "mode": "كل سطر وحده (وهو المعتاد)، أو الكل أو لا شيء.",
        "window": "ما لا ينتهي خلالها يُترك: من 10m إلى 7d، والمعتاد 24h.",
        "metadata": "وسم للدفعة، ويمكن تكراره.",
        "webhook": "عنوان يُبلَّغ حين تُقبل الدفعة وحين تنتهي.",
        "key": "الملف بالمفتاح نفسه دفعة واحدة مهما تكرر إرساله.",
        "detach": "الخروج حالما يصل الملف إلى الاستوديو.",
        "output": "كتابة النتائج هنا عند الانتهاء، و - للخرج القياسي.",
        "errors": "كتابة الأسطر التي لم تنجح هنا.",
        "force": _FORCE,
    },
)

STATUS = Arabic(
    """اعرض دفعة: إلى أين وصلت، وما احتُسب عليها، وأول الأسطر التي لم تنجح. من غير معرّف: الأحدث.

    مع ‎--follow تُتابَع حتى تنتهي، مهما جرى للاتصال. ورموز الخروج عندئذٍ: 0 نجحت الأسطر كلها، 3 لم تنجح كلها، 130 تركتها
    بـ Ctrl-C وهي مستمرة.

    \b
    أمثلة:
      pulse batch status
      pulse batch status 01a2... --follow
      pulse batch status 01a2... --json | jq .counts
    """,
    {"follow": "متابعة العرض حتى تنتهي، كما في submit."},
)

RESULTS = Arabic(
    """اكتب نتائج دفعة، سطر JSON لكل سطر منها، بترتيب انتهائها.

    ما ينقطع من اتصال يُستأنف من حيث انقطع، فلا يضيع بايت ولا يتكرر. وفي الملف يُحفظ ما وصل بجانبه حتى يكتمل، والأمر نفسه
    يتابع ما تركه أمر سابق.

    \b
    أمثلة:
      pulse batch results 01a2... -o results.jsonl
      pulse batch results 01a2... --errors | jq -r '[.line, .error.code] | @tsv'
      pulse batch results 01a2... --follow | jq -r .custom_id
    """,
    {
        "output": "مكان الكتابة: ملف أو مجلد، وإلا فالخرج القياسي.",
        "errors": "الأسطر التي لم تنجح فقط.",
        "follow": "المتابعة سطرًا سطرًا حتى تنتهي الدفعة.",
        "force": _FORCE,
    },
)

CANCEL = Arabic("""أوقف دفعة. ما ينتظر لا يكلّف شيئًا، وما يعمل يُوقَف ويُحتسب ما أُنجز منه، وتبقى النتائج.

    \b
    مثال:
      pulse batch cancel 01a2...
    """)

RETRY = Arabic(
    """أعد محاولة الأسطر التي فشلت من دفعة، في دفعة جديدة بأرقامها وأسمائها، واطبع معرّفها.

    \b
    أمثلة:
      pulse batch retry 01a2...
      pulse batch retry 01a2... --follow
    """,
    {"follow": "متابعة الدفعة الجديدة حتى تنتهي، كما في submit."},
)

LIST = Arabic(
    """اعرض دفعات الحساب، الأحدث أولًا: أسطرها، وكم نجح منها وكم لم ينجح.

    \b
    أمثلة:
      pulse batch list --state running
      pulse batch list --json | jq -r '.batches[] | select(.counts.failed > 0).id'
    """,
    {"state": "الدفعات التي في هذه الحالة فقط.", **_PAGE},
)
