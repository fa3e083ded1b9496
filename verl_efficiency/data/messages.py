"""Prompts as verl and chat templates read them: a list of messages, each with a role and a content."""

import json
from collections.abc import Mapping
from typing import Any

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def prompt_problem(prompt: Any) -> str | None:
    """Why ``prompt`` is not a list of messages, or None. The text continues "the prompt of row 3 …".

    >>> prompt_problem([{"role": "user", "content": "1+1?"}]) is None
    True
    >>> prompt_problem("1+1?")
    "is a text, not a list of messages such as {role: user, content: …}: '1+1?'"
    """
    shown = repr(prompt)[:80]
    if prompt is None:
        return "is missing (null)"
    if isinstance(prompt, str):
        return f"is a text, not a list of messages such as {{role: user, content: …}}: {shown}"
    messages = list(prompt) if isinstance(prompt, list | tuple) or hasattr(prompt, "tolist") else []
    if not messages or not all(isinstance(message, Mapping) for message in messages):
        return f"is not a list of messages such as {{role: user, content: …}}: {shown}"
    for message in messages:
        if "from" in message and "value" in message and message.get("role") is None:
            return f"has messages with from and value instead of role and content: {shown}"
        has_content = isinstance(message.get("content"), str | list) or bool(message.get("tool_calls"))
        if not isinstance(message.get("role"), str) or not has_content:
            return f"has a message without a role and a content: {dict(message)!r}"[:160]
    return None


def to_messages(prompt: Any) -> list[dict[str, Any]]:
    """The messages of a prompt: a text becomes a user message, and ``from``/``value`` become ``role``/``content``.

    Raises:
        ValueError: it is none of these; the message is that of :func:`prompt_problem`.

    >>> to_messages("1+1?"), to_messages([{"from": "human", "value": "1+1?"}])
    ([{'role': 'user', 'content': '1+1?'}], [{'role': 'user', 'content': '1+1?'}])
    """
    if isinstance(prompt, str):
        prompt = _written_as_json(prompt) or [{"role": "user", "content": prompt}]
    if isinstance(prompt, list | tuple) and all(isinstance(message, Mapping) for message in prompt):
        prompt = [_renamed(message) for message in prompt]
    if problem := prompt_problem(prompt):
        raise ValueError(problem)
    return [dict(message) for message in prompt]


def _written_as_json(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("[{"):
        return None
    try:
        return json.loads(text)
    except ValueError:  # a question may begin like this
        return None


def _renamed(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if message.get("role") is None and message.get("from") in _ROLES and "value" in message:
        return {"role": _ROLES[message["from"]], "content": message["value"]}
    return message
