"""Is this answer equal to that one? Exact, fast, and never hanging.

>>> answer = extract_answer(r"so the sum is \\boxed{1,024}")
>>> grade(answer, "1024").status.value
'correct'

Most answers are decided in this process by :func:`quick_equal`. The others go to math-verify in a small pool of child
processes, each started when first needed. :mod:`verl_efficiency.grading.grade` tells the order of the decisions. Importing this
package loads neither sympy nor torch.
"""

from verl_efficiency.grading.extract import (
    Box,
    extract_answer,
    extract_boxed,
    require_marker,
)
from verl_efficiency.grading.grade import Status, Verdict, grade, grade_async, grade_batch
from verl_efficiency.grading.pool import GradingError, PoolSettings, configure, shutdown
from verl_efficiency.grading.quick import quick_equal
from verl_efficiency.grading.turn import drop_thinking, opens_thinking, without_end_tokens

__all__ = [
    "Box",
    "GradingError",
    "PoolSettings",
    "Status",
    "Verdict",
    "configure",
    "drop_thinking",
    "extract_answer",
    "extract_boxed",
    "grade",
    "grade_async",
    "grade_batch",
    "opens_thinking",
    "quick_equal",
    "require_marker",
    "shutdown",
    "without_end_tokens",
]
