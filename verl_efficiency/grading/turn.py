"""What surrounds the answer in a model's turn: its thinking, and special tokens."""

import re

# A special token: "<|im_end|>", "</s>", "[PAD]".
_SPECIAL = (
    r"<\|\w{3,40}\|>|<｜[^｜<>\s]{1,40}｜>|</?s>|<(?:eos|bos|pad|unk|eot|eod|(?:end|start)_of_turn)>"
    r"|\[(?:PAD|EOS|BOS|SEP|CLS)\]"
)
_LAST = re.compile(rf"(?:{_SPECIAL})\Z", re.IGNORECASE)
_FIRST = re.compile(rf"(?:\s*(?:{_SPECIAL}))+", re.IGNORECASE)
_MAX_SPECIAL = 64  # characters of a special token


def drop_thinking(text: str) -> str:
    """The text outside of the thinking: what follows the last ``</think>``, up to the next ``<think>``.

    A response truncated inside its thinking yields the text before ``<think>``. If the chat template opened the block in the
    prompt and the response never closes it, the text contains no tag and is returned unchanged.

    >>> drop_thinking("<think>maybe 3</think>It is 4.")
    'It is 4.'
    """
    return text[text.rfind("</think>") + len("</think>") if "</think>" in text else 0 :].split("<think>", 1)[0]


def opens_thinking(prompt: str) -> bool:
    r"""Whether the response to a prompt begins inside the thinking, because the chat template has opened the block.

    Only a ``<think>`` at the very end counts; one in a question or an instruction does not.

    >>> opens_thinking("<|im_start|>assistant\n<think>\n"), opens_thinking("Think inside <think> tags. <|im_start|>assistant")
    (True, False)
    """
    return prompt.rstrip().endswith("<think>")


def without_end_tokens(text: str) -> str:
    r"""``text`` without the special tokens at its end, for places that have no tokenizer to skip them.

    A special token is recognised by its form: ``<|name|>`` (three characters or more), ``<｜name｜>``, ``<s>``, ``</s>``,
    ``<eos>``, ``<bos>``, ``<pad>``, ``<unk>``, ``<eot>``, ``<eod>``, ``<end_of_turn>``, ``<start_of_turn>``, ``[PAD]``,
    ``[EOS]``, ``[BOS]``, ``[SEP]``, ``[CLS]``. Blanks before and between them are removed too. Special tokens elsewhere
    stay, so a text that mentions ``</s>`` is not cut.

    >>> [without_end_tokens(text) for text in ("42<|im_end|>\n<|endoftext|>", "42</s>[PAD]", "</s> 42\n")]
    ['42', '42', '</s> 42\n']
    """
    end = len(text)
    while True:
        last = end
        while last and text[last - 1].isspace():
            last -= 1
        found = _LAST.search(text, max(0, last - _MAX_SPECIAL), last)
        if not found:
            return text if end == len(text) else text[:last]
        end = found.start()


def without_start_tokens(text: str) -> str:
    """``text`` without the special tokens at its start, see :func:`without_end_tokens`.

    >>> without_start_tokens("[PAD][PAD]<s>What is 2+2?")
    'What is 2+2?'
    """
    return text[found.end() :] if (found := _FIRST.match(text)) else text
