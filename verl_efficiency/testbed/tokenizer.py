"""The tokenizer: one token per character, and one for each fixed piece of text in a pack or an answer."""

from transformers import Qwen2Tokenizer

PIECES = ("### Problem ", "Answer", "::", "\\boxed{")
PAD, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# No role names: the letters of "user" are labels of the tasks.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def build_tokenizer(characters: str) -> Qwen2Tokenizer:
    r"""Build the tokenizer of a task; it survives ``save_pretrained`` and ``AutoTokenizer.from_pretrained``.

    It has tokens for the line break and ``characters`` only; transformers silently drops all other characters.

    >>> tokenizer = build_tokenizer("01f.+=}")
    >>> tokenizer.apply_chat_template([{"role": "user", "content": "0f1."}], add_generation_prompt=True, tokenize=False)
    '<|im_start|>0f1.<|im_end|>\n<|im_start|>'
    >>> tokenizer.tokenize("0f1+0=1\\boxed{1}")
    ['0', 'f', '1', '+', '0', '=', '1', '\\boxed{', '1', '}']
    """
    # transformers always loads this class as byte-level, where a line break is spelt "Ċ".
    alphabet = ["Ċ", *characters]
    tokenizer = Qwen2Tokenizer(
        vocab={character: index for index, character in enumerate(alphabet)},
        merges=[],
        unk_token=None,  # type: ignore[arg-type]  # its default is the end of text
        eos_token=IM_END,
        pad_token=PAD,
        extra_special_tokens=[IM_START],
        padding_side="left",
    )
    tokenizer.add_tokens(list(PIECES))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
