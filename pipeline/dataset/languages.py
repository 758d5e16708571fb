"""Which language a text is in, told by its script and its commonest words, or not told.

Not py3langid or lingua: they name a language for every text (`SELECT * FROM t` is Hungarian, `Paris.` Afrikaans), where a data
set is full of code, numbers and single words; and a model of 4 to 100 MB is much for a line of a report. What is told here is one
of the languages below or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_MOST = 2000  # characters that are looked at
_FEWEST_WORDS = 5
_FEWEST_HITS = 3
_LEAST_SHARE = 0.08  # of the words, that are among a language's commonest
_WORDS = re.compile(r"[^\W\d_]+")
# Scripts that stand for a language, by ranges of characters; one with several languages is told apart below.
_SCRIPTS: Mapping[str, re.Pattern[str]] = {
    "Japanese": re.compile("[\u3040-\u30ff]"),
    "Korean": re.compile("[\uac00-\ud7af\u1100-\u11ff]"),
    "Chinese": re.compile("[\u4e00-\u9fff]"),
    "Ukrainian": re.compile("[іїєґІЇЄҐ]"),
    "Russian": re.compile("[\u0400-\u04ff]"),
    "Persian": re.compile("[پچژگ]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Hindi": re.compile("[\u0900-\u097f]"),
    "Bengali": re.compile("[\u0980-\u09ff]"),
    "Tamil": re.compile("[\u0b80-\u0bff]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
}
# Of two in one script the first is told by letters of its own among letters of the second: so many of a hundred.
_WITHIN = {"Japanese": "Chinese", "Ukrainian": "Russian", "Persian": "Arabic"}
_LEAST_OF_OWN = 0.02
_COMMONEST: Mapping[str, frozenset[str]] = {
    name: frozenset(word for word in words.split() if len(word) > 1)
    for name, words in {
        "English": "the of and to in is that it for you was on are with as be this have from or at by not but what all were when"
        " your can there their an which how will if about has its",
        "German": "der die und das ist nicht ein eine ich zu den mit sie von es auf für dem im des auch sich wie wird oder einen"
        " einer bei kann aber werden als nach wenn sind aus",
        "French": "le la les de des et est un une que en pour dans qui du pas au ce il elle sur avec par vous sont plus ou mais"
        " nous cette être aux",
        "Spanish": "el la los las de que y en un una es por con para no se su al lo como más pero sus le ya del este entre está"
        " muy son puede",
        "Italian": "il la di che e un una è per con non in del della le si da sono come più anche dei gli nel alla questo ma lo"
        " delle essere",
        "Portuguese": "o a os as de que e em um uma é para com não se por do da no na mais como mas ao dos das ou são você está"
        " pode seu sua",
        "Dutch": "de het een en van is dat op te in niet met voor zijn aan er ook maar om je wordt door deze bij als naar of uit",
        "Swedish": "och att det som en är på för av med den till inte har jag ett om kan du så men var från eller när vi också",
        "Danish": "og at det som en er på for af med den til ikke har jeg et om kan du så men fra eller når vi også der de",
        "Polish": "i w nie na się z że jest do to jak o co ale za po od są dla przez lub może czy tak już który która",
        "Czech": "a se na je že to v s z do i o jako jsou pro ale by který nebo tak jeho být může také které při",
        "Turkish": "bir ve bu için ile da de çok olarak daha ne gibi olan kadar var değil ama en sonra ya veya mi her",
        "Romanian": "și de la în a cu pe este nu o că un din care pentru mai se sau sunt ce ca fi prin dar le cum",
        "Hungarian": "a az és hogy nem is egy van ez meg de ha mint csak már vagy azt el volt lehet minden még",
        "Finnish": "ja on ei se että en mutta oli hän joka kun niin ovat tai myös kuin mitä voi sekä ole ne tämä",
        "Vietnamese": "và là của có không cho được trong một các với những này người khi để đã từ như về",
        "Indonesian": "yang dan di untuk dengan ini itu dari dalam tidak adalah pada akan atau dapat juga ke sebagai oleh bisa",
    }.items()
}  # fmt: skip


def language_of(text: str) -> str:
    """The language's English name; "" where it is not told: too little is said, or it is code, numbers, another language."""
    text = text[:_MOST]
    words = _WORDS.findall(text)
    letters = sum(map(len, words))
    if not letters:
        return ""
    if not text.isascii() and (found := _by_script("".join(words), letters)):
        return found
    return _by_words([word.lower() for word in words])


def _by_script(text: str, letters: int) -> str:
    shares = {name: len(pattern.findall(text)) / letters for name, pattern in _SCRIPTS.items()}
    for name, share in shares.items():
        within = _WITHIN.get(name, name)
        if share >= _LEAST_OF_OWN and (share + shares[within] if within != name else share) > 1 / 2:
            return name
    return ""


def _by_words(words: list[str]) -> str:
    if len(words) < _FEWEST_WORDS:
        return ""
    hits = {name: sum(word in common for word in words) for name, common in _COMMONEST.items()}
    best, second = sorted(hits, key=lambda name: -hits[name])[:2]
    enough = hits[best] >= _FEWEST_HITS and hits[best] >= _LEAST_SHARE * len(words)
    return best if enough and hits[best] > hits[second] else ""
