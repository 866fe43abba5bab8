"""May this token charge here, now?"""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer about a token, in 2.x words (AuthorizationStatusEnumType).

    `status` is Accepted, Blocked, Expired, Unknown or ConcurrentTx. 1.6 says Invalid for Unknown.
    """

    status: str
    token_id: int | None = None
    group: str = ""  # parentIdTag, groupIdToken
    expires_at: datetime | None = None
    language: str = ""

    @property
    def accepted(self) -> bool:
        """Tell whether energy may flow."""
        return self.status == "Accepted"


@dataclass(frozen=True, slots=True)
class Request:
    """A token shown at a station. `session_id`: the session it is for, which does not count."""

    token_uid: str
    token_type: str = ""
    station_id: int | None = None
    session_id: int | None = None
