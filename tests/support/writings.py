"""Texts to count: Arabic as it is written in books and in messages, English, code, and all of them mixed."""

import random

BOOKISH = (
    "تعتمد المؤسسات الحديثة على أنظمة موزعة يصعب على شخص واحد أن يحيط بتفاصيلها كلها.",
    "أعلنت الوزارة صباح اليوم أن نتائج الامتحانات ستُنشر بعد أسبوعين على الأكثر.",
    "لا يكفي أن تكون الخوارزمية صحيحة، بل ينبغي أن تنتهي في زمن معقول مهما كبرت المدخلات.",
    "كان البحر هادئًا في تلك الليلة، غير أن الصيادين لم يبتعدوا عن الشاطئ خوفًا من الريح.",
    "تشير الدراسة إلى أن استهلاك المياه ارتفع بنسبة 12.5٪ بين عامي 2019 و2024.",
    "وقّع الطرفان اتفاقية تقضي بتبادل الطلاب والباحثين وتمويل المشروعات المشتركة.",
    "يختلف النقاد في تفسير القصيدة، فمنهم من يراها رثاءً ومنهم من يراها غزلًا.",
    "اكتب رسالة رسمية إلى مدير المصرف تطلب فيها كشف حساب عن السنوات الثلاث الماضية.",
)
SPOKEN = (
    "ازيك يا باشا، عامل ايه النهارده؟ أنا كنت عايز أسألك على حاجة بسيطة كده.",
    "مش عارف ليه الكود ده مش شغال، كل ما أشغله يقولي الملف مش موجود!",
    "شلونك عساك طيب؟ ودي أسوي برنامج يحسب لي مصاريف البيت كل شهر.",
    "وش السالفة؟ أبغى أعرف شلون أرجع الملفات اللي انحذفت من الجوال.",
    "كيفك حبيبي، شو عم تعمل هلأ؟ بدي ياك تساعدني بهالواجب تبع الرياضيات.",
    "ما بعرف ليش هيك صار، مبارح كان كل شي ماشي منيح وهلق خربت الدنيا.",
    "واش راك خويا، لاباس عليك؟ بغيت نعرف كيفاش نخدم هاد البرنامج فالحاسوب.",
    "علاش ما كيخدمش هاد الموقع؟ درت كلشي لي قلتي ليا ووالو.",
)
POINTED = (
    "إِنَّ الْعِلْمَ نُورٌ يُضِيءُ طَرِيقَ مَنْ طَلَبَهُ، وَالْجَهْلُ ظُلْمَةٌ لَا يَهْتَدِي فِيهَا أَحَدٌ.",
    "خَرَجَ التَّلَامِيذُ مِنَ الْمَدْرَسَةِ مُسْرِعِينَ، فَقَدْ كَانَتِ السَّمَاءُ مُلَبَّدَةً بِالْغُيُومِ.",
    "قَرَأْتُ كِتَابًا مُفِيدًا عَنْ تَارِيخِ الْأَنْدَلُسِ وَمَا فِيهَا مِنْ عُمْرَانٍ وَفُنُونٍ.",
    "أَيُّهَا الصَّدِيقُ الْعَزِيزُ، أَكْتُبُ إِلَيْكَ هَذِهِ الرِّسَالَةَ وَأَنَا مُشْتَاقٌ إِلَى لِقَائِكَ.",
    "لَوْ كَانَ النَّجَاحُ سَهْلًا لَمَا سَعَى إِلَيْهِ أَحَدٌ بِكُلِّ مَا أُوتِيَ مِنْ قُوَّةٍ.",
)
ENGLISH = (
    "The committee postponed its decision until the auditors have looked at last year's accounts.",
    "Could you explain why a hash table degrades to linear time when all of its keys collide?",
    "She packed two shirts, a notebook and the photograph, and left before anybody was awake.",
    "Rainfall in the northern valleys fell by 12.5% between 2019 and 2024, the survey found.",
    "Write a polite e-mail to my landlord asking him to have the heating mended this week.",
)
CODE = (
    (
        "async def fetch(url: str, *, tries: int = 3) -> bytes:\n    for attempt in range(tries):\n"
        "        try:\n            return (await client.get(url, timeout=5.0)).content\n"
        "        except TransportError as error:\n            last = error\n    raise last\n"
    ),
    (
        "SELECT account_id, sum(amount) AS spent FROM entries WHERE created_at >= now() - interval '1 day'\n"
        "GROUP BY account_id HAVING sum(amount) > 1000000 ORDER BY spent DESC LIMIT 20;\n"
    ),
    (
        "const total = items\n  .filter((item) => item.price > 0 && !item.hidden)\n"
        "  .reduce((sum, { price, count }) => sum + price * count, 0);\n"
    ),
    '{"id": "job_01HZX3", "state": "running", "progress": {"done": 17, "total": 256}, "tags": ["a", "b"]}\n',
    "for i in {1..10}; do curl -fsS http://127.0.0.1:8000/healthz || exit 1; sleep 0.5; done\n",
)
MIXED = (
    "الدالة fetch_user(id) ترجع None لما يكون id مش موجود في جدول users، ليه؟",
    "استخدمت useEffect(() => {...}, []) في React لكن الـ component يعيد الـ render كل مرة.",
    "شغّلت الأمر `docker compose up -d` وطلع لي الخطأ: port 5432 is already allocated.",
    "عدّل السطر `return sum(x for x in xs if x > 0)` بحيث يحسب المتوسط average بدل المجموع sum.",
    "# دالة تجمع عددين وتعيد الناتج\ndef add(first, second):\n    return first + second  # الناتج\n",
    "The function raises ValueError عند تمرير قيمة سالبة، فكيف أكتب unit test لهذه الحالة؟",
)
#: What is written how: every sort that a person here may send.
SORTS: dict[str, tuple[str, ...]] = {
    "bookish": BOOKISH,
    "spoken": SPOKEN,
    "pointed": POINTED,
    "english": ENGLISH,
    "code": CODE,
    "mixed": MIXED,
    "all": BOOKISH + SPOKEN + POINTED + ENGLISH + CODE + MIXED,
}


def written(sort: str, characters: int, *, seed: int = 1) -> str:
    """Return a text of that sort and about that length: its sentences with words of others, never twice the same."""
    dice = random.Random(seed)
    sentences = SORTS[sort]
    words = [word for sentence in sentences for word in sentence.split(" ")]
    text: list[str] = []
    length = 0
    while length < characters:
        made = dice.choice(sentences) if dice.random() < 0.5 else " ".join(dice.choices(words, k=dice.randint(3, 18)))
        made += dice.choice((" ", "\n", "\n\n"))
        text.append(made)
        length += len(made)
    return "".join(text)[:characters]


def blocks(characters: int, *, seed: int = 1) -> str:
    """Return a text whose sorts stand in long blocks, as where files were pasted one after the other."""
    dice = random.Random(seed)
    sorts = [sort for sort in SORTS if sort != "all"]
    text = ""
    while len(text) < characters:
        text += written(dice.choice(sorts), dice.randint(500, characters // 6), seed=dice.randrange(1_000_000))
    return text[:characters]
