"""Refusals by state: asking again at once changes nothing, unlike after a lost race."""

from indaco_common.errors import Conflict, Invalid

RETRY_AFTER_S = 10.0  # INDIGO's clients read the header of every 409


class WrongState(Conflict):
    """What is asked for does not fit the present state; it may later."""

    code, title, retryable = "wrong-state", "The present state does not allow this", False

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after_s=RETRY_AFTER_S)


class KeyReused(Invalid):
    """An idempotency key stands for one request; this is another."""

    status, code, title = 422, "idempotency-key-reused", "Idempotency key reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used for another request; take a new key")
