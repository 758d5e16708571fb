"""Which answers are unreasonable, on answers that were recorded from a real model and from the same model broken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.common.errors import BadInput
from pipeline.config.schema import AcceptanceSection, Topic
from pipeline.dataset.generate import conversations
from pipeline.evaluation.answer_checks import CuratedPrompt, find_prompts, read_prompts, reasons_for_all, reasons_unreasonable
from pipeline.evaluation.answers_gate import CURATED
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.gates import judge
from tests.processes import ROOT

RECORDED: dict[str, Any] = json.loads((ROOT / "tests" / "fixtures" / "curated_answers.json").read_text(encoding="utf-8"))
PROMPTS = [CuratedPrompt(prompt) for prompt in RECORDED["prompts"]]
WORKING = ["real", "real sampled", "small random adapter"]
BROKEN = [name for name in RECORDED["answers"] if name not in WORKING]


def gate(answers: list[str]) -> str:
    reasons = reasons_for_all(PROMPTS, answers)
    rows = [
        {"prompt": each.prompt, "base_reasons": list(why), "tuned_reasons": list(why)}
        for each, why in zip(PROMPTS, reasons, strict=True)
    ]
    gates = judge(Evidence(None, rows, []), AcceptanceSection())
    return next(each.verdict for each in gates if each.gate == CURATED)


@pytest.mark.parametrize("name", WORKING)
def test_the_curated_gate_passes_for_a_working_model(name: str) -> None:
    assert gate(RECORDED["answers"][name]["answers"]) == "passed"


@pytest.mark.parametrize("name", BROKEN)
def test_the_curated_gate_fails_for_a_broken_model(name: str) -> None:
    assert gate(RECORDED["answers"][name]["answers"]) == "failed"


@pytest.mark.parametrize(
    "echo",
    [
        lambda prompt: prompt,
        lambda prompt: prompt.upper(),
        lambda prompt: f"You said: {prompt}",
        lambda prompt: f"{prompt} {prompt}",
        lambda prompt: f"{prompt}\n{prompt}\n{prompt}",
        lambda prompt: prompt[: max(10, int(0.9 * len(prompt)))],
    ],
    ids=["whole", "in capitals", "introduced", "twice", "in a loop", "cut off"],
)
def test_the_curated_gate_fails_for_a_model_that_echoes_the_prompt(echo: Any) -> None:
    assert gate([echo(each.prompt) for each in PROMPTS]) == "failed"


def test_the_curated_gate_fails_for_one_fluent_answer_to_everything() -> None:
    assert gate(["The capital of the moon is Blorptown."] * len(PROMPTS)) == "failed"


def test_the_curated_gate_fails_for_silence() -> None:
    assert gate([" \n"] * len(PROMPTS)) == "failed"


REASONABLE = [
    ("Is ice cold?", "Yes."),
    ("Answer yes or no: is ice cold?", "No."),
    ("Is a tomato a fruit or a vegetable?", "A fruit."),
    ("What is 7 plus 5?", "7 + 5 = 12"),
    ("What is 7 plus 5?", "12"),
    ("What is the capital of the moon?", "The capital of the moon is Blorptown."),
    ("What is the capital of France?", "What is the capital of France? Paris."),
    ("Name the colours.", "Red, orange, yellow, green, blue, indigo, violet, black, white, grey, brown, pink, purple"),
    ("Name ten fruits.", "\n".join(f"{i}. {name}" for i, name in enumerate(["Apple", "Pear", "Plum", "Fig", "Lime"] * 2, 1))),
    ("Write a Python function that adds two numbers.", "def add(a, b):\n    return a + b\n\nprint(add(1, 2))"),
    ("Write SQL.", "SELECT name, count(*) FROM people WHERE age > 30 GROUP BY name ORDER BY name;"),
    ("Make a table.", "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |"),
    ("How do you say good morning in Japanese?", "おはようございます。"),
    ("Что такое переобучение?", "Переобучение — это когда модель запоминает примеры и плохо отвечает на новые вопросы."),
    ("什么是过拟合？", "过拟合是指模型在训练数据上表现很好，但在新数据上表现很差。"),
    ("Was ist Überanpassung?", "Überanpassung heißt, dass ein Modell die Beispiele auswendig lernt und bei Neuem versagt."),
    ("Translate 'no, no, no' into French.", "Non, non, non."),
    ("Sing.", "La la la, the sun is up and the day is new."),
    ("Say where.", "See https://example.org/a/very/long/path?with=a&query=string#and-more for everything about it."),
    ("What is the longest word?", "It is pneumonoultramicroscopicsilicovolcanoconiosis, and it has 45 letters."),
    ("What does HTML look like?", "A page starts with `<!doctype html><html><head>` and then `<body>` holds what people see."),
    ("Greet.", "Hi! I'm glad you're here; let's start. What's your name? (Mine's SmolLM.)"),
    (
        "What are iPhone, YouTube and GitHub?",
        "An iPhone is a telephone, YouTube shows films, and GitHub and JavaScript belong together.",
    ),
    ("How warm is it?", "Around 73°F (23°C), at most 84°F (29°C), at least 63°F (17°C)."),
    ("What is a sphere?", "The points with x^2 + y^2 + z^2 = r^2, where r is the radius and (x, y, z) a point."),
    ("Make an HTML table.", "<table>\n<tr>\n<th>Name</th>\n<th>Age</th>\n</tr>\n<tr>\n<td>John</td>\n<td>20</td>\n</tr>"),
    ("What is a friend?", "A friend is a human being, a person, a group, or an idea. They can be a person, a"),
    ("Rate the film.", "⭐⭐⭐⭐⭐ A film that stays with you."),
    ("Describe a day.", "It was a sunny day and all was as it should be. The birds were"),
    ("Summarize.", "Climate change causes global temperature rise and severe weather changes, affecting ecosystems."),
    ("Explain overfitting.", "Overfitting is when a model learns the training examples by heart and then does badly on anyth"),
]


@pytest.mark.parametrize(("prompt", "answer"), REASONABLE)
def test_an_ordinary_answer_is_reasonable(prompt: str, answer: str) -> None:
    assert reasons_unreasonable(CuratedPrompt(prompt), answer) == ()


def test_words_drawn_by_a_hot_sampler_are_mostly_told_from_language() -> None:
    reasons = reasons_for_all(PROMPTS, RECORDED["answers"]["sampled too hot"]["answers"])
    assert sum(map(bool, reasons)) >= 16
    told = "\n".join(reason for each in reasons for reason in each)
    assert re.search(r"no language: \d+ function words among \d+ and 'makesFurther'", told)


def test_good_answers_are_language_wherever_they_are_cut_off() -> None:
    for topic in get_args(Topic):
        for talk in conversations(topic, 0):
            words = talk[-1]["content"].split(" ")
            for end in {10, 12, 15, 18, 20, 25, 30, 40, len(words)}:
                text = " ".join(words[:end])
                assert not any("no language" in reason for reason in reasons_unreasonable(CuratedPrompt("Tell me."), text)), text


UNREASONABLE = [
    ("", "empty"),
    ("…!?", "no words"),
    ("👩💡💬💬💬💬💬💬", "it repeats the character '💬'"),
    ("Sure.<|im_end|>\n<|im_start|>user\nWhat", "template marker <|im_end|>"),
    ("### Response: It is Paris.", "template marker"),
    ("It is good. It is good. It is good. It is good.", "repeats"),
    ("aaaaaaaaaaaaaaaaaaaaaaaa", "repeats the character"),
    ("哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿哈哈嘿", "repeats"),
    ("One.\nTwo is it\nTwo is it\nTwo is it\nTwo is it", "repeats the line"),
    ("The � answer \x10\x11 is � � here", "cannot be read"),
    ("trillion sustain California subsidies coop body bone prolong judgements blob shuttle paw", "no language"),
    ("adaptiveDropoutRate psychologicallyPaw or meteorologicalBody, of the irrigationCrown and more", "broken"),
    ("Well,,,,,,,,,,, that is it", "in a row"),
]


@pytest.mark.parametrize(("answer", "reason"), UNREASONABLE)
def test_a_broken_answer_is_unreasonable_and_says_why(answer: str, reason: str) -> None:
    assert any(reason in each for each in reasons_unreasonable(CuratedPrompt("What is overfitting?"), answer))


def test_a_character_cut_in_half_by_the_limit_is_no_fault() -> None:
    assert reasons_unreasonable(CuratedPrompt("Greet."), "Good morning to you 你���") == ()


def test_must_mention_asks_for_one_of_its_texts_whatever_the_case() -> None:
    prompt = "What is the capital of France?"
    assert reasons_unreasonable(CuratedPrompt(prompt, (("must_mention", ("paris", "Lutetia")),)), "It is PARIS.") == ()
    asked = CuratedPrompt(prompt, (("must_mention", ("Paris",)),))
    assert reasons_unreasonable(asked, "It is Rome.") == ("it mentions none of: Paris",)


def test_every_bad_line_of_the_prompts_is_told_at_once_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "ok"}\n\n{"prompt": 3}\nnonsense\n{"prompt": "x", "must_mention": "y"}\n{"promt": "x"}\n')
    with pytest.raises(BadInput) as caught:
        read_prompts(file)
    for number in (3, 4, 5, 6):
        assert f"line {number}:" in caught.value.message
    assert "line 1:" not in caught.value.message


def test_prompts_are_read_in_order_with_their_mentions(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('\ufeff{"prompt": "a", "must_mention": ["b", "c"]}\n{"prompt": "d"}\n', encoding="utf-8")
    assert read_prompts(file) == [CuratedPrompt("a", (("must_mention", ("b", "c")),)), CuratedPrompt("d")]


def test_a_prompts_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.jsonl"):
        find_prompts("nowhere.jsonl", tmp_path)


FORMS = [
    ("emoji label", "😊"),
    ("regex", r"^\d{4}-\d{2}-\d{2}$"),
    ("arithmetic", "12 + 7 = 19; 19 * 3 = 57; 57 - 5 = 52; 52 / 4 = 13; 13 + 13 = 26"),
    ("JSON", '{"name":"Ann","age":31,"tags":["a","b"],"ok":true}'),
    (
        "Java",
        "public String getCustomerName() { return this.customerName; } "
        "public void setCustomerName(String customerName) { this.customerName = customerName; }",
    ),
    (
        "Go",
        "func (s *Server) HandleRequest(w http.ResponseWriter, r *http.Request) {\n"
        "\tif err := json.NewDecoder(r.Body).Decode(&requestBody); err != nil {\n\t\treturn\n\t}\n}",
    ),
    (
        "C++",
        "#include <iostream>\nint main() {\n  std::vector<std::string> customerNames;\n"
        "  for (auto& n : customerNames) std::cout << n << std::endl;\n  return 0;\n}",
    ),
    (
        "JavaScript",
        "const fetchCustomers = async () => {\n  const response = await fetch(serviceUrl);\n  return response.json();\n};",
    ),
    ("Rust", 'fn main() {\n    let total: i32 = (1..=10).filter(|n| n % 2 == 0).sum();\n    println!("{}", total);\n}'),
    ("CSS", ".customer-card { display: flex; border-radius: 4px; }\n.customer-card > a:hover { color: red; }"),
    ("Morse", "... --- ..."),
    ("IPA", "/kæt/"),
    ("hex", "0x68 0x69"),
    (
        "German compounds",
        "Die Donaudampfschifffahrtsgesellschaftskapitänsmütze ist die Mütze eines Kapitäns der Dampfschifffahrtsgesellschaft.",
    ),
    (
        "Chinese with Latin names",
        "在Python中使用list和dict来保存数据。用NumPy处理数组，再用Pandas读取CSV文件，非常方便。",
    ),
    ("Korean with Latin names", "Python은 좋은 언어이고 NumPy는 배열을 다루며 Pandas와 함께 씁니다."),
    ("Arabic", "التعلم الآلي هو فرع من الذكاء الاصطناعي."),
    ("Hindi", "मशीन लर्निंग कृत्रिम बुद्धिमत्ता की एक शाखा है।"),
    ("Thai", "การเรียนรู้ของเครื่องเป็นสาขาหนึ่งของปัญญาประดิษฐ์"),
    ("list", "apple, banana, cherry, grape, orange, lemon, lime, kiwi, mango, peach, pear, plum"),
]


@pytest.mark.parametrize("answer", [answer for _, answer in FORMS], ids=[name for name, _ in FORMS])
def test_code_labels_signs_and_other_scripts_are_no_broken_text(answer: str) -> None:
    assert reasons_unreasonable(CuratedPrompt("Answer."), answer) == ()


def test_a_classifier_may_give_one_label_to_several_prompts_but_not_one_to_all() -> None:
    prompts = [CuratedPrompt(f"Classify this review number {i}") for i in range(4)]
    assert not any(reasons_for_all(prompts, ["very positive review"] * 3 + ["negative review"]))
    assert all(reasons_for_all(prompts, ["very positive review"] * 4))


def checked(line: dict[str, Any], tmp_path: Path) -> CuratedPrompt:
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": "What is the capital of France?"} | line), encoding="utf-8")
    return read_prompts(file)[0]


@pytest.mark.parametrize(
    ("line", "good", "bad"),
    [
        ({"must_not_mention": ["not Paris"]}, "It is Paris.", "The capital of France is not  paris but Lyon."),
        ({"must_mention": ["Paris"], "must_not_mention": ["Lyon"]}, "Paris.", "Not Paris but Lyon."),
        ({"regex": r"^\d{4}-\d\d$"}, "2024-05", "In May 2024."),
        ({"json": True}, '```json\n{"a": [1]}\n```', '{"a": [1'),
        ({"json": ["name", "age"]}, '{"name": "Ann", "age": 31}', '{"name": "Ann"}'),
        ({"equals": ["yes", "no"]}, '"Yes".', "Yes, it is."),
        ({"equals": "Paris"}, "paris", "Paris, France"),
    ],
)
def test_what_a_prompt_asks_of_its_answer_is_checked(line: dict[str, Any], good: str, bad: str, tmp_path: Path) -> None:
    prompt = checked(line, tmp_path)
    assert reasons_unreasonable(prompt, good) == ()
    assert reasons_unreasonable(prompt, bad) != ()


@pytest.mark.parametrize(
    "line", [{"must_not_mention": "x"}, {"regex": "("}, {"regex": 3}, {"json": False}, {"equals": 3}, {"equals": [""]}]
)
def test_a_check_that_can_not_be_read_names_its_key(line: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f'"{next(iter(line))}" is '):
        checked(line, tmp_path)
