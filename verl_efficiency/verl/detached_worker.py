"""The actor's worker with a self-teacher for ``efficiency_separate_async``."""

from verl.experimental.separation.engine_workers import DetachActorWorker

from verl_efficiency.verl.worker import DistillationWorker


class DetachedDistillationWorker(DistillationWorker, DetachActorWorker):
    """Both: the teacher, and verl's way to put the actor's weights aside and to restore them. The teacher's are not touched."""
