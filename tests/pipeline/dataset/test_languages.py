"""A language is told where it is one, and nothing is told of code, numbers and single words."""

from __future__ import annotations

import pytest

from pipeline.dataset.languages import language_of

SAID = {
    "English": "How do I get from the station to the museum, and what does it cost?",
    "German": "Wie komme ich vom Bahnhof zum Museum, und was kostet es für eine Familie mit zwei Kindern?",
    "French": "Comment aller de la gare au musée, et combien est-ce que cela coûte pour une famille ?",
    "Spanish": "¿Cómo se llega de la estación al museo y cuánto cuesta para una familia con dos niños?",
    "Italian": "Come si va dalla stazione al museo e quanto costa per una famiglia con due figli?",
    "Portuguese": "Como é que se vai da estação para o museu e quanto custa para uma família com dois filhos?",
    "Dutch": "Hoe kom ik van het station naar het museum, en wat kost het voor een gezin met twee kinderen?",
    "Swedish": "Hur kommer jag från stationen till museet, och vad kostar det för en familj med två barn?",
    "Danish": "Hvordan kommer jeg fra stationen til museet, og hvad koster det for en familie med to børn?",
    "Polish": "Jak dojechać z dworca do muzeum i ile to kosztuje dla rodziny, która nie ma biletów?",
    "Czech": "Jak se dostanu z nádraží do muzea a kolik to stojí pro rodinu, která je na výletě?",
    "Turkish": "İstasyondan müzeye nasıl gidilir ve bu bir aile için ne kadar tutar?",
    "Romanian": "Cum ajung de la gară la muzeu și cât este pentru o familie cu doi copii care nu are bilete?",
    "Hungarian": "Hogyan jutok el a pályaudvarról a múzeumba, és mennyibe kerül ez egy családnak, ha nem szombat van?",
    "Finnish": "Miten pääsen asemalta museoon ja mitä se maksaa, kun perhe on suuri, tai onko se kallis?",
    "Vietnamese": "Làm thế nào để đi từ nhà ga đến bảo tàng và giá vé cho một gia đình là bao nhiêu?",
    "Indonesian": "Bagaimana cara pergi dari stasiun ke museum dan berapa biaya untuk keluarga dengan dua anak yang kecil?",
    "Russian": "Как пройти от вокзала к музею?",
    "Ukrainian": "Як пройти від вокзалу до музею і скільки це коштує?",
    "Chinese": "从车站到博物馆怎么走？",
    "Japanese": "駅から博物館までどうやって行きますか。",
    "Korean": "역에서 박물관까지 어떻게 가나요?",
    "Arabic": "كيف أصل من المحطة إلى المتحف؟",
    "Persian": "چگونه از ایستگاه به موزه بروم؟",
    "Greek": "Πώς πάω από τον σταθμό στο μουσείο;",
    "Hindi": "स्टेशन से संग्रहालय कैसे जाएँ?",
    "Thai": "จากสถานีไปพิพิธภัณฑ์ยังไง",
}


@pytest.mark.parametrize("language", SAID)
def test_a_language_is_told(language: str) -> None:
    assert language_of(SAID[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "", "42", "Paris.", "SELECT name FROM users WHERE age > 3 ORDER BY age;", "def f(x):\n    return x + 1",
        '{"name": "weather", "arguments": {"city": "Rome"}}', "y = a * b + c", "🙂🙂🙂", "Zq xw vv kk pp rr tt",
    ],
)  # fmt: skip
def test_code_numbers_and_single_words_are_in_no_language(text: str) -> None:
    assert language_of(text) == ""


def test_a_name_in_another_script_does_not_change_a_language() -> None:
    assert language_of(f"{SAID['English']} The sign says 博物館.") == "English"
