"""Where the final answer of a response is."""

import gc
import time

import pytest

from verl_efficiency.grading import Box, drop_thinking, extract_answer, extract_boxed, without_end_tokens


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"It is \boxed{42}.", "42"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{2} and the draft \boxed{3", "2"),  # cut off: the last box that closes counts
        (r"\boxed{3", None),
        (r"\boxed{", None),
        (r"\boxed", None),
        (r"\boxed{}", None),
        (r"\boxed{  }", None),
        (r"\boxed 5", "5"),
        ("", None),
        ("42", None),
        (r"boxed{42}", None),
        (r"\boxedx{42}", None),
        (r"\boxed {42}", "42"),
        ("\\boxed\n{42}", "42"),
        (r"\fbox{42}", "42"),
        (r"\\boxed{42}", "42"),  # escaped twice, as in JSON
        (r"x \\ \boxed{42}", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),  # escaped braces are printed
        (r"\boxed{\{1,2}", r"\{1,2"),
        (r"\boxed{1\}}", r"1\}"),
        (r"} \boxed{4} {", "4"),
        (r"{ \boxed{4}", "4"),
        (r"\text{so \boxed{4}", "4"),
        (r"\boxed{ \boxed{4} }", "4"),
        (r"\boxed{\boxed{\boxed{4}}}", "4"),
        (r"\boxed{x = \boxed{4}}", r"x = \boxed{4}"),
        (r"\boxed{\boxed{3}\boxed{4}}", r"\boxed{3}\boxed{4}"),
        (r"\boxed{5 \boxed{3}", "3"),
        ("\\boxed{4\x00}", "4\x00"),
        ("\\boxed{\ud800}", "\ud800"),
    ],
)
def test_the_last_balanced_box(text, answer):
    assert extract_answer(text) == answer


def test_every_box_with_its_place():
    text = r"a \boxed{1} b \boxed{2 {\boxed{3}}} \boxed{4"
    boxes = extract_boxed(text)
    assert boxes == [Box(2, 11, "1"), Box(14, 35, r"2 {\boxed{3}}")]
    assert [text[box.start : box.end] for box in boxes] == [r"\boxed{1}", r"\boxed{2 {\boxed{3}}}"]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),  # the template opened the block in the prompt
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a <think> b</think>c", "c"),
        ("b<think>a", "b"),
        ("<think>a", ""),
        ("<think>a</think>b<think>c", "b"),
        ("b", "b"),
        ("", ""),
    ],
)
def test_thinking_is_dropped(text, rest):
    assert drop_thinking(text) == rest


def test_a_box_in_the_thinking_counts_only_when_thinking_is_kept():
    text = r"<think>perhaps \boxed{3}</think>I do not know."
    assert extract_answer(text, strip_thinking=True) is None
    assert extract_answer(text) == "3"
    assert extract_answer(r"<think>\boxed{3} or \boxed{5}</think>\boxed{4}", strip_thinking=True) == "4"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("6 * 7\n#### 42", "42"),
        ("#### 41\n#### 42\nThanks.", "42"),
        ("#### ", None),
        ("####\n42", "42"),
        ("no mark, 42", None),
    ],
)
def test_answer_after_a_marker(text, answer):
    assert extract_answer(text, marker="####") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer> 42 </answer>", "42"),
        ("<think><answer>41</answer></think><answer>\n$\\boxed{42}$\n</answer> done", "42"),
        ("<answer>42</answer>, as asked in <answer> tags", "42"),
        ("<answer>42</answer> <answer>43", "42"),  # the second was never given
        ("<answer>42", None),
        ("42</answer>", None),
        ("<answer></answer>", None),
        (r"\boxed{42}", None),
    ],
)
def test_answer_between_two_texts(text, answer):
    assert extract_answer(text, marker="<answer>…</answer>") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 42<|im_end|>", "42"),
        ("#### 42</s></s>", "42"),
        ("#### 42<|im_end|>\n<|im_start|>user", "42"),
        ("#### **42**<eos>", "42"),
        ("#### $\\boxed{42}$<｜end▁of▁sentence｜>", "42"),
        ("#### <|im_end|>", None),
        ("#### a</s>b", "a</s>b"),
        ("#### |x|", "|x|"),
        ("#### [4]", "[4]"),
        ("#### <|x|>", "<|x|>"),
    ],
)
def test_special_tokens_do_not_belong_to_a_marked_answer(text, answer):
    assert extract_answer(text, marker="####") == answer


@pytest.mark.parametrize(
    ("marker", "text", "answer"),
    [
        # markup around the answer
        *(
            ("Answer:", f"Answer: {text}", "42")
            for text in ("*42*", "_42_", "__42__", "`42`", "<b>42</b>", ": 42", "**42**.")
        ),
        *(
            ("Answer:", text, "42")
            for text in ("**Answer:** **42**", "**Answer: 42**.", "*Answer:* 42", "<b>Answer:</b> 42")
        ),
        ("Answer:", "**Answer**: 42", "42"),
        ("Answer:", "answer: 42", "42"),
        ("The answer is", "The answer is: 42", "42"),
        ("The answer is", "The answer is **42**.", "42"),
        ("The answer is", "The final answer: the answer is $42$. I hope it is correct.", "$42$"),
        ("<answer>…</answer>", "<Answer>\n```\n42\n```\n</Answer>", "42"),
        # the same signs as a part of the answer
        ("Answer:", "Answer: x^*", "x^*"),
        ("Answer:", "Answer: a*b*c", "a*b*c"),
        ("Answer:", "Answer: 42...", "42..."),
        ("Answer:", "Answer: ____", None),
        ("The answer is", "The answer is 42. No, it is 43", "42. No, it is 43"),
        # the next line
        ("Answer:", "Answer:\n\n$$42$$", "$$42$$"),
        ("Answer:", "**Answer:**\n$$\n42\n$$", "42"),
        ("Answer:", "Answer:\n\\[\n42\n\\]", "42"),
        ("Answer:", "Answer:\n\n", None),
        ("Answer:", "Answer:\n<|im_end|>\n43", None),
        # what stands on the line of a marker comes first, and so does the marker as it is written
        ("Answer:", "Answer: 42\nAnswer:\n43", "42"),
        ("Answer:", "Answer: 42\nanswer: 43", "42"),
        ("Answer:", "Answer:\n42\nanswer: 43", "42"),
        ("A:", "My idea: 42", None),
        ("The answer", "the answers: 42", None),
    ],
)
def test_markup_around_a_marked_answer(marker, text, answer):
    assert extract_answer(text, marker=marker) == answer


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("42<|im_end|>", "42"),
        ("42 \n<|eot_id|> \n", "42"),
        ("42[PAD][PAD]</s>", "42"),
        ("</s>", ""),
        ("42</s> so", "42</s> so"),
        ("42 \n", "42 \n"),
        ("42 [1]", "42 [1]"),
        ("a < b | c >", "a < b | c >"),
        ("42<b>", "42<b>"),
        ("", ""),
    ],
)
def test_special_tokens_at_the_end(text, rest):
    assert without_end_tokens(text) == rest


def test_only_the_end_of_a_long_text_is_read():
    assert extract_answer(r"\boxed{1}" + "x" * 100, max_chars=50) is None
    assert extract_answer("x" * 100 + r"\boxed{1}", max_chars=9) == "1"


@pytest.fixture
def no_garbage_collection():
    """Its time grows with what other tests have left in memory."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 14_000,
        "\\boxed{" * 14_000 + "}" * 14_000,
        "\\boxed{ " * 12_000 + " }" * 12_000,
        "{" * 100_000,
        "\\" * 100_000,
        "\\boxed" + " " * 100_000,
        ("\\boxed" + " " * 100) * 1_000,
        "\\boxed{1}" * 11_000,
        "<think>" * 14_000,
        "</think>" * 14_000,
        "$\\boxed\\frac{1}{2}$ " * 5_000,
        "\\boxed\\text{" * 8_000,
        "\\boxed{1} and \\boxed{" * 5_000,
        "</s>" * 25_000,
        "</s> " * 20_000 + "x",
        "</s>\n" * 20_000,
        "</s>" + "$$ *" * 25_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_time_grows_linearly_with_the_text(text, no_garbage_collection):
    """Four times the text may take eight times as long, but not sixteen. A busy machine gets five tries."""

    def seconds(part: str) -> float:
        times = []
        for _ in range(3):
            gc.collect()
            started = time.process_time()
            extract_boxed(part)
            extract_answer(part, strip_thinking=True)
            extract_answer(part, marker="and")
            extract_answer(part, marker="</s>")
            without_end_tokens(part)
            times.append(time.process_time() - started)
        return min(times)

    quarter = text[: len(text) // 4]
    assert any(seconds(text) < 8 * seconds(quarter) + 0.02 for _ in range(5))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("#### 41\n#### 42", "42"),
        (r"#### $\boxed{42}$", "42"),
        (r"\boxed{41}" + "\n#### 42", "42"),
        ("#### 42\n" + r"\boxed{41}", "42"),
        ("#### **42**", "42"),
        ("**#### 42**", "42"),
        ("####", None),
        ("#### **", None),
        ("####\n42", "42"),
        (r"\boxed{42}", None),
    ],
)
def test_what_follows_a_marker(text, answer):
    assert extract_answer(text, marker="####") == answer
