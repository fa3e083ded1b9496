r"""Answers with words in them: several quantities, quantities in parts, units, scales, qualifiers, conditions.

Every verdict here is written by hand, and holds with answer and reference swapped.
"""

import pytest

from verl_efficiency.grading import PoolSettings, Status, configure, grade, shutdown
from verl_efficiency.grading.clean import spell_out
from verl_efficiency.grading.quantities import compare_quantities
from verl_efficiency.grading.read_quantities import read_quantities
from verl_efficiency.grading.words import units_named


@pytest.fixture(autouse=True, scope="module")
def pool():
    configure(PoolSettings(workers=1))
    yield
    shutdown()


EVEN_ODD = r"3 \text{ if } n \text{ is even}, 4 \text{ if } n \text{ is odd}"
SEVERAL_RIGHT = [
    ("15, 3", r"15\text{ km/h}, 3\text{ km/h}"),
    ("3, 15", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"15 \text{ km/h and } 3 \text{ km/h}", r"15\text{ km/h}, 3\text{ km/h}"),
    ("3 km/h and 15 km/h", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"15 \text{ and } 3 \text{ km/h}", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"(15 \text{ km/h}, 3 \text{ km/h})", "(15, 3)"),
    (r"\{3 \text{ cm}, 15 \text{ cm}\}", r"15 \text{ cm}, 3\text{ cm}"),
    (r"4 \text{ m}, 30 \text{ cm}", r"400 \text{ cm}, 0.3 \text{ m}"),
    (r"x = 3\text{ cm}, y = 5 \text{ cm}", "x = 3, y = 5"),
    (r"\frac{\sqrt{8}}{2}\text{ cm and } \sqrt{3}\text{ cm}", r"\sqrt{2}\text{ cm}, \sqrt{3}\text{ cm}"),
    (r"\sqrt{2}\text{ cm}, \sqrt{3}\text{ cm}", r"\sqrt{3}, \sqrt{2}"),
    ("5 dogs and 3 cats", r"3 \text{ cats}, 5 \text{ dogs}"),
    ("3 and 5", r"3 \text{ cats}, 5 \text{ dogs}"),
    (r"\text{Bob: } 5, \text{ Alice: } 3", r"\text{Alice: } 3, \text{ Bob: } 5"),
    (r"30^\circ\text{N}, 40^\circ\text{W}", r"30^\circ\text{ N}, 40^\circ\text{ W}"),
    (r"4 \text{ if } n \text{ is odd}, 3 \text{ if } n \text{ is even}", EVEN_ODD),
    (r"3 \text{ for even } n \text{ and } 4 \text{ for odd } n", EVEN_ODD),
    (r"3 \text{ if } x>0, 4 \text{ otherwise}", r"3 \text{ for } x>0 \text{ and } 4 \text{ otherwise}"),
    (
        r"1+n \text{ for odd } n, n^2 \text{ for even } n",
        r"n^2 \text{ if } n \text{ is even}, n+1 \text{ if } n \text{ is odd}",
    ),
    ("2 hours 30 minutes", r"2\text{ h } 30\text{ min}"),
    (r"2 \text{ hours and } 30 \text{ minutes}", r"2\text{ h } 30\text{ min}"),
    (r"150 \text{ minutes}", r"2\text{ h } 30\text{ min}"),
    (r"2.5 \text{ hours}", r"2\text{ h } 30\text{ min}"),
    ("150", r"2\text{ h } 30\text{ min}"),
    ("2.5", r"2\text{ h } 30\text{ min}"),
    (r"1 \text{ h } 90 \text{ min}", r"2\text{ h } 30\text{ min}"),
    (r"5 \text{ ft } 10 \text{ in}", r"70 \text{ inches}"),
    (r"5 \text{ m}, 5 \text{ cm}", r"505 \text{ cm}"),
    ("3 weeks and 2 days", r"23 \text{ days}"),
    ("1 dollar and 50 cents", r"\$1.50"),
    (r"30^\circ 15'", r"30.25^\circ"),
    (r"[0, 5] \text{ seconds}", "[0,5]"),
    (r"(2,-1) \text{ meters}", "(2,-1)"),
    (r"\pm 5 \text{ cm}", "5, -5"),
    (r"\{3 \text{ cm}, 4 \text{ cm}\}", r"\{3, 4\}"),
    (r"2^{n-1} \text{ for } n \geq 1", r"\frac{2^n}{2}"),
    (r"3 \text{ if } x \geq 2", r"3 \text{ when } x \ge 2"),
    (r"3 + x \text{ blah } 5 \text{ foo}", r"x+3 \text{ blah } 5 \text{ foo}"),
]
SEVERAL_WRONG = [
    ("15", r"15\text{ km/h}, 3\text{ km/h}"),
    ("3", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"15\text{ km/h}, 4\text{ km/h}", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"15\text{ km/h}, 3\text{ m/h}", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"15\text{ km/h}, 15\text{ km/h}", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"15\text{ km/h}, 3\text{ km/h}, 7\text{ km/h}", r"15\text{ km/h}, 3\text{ km/h}"),
    (r"(3 \text{ km/h}, 15 \text{ km/h})", "(15, 3)"),
    (r"\sqrt{2}\text{ cm}", r"\sqrt{2}\text{ cm}, \sqrt{3}\text{ cm}"),
    (r"x = 3\text{ cm}, y = 6 \text{ cm}", r"x = 3\text{ cm}, y = 5\text{ cm}"),
    ("3 cats, 5 dogs", "5 cats, 3 dogs"),
    ("5, 3", r"3 \text{ cats}, 5 \text{ dogs}"),
    ("3 cats", r"3 \text{ cats}, 5 \text{ dogs}"),
    (r"\text{Alice: } 3, \text{ Bob: } 5", r"\text{Bob: } 3, \text{ Alice: } 5"),
    ("3", r"\text{Alice: } 3, \text{ Bob: } 5"),
    (r"30^\circ\text{ N}, 40^\circ\text{ W}", r"30^\circ\text{ N}, 40^\circ\text{ E}"),
    (r"30^\circ, 60^\circ", r"30^\circ"),
    ("3", EVEN_ODD),
    ("3, 4", EVEN_ODD),
    (r"3 \text{ if } n \text{ is odd}, 4 \text{ if } n \text{ is even}", EVEN_ODD),
    (r"3 \text{ if } n \text{ is even}, 5 \text{ if } n \text{ is odd}", EVEN_ODD),
    (r"3 \text{ if } x>0, 4 \text{ otherwise}", r"4 \text{ if } x>0, 3 \text{ otherwise}"),
    (
        r"n \text{ if } n \text{ is even}, n+1 \text{ if } n \text{ is odd}",
        r"n^2 \text{ if } n \text{ is even}, n+1 \text{ if } n \text{ is odd}",
    ),
    (r"3 \text{ if } x > 2", r"3 \text{ if } x < 2"),
    (r"2\text{ h } 15\text{ min}", r"2\text{ h } 30\text{ min}"),
    ("2", r"2\text{ h } 30\text{ min}"),
    ("30", r"2\text{ h } 30\text{ min}"),
    ("230", r"2\text{ h } 30\text{ min}"),
    ("2.3", r"2\text{ h } 30\text{ min}"),
    (r"2 \text{ h}, 30 \text{ min}", r"2\text{ h}"),
    (r"5 \text{ feet } 11 \text{ inches}", r"5 \text{ ft } 10 \text{ in}"),
    (r"5 \text{ cm}, 5 \text{ m}", r"505 \text{ cm}"),
    (r"30^\circ 15'", r"30^\circ 20'"),
    (r"3 \text{ days or } 4 \text{ days}", r"3 \text{ days}"),
    (r"(2,-1) \text{ cm}", r"(2,-1) \text{ m}"),
    (r"5 \text{ cm}", r"\pm 5"),
    (r"3 \text{ inches by } 5 \text{ inches}", r"3 \text{ inches by } 4 \text{ inches}"),
    ("18 cups or 19 cups", "18 cups"),
    ("18 dollars 19 cents", "18"),
    ("3", r"3 + \text{ blah } 5 \text{ foo}"),
    (r"3 + \text{ blah } 4 \text{ foo}", r"3 + \text{ blah } 5 \text{ foo}"),
]
CHANGED_RIGHT = [
    (r"5\text{ million}", "5000000"),
    (r"5.2 \times 10^9", r"5.2\text{ billion}"),
    (r"5200 \text{ million}", r"5.2\text{ billion}"),
    (r"\$5 \text{ million}", r"5 \text{ million dollars}"),
    (r"\$5k", "5000"),
    (r"3 \text{ hundredths}", "0.03"),
    ("7:30 PM", r"7:30\text{ p.m.}"),
    ("7:30pm", r"7:30\text{ p.m.}"),
    ("7:30", r"7:30\text{ p.m.}"),
    ("19:30", r"7:30\text{ p.m.}"),
    (r"7:30\text{ in the evening}", r"7:30\text{ p.m.}"),
    ("8 a.m.", r"8:00 \text{ AM}"),
    ("30°N", r"30^\circ\text{ N}"),
    ("30° north", r"30^\circ\text{ N}"),
    (r"30^\circ", r"30^\circ\text{ E}"),
    (r"n \text{ is even}", r"n\text{ even}"),
    (r"20\% \text{ gain}", r"20\% \text{ profit}"),
    (r"20\%", r"20\% \text{ profit}"),
    (r"5\text{ m}", r"500\text{ cm}"),
    (r"5\text{ m}", "5"),
    ("5 cm", r"5 \text{ centimetres}"),
    (r"5\text{ centimeters}", r"5 \text{ centimetres}"),
    (r"5 \text{ hr}", r"5 \text{ hours}"),
    (r"864 \text{ square inches}", r"864 \mbox{ inches}^2"),
    ("15 cm²", r"15\mbox{ cm}^2"),
    (r"1500 \text{ mm}^2", r"15\mbox{ cm}^2"),
    (r"9.8 \text{ meters per second squared}", r"9.8 \mathrm{~m} / \mathrm{s}^{2}"),
    (r"9.8 \text{ m s}^{-2}", r"9.8 \mathrm{~m} / \mathrm{s}^{2}"),
    ("60 mph", r"60 \text{ miles per hour}"),
    (r"18 \text{ dollars per hour}", r"\$18"),
    (r"18 \text{ kg}\cdot\text{m}^2/\text{s}^2", r"18 \text{ J}"),
    (r"18 \mu\text{m}", r"18 \text{ micrometers}"),
    (r"\frac{\sqrt{3}}{20}\text{ m}", r"5\sqrt{3} \text{ centimeters}"),
    ("25¢", r"\$0.25"),
    ("£5", "5 pounds"),
    ("5 lb", "5 pounds"),
    (r"18 \text{ degrees}", r"18^\circ \text{C}"),
    ("18 students", "18 people"),
    (r"18 \text{ apples}", r"18 \text{ fruits}"),
    (r"18 \text{ cups}", r"18 \text{ boxes}"),
    ("216 eggs", r"18 \text{ dozen eggs}"),
    ("18 dozen", "18"),
    (r"50 \text{ percent}", "0.5"),
]
CHANGED_WRONG = [
    (r"5\text{ million}", r"5\text{ billion}"),
    ("5", r"5\text{ million}"),
    (r"\$5k", "5"),
    (r"3 \text{ hundred}", r"3 \text{ hundredths}"),
    (r"7:30\text{ a.m.}", r"7:30\text{ p.m.}"),
    ("19:30", r"7:30\text{ a.m.}"),
    (r"7:31\text{ p.m.}", r"7:30\text{ p.m.}"),
    (r"12:30 \text{ a.m.}", r"12:30 \text{ p.m.}"),
    (r"7:30\text{ a.m. on Monday}", r"7:30\text{ a.m. on Tuesday}"),
    (r"30^\circ\text{ N}", r"30^\circ\text{ S}"),
    ("30° west", r"30^\circ\text{ E}"),
    (r"25 \text{ km northeast}", r"25 \text{ km northwest}"),
    (r"90^\circ \text{ clockwise}", r"90^\circ \text{ counterclockwise}"),
    (r"n\text{ even}", r"n\text{ odd}"),
    (r"n \text{ is not even}", r"n\text{ is even}"),
    (r"n \text{ positive}", r"n \text{ negative}"),
    (r"20\% \text{ loss}", r"20\% \text{ profit}"),
    (r"3 \text{ boys}", r"3 \text{ girls}"),
    (r"\text{5 June}", r"\text{5 July}"),
    (r"5\text{ m}", r"5\text{ cm}"),
    ("5 m", "5 km"),
    ("5 kg", r"5\text{ m}"),
    (r"15 \text{ cm}", r"15\mbox{ cm}^2"),
    (r"15 \text{ mm}^2", r"15\mbox{ cm}^2"),
    (r"9.8 \text{ m/s}", r"9.8 \mathrm{~m} / \mathrm{s}^{2}"),
    ("60 km/h", "60 mph"),
    (r"2 \text{ mW}", r"2 \text{ MW}"),
    (r"18^\circ \text{F}", r"18^\circ \text{C}"),
    (r"300 \text{ K}", r"300^\circ\text{C}"),
    ("25¢", r"\$25"),
    ("€5", r"\$5"),
    (r"x = 5\text{ m}", r"5 \text{ cm}"),
    (r"5\sqrt{3}\text{ m}", r"5\sqrt{3} \text{ cm}"),
    (r"(x+1)^2 \text{ m}^2", r"x^2+2x+1 \text{ cm}^2"),
    ("18 eggs", r"18 \text{ dozen eggs}"),
    ("18 degrees below zero", "18"),
    (r"18 \text{ or more}", "18"),
    (r"\text{at least } 18 \text{ cups}", "18"),
]
# The number or unit is right, whatever the words beside it.
PLAIN_RIGHT = [
    *(
        (text, "18")
        for text in ("18 dollars", "18 cups", "18 miles per hour", "18 cm^2", "18 m/s", r"\text{18 dollars}", "18°C")
    ),
    *(
        (text, "500")
        for text in ("₹500", "Rs. 500", "Rs 500", r"\text{Rs. } 500", "INR 500", "500€", "USD 500", r"US\$500")
    ),
    *((text, "12") for text in (r"12^{\text{th}}", "12th", "12^{th}", r"12\text{th}", r"12^{\text{th}} \text{ floor}")),
    *((text, r"3\times10^8") for text in ("3 x 10^8", "3 X 10^{8}", "3 × 10^8", "3 x 10^8 m/s")),
    *((text, "-5") for text in ("–5", "—5", "‑5", "−5", "–5 meters")),
    ("18元", "18"),
    ("18个", "18"),
    ("5万元", "50000"),
    ("60千米/小时", "60 km/h"),
    ("2^{\\text{nd}}", "2"),
    ("18 cups of hot chocolate", "18"),
    ("12 people per row", "12"),
    ("5 years old", "5"),
    ("20 minutes longer", "20"),
    (r"\$18 per hour", "18"),
    (r"\$18/hour", "18"),
    (r"\$18 left", "18"),
    ("approximately 18.5", "18.5"),
    ("≈ 18.5", "18.5"),
    ("1,024 cups", "1024"),
    ("3/4 cup", "0.75"),
    ("1 1/2 cups", "1.5"),
    ("33.333333 cm", r"\frac{100}{3}"),
    ("2hrs", "2"),
    ("25 sq. ft.", r"25 \text{ ft}^2"),
    ("8 o'clock", "8"),
    ("12 square units", "12"),
    (r"5 \text{ ten-dollar bills}", "5"),
    ("(–5, 3)", "(-5,3)"),
    ("x – 5", "x-5"),
    ("2x cm", "2x"),
]
PLAIN_WRONG = [
    *(
        (f"18 {words}", "18")
        for words in ("million", "thirds", "tens", "pi", "squared", "and a half", "to 50", "over nineteen")
    ),
    *(
        (f"18 {words}", "18")
        for words in ("or nineteen", "not", "is wrong", "in base nine", "a half", "hundred", "negative")
    ),
    *(
        (f"18 cups {words}", "18")
        for words in ("or 19", "(or 19)", "19", "= 19", "+ 1", "- 2 cups", "rather nineteen", "19 cups")
    ),
    *((f"18 {letters}", "18") for letters in ("abc", "xyz", "sin", "RST")),
    *(
        (text, "18")
        for text in ("18–19", "18 × 10", "18^{19th}", "18th 19th", "1/18th", r"₹18 or ₹19", r"\$18 \$19", "18! cups")
    ),
    *((text, "18") for text in ("not 18 cups", r"\text{not } 18 \text{ cups}", "less than 18 cups", "minus 18 cups")),
    ("18–19", "-1"),
    ("–5", "5"),
    ("Rs. 501", "500"),
    ("13^{\\text{th}}", r"12^{\text{th}}"),
    ("3 x 10^7", r"3\times10^8"),
    ("5万", "5"),
    (r"2\mathrm{i}", "2"),
    ("eighteen cups", "19"),
]
# A name before the value, with a colon or an equality sign.
NAMED_RIGHT = [
    *(
        (rf"\text{{{name}}} = 42\text{{ {unit}}}", "42")
        for name, unit in (("Perimeter", "m"), ("time", "s"), ("Distance", "km"))
    ),
    (r"\text{Area} = 42 \text{ cm}^2", "42"),
    (r"\text{Area} = 42 \text{ cm}^2", r"42 \text{ cm}^2"),
    (r"\text{Area of the triangle} \approx 4.5 \text{ cm}^2", r"450 \text{ mm}^2"),
    (r"\text{Area} = 12\sqrt{3} \text{ cm}^2", r"12\sqrt{3}"),
    (r"\text{Speed: } 60 \text{ km/h}", "60"),
    (r"\text{Total cost: } \$42", "42"),
    (r"\text{Alice: } 5", r"\text{Alice} = 5"),
]
NAMED_WRONG = [
    (r"\text{Area} = 42 \text{ m}^2", r"42 \text{ cm}^2"),
    (r"\text{Area} = 43 \text{ cm}^2", "42"),
    (r"\text{Area} = 12\sqrt{2} \text{ cm}^2", r"12\sqrt{3}"),
    (r"\text{Area} = 42 \text{ cm}^2", r"\text{Perimeter} = 42 \text{ cm}^2"),
    (r"\text{Area} > 42", "42"),
    (r"\text{half of the area} = 42 \text{ cm}^2", "42"),
    (r"\text{maximum} = 42\text{ cm}", "42"),
    (r"\text{quarter of } 42", "42"),
    (r"\text{Bob: } 5", r"\text{Alice: } 5"),
    (r"\text{Length} = 5, \text{Width} = 3", "5"),
]
# Words that lead to the answer.
LED_TO_RIGHT = [
    *((text, "42") for text in ("Answer: 42", "The answer is 42", "The final answer is: 42", "So the answer is 42.")),
    *((text, "42") for text in ("There are 42 ways", "Final Answer: $42$", "Answer = 42", r"The answer is \(42\).")),
    *(
        (rf"\text{{{words}}} 42", "42")
        for words in ("Answer: ", "The answer is ", "Therefore, ", "Answer", "There are")
    ),
    (r"\text{There are } 42 \text{ ways}", "42"),
    (r"\text{The answer is 42}", "42"),
    (r"\text{Thus, the answer is } 42\text{ cm}", "42"),
    (r"\text{Answer: } \frac{1}{2}", "0.5"),
    ("The answer is x+1", "1+x"),
    ("The answer is yes", "yes"),
    ("There is no solution", r"\text{no solution}"),
]
LED_TO_WRONG = [
    *(
        (text, "42")
        for text in ("Answer: 43", "The answer is not 42", "The answer is 42 or 43", "There are no 42", "Answer:")
    ),
    *((text, "42") for text in ("The answer is 6 then 42", "There are 42 or 43 ways", "There are 4 2", "answer 42 43")),
    *((rf"\text{{{words}}} 42", "42") for words in ("The answer is not", "There are at least", "Answer: half of")),
    ("The answer is 5 @@ 7", "5"),
    ("The answer is C or D", "C"),
]


@pytest.mark.parametrize(("answer", "gold"), SEVERAL_RIGHT + CHANGED_RIGHT + PLAIN_RIGHT + NAMED_RIGHT + LED_TO_RIGHT)
def test_right(answer, gold):
    assert grade(answer, gold, deadline=20).status is Status.correct
    assert grade(gold, answer, deadline=20).status is Status.correct


@pytest.mark.parametrize(("answer", "gold"), SEVERAL_WRONG + CHANGED_WRONG + PLAIN_WRONG + NAMED_WRONG + LED_TO_WRONG)
def test_wrong(answer, gold):
    assert grade(answer, gold, deadline=20).status in (Status.wrong, Status.unparsable)
    assert grade(gold, answer, deadline=20).status in (Status.wrong, Status.unparsable)


@pytest.mark.parametrize(
    "text",
    [
        "x + 1",
        r"\frac{1}{2} + \frac{1}{3}",
        r"3 \text{ cm} + 2x",
        "2 \\sin 30^\\circ",
        r"\text{east}",
        "2abc",
        "5 cm^99",
    ],
)
def test_what_is_no_quantity_is_left_to_math_verify(text):
    reading = read_quantities(text)
    assert reading is None or not reading.worded
    assert compare_quantities(text, "7x") == (None, text, "7x")


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("21st", "21"),
        ("11st", "11st"),  # not an ordinal
        ("x^{th}", "x^{th}"),
        ("1/2nd", "1/2nd"),
        ("10–20", "10–20"),  # a range
        ("3 x 10^8", r"3 \times 10^8"),
    ],
)
def test_spelling(text, spelled):
    assert spell_out(text).replace(" ", "") == spelled.replace(" ", "")


@pytest.mark.parametrize(
    ("answer", "gold", "correct"),
    [
        (r"5 \text{ m/s} = 18 \text{ km/h}", "5", True),
        (r"5 \text{ m/s} = 18 \text{ km/h}", "18", True),
        (r"5 \text{ m/s} = 18 \text{ km/h}", r"18 \text{ m/s}", False),
        (r"5 \text{ m/s} = 19 \text{ km/h}", "19", False),
        ("1009 cups = 2003", "2003", False),
        ("1009 cups = 2003", "1009", False),
        (r"1009 \text{ cm} \equiv 2003 \text{ cm}", "2003", False),
        (r"1009° \approx 2003°", "1009", False),
        (r"\frac{20}{3} \text{ cm} \approx 6.67 \text{ cm}", r"\frac{20}{3}", True),
        (r"x = 5 \text{ cm}", "5", True),
        (r"x = 5 \text{ cm} = 0.05 \text{ m}", "x", False),
        *(
            (text, gold, True)
            for text in (r"\frac{3}{4} = 75\%", r"0.75 = 75\%", "P = 3/4 = 75%")
            for gold in ("0.75", r"75\%")
        ),
        (r"\frac{3}{4} = 75\%", "75", True),
        (r"\frac{1}{3} \approx 33.3\%", "1/3", True),
        (r"\frac{1}{20} = 5 \text{ percent}", "0.05", True),
        (r"\frac{3}{4} = 70\%", "0.75", False),
        (r"\frac{3}{4} = 70\%", r"70\%", False),
        (r"\frac{3}{4} = 0.75\%", "0.75", False),
        (r"\frac{3}{4} = 75\%", "0.74", False),
        (r"50\% = 50", "50", False),
    ],
)
def test_sides_that_differ_are_two_answers(answer, gold, correct):
    assert grade(answer, gold, deadline=20).correct is correct


def test_a_word_may_name_several_units():
    assert {unit.dimension for unit in units_named("pounds")} == {(("g", 1),), (("GBP", 1),)}
    assert units_named("kilometre") == units_named("km") == units_named("KM")
    assert units_named("mW") != units_named("MW")
    assert units_named("widgets") == ()
