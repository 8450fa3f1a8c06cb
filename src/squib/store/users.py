"""Users and their tokens. A token is 256 random bits, shown once; the table holds its SHA-256.

Plain SHA-256 is right here: a slow, salted hash protects secrets that can be guessed, and 2^256 cannot. The look-up
goes by the hash, so that how long it takes says nothing about the token that was tried.
"""

import hashlib
import time
from dataclasses import dataclass

import sqlalchemy as sa

from squib.contracts import ids
from squib.contracts.errors import NotFound
from squib.store import encode
from squib.store.database import Database, Tx
from squib.store.tables import tokens, users

_CACHED = 5.0  # seconds that another process's revocation may take to be noticed here
_MAX_CACHED = 10_000
_STAMP = 60.0  # seconds that `last_used` may lag


@dataclass(frozen=True, slots=True)
class Token:
    """A token as a list shows it: never its secret."""

    id: str
    name: str
    created_at: float
    last_used: float | None  # seconds since 1970, at most a minute behind


class Users:
    """Who may come in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[str, float]] = {}

    async def ensure(self, name: str) -> str:
        """The id of the user of this name, who is made where absent."""
        encode.check_text("name", name)

        def work(tx: Tx) -> str:
            query = sa.select(users.c.id).where(users.c.name == name)
            if (known := tx.execute(query).scalar_one_or_none()) is not None:
                return str(known)
            if tx.postgres:
                tx.connection.exec_driver_sql("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
                if (known := tx.execute(query).scalar_one_or_none()) is not None:
                    return str(known)
            user_id = ids.new_id("usr")
            tx.execute(users.insert().values(id=user_id, name=name, created_at=time.time()))
            return user_id

        return await self._database.write(work, repeatable=True)

    async def create_token(self, user_id: str, name: str) -> tuple[str, str]:
        """Mint a token; its id and its secret, which nothing keeps. Raises NotFound for an unknown user."""
        encode.check_text("name", name)
        token_id, secret = ids.new_id("tok"), ids.new_token()
        values = {"id": token_id, "user_id": user_id, "name": name, "hash": _hash(secret), "created_at": time.time()}

        def work(tx: Tx) -> None:
            if tx.execute(sa.select(users.c.id).where(users.c.id == user_id)).one_or_none() is None:
                raise NotFound("there is no such user")
            tx.execute(tokens.insert().values(values))

        await self._database.write(work)
        return token_id, secret

    async def authenticate(self, secret: str) -> str | None:
        """The id of the user whose token this is, None where it is nobody's. Remembered for five seconds."""
        digest, now = _hash(secret), time.monotonic()
        known = self._known.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        query = sa.select(tokens.c.id, tokens.c.user_id, tokens.c.last_used).where(tokens.c.hash == digest)
        found = await self._database.read(lambda tx: tx.execute(query).one_or_none())
        if found is None:
            self._known.pop(digest, None)
            return None
        if (found.last_used or 0.0) < time.time() - _STAMP:
            stamp = tokens.update().where(tokens.c.id == found.id).values(last_used=time.time())
            await self._database.write(lambda tx: tx.execute(stamp).rowcount, repeatable=True)
        if len(self._known) >= _MAX_CACHED:
            self._known.clear()
        self._known[digest] = (found.user_id, now + _CACHED)
        return str(found.user_id)

    async def list_tokens(self, user_id: str) -> list[Token]:
        """The user's tokens, oldest first."""
        query = sa.select(tokens).where(tokens.c.user_id == user_id).order_by(tokens.c.id)
        found = await self._database.read(lambda tx: tx.execute(query).all())
        return [Token(row.id, row.name, row.created_at, row.last_used) for row in found]

    async def revoke(self, token_id: str, user_id: str) -> None:
        """End a token: here at once, in other processes within five seconds. Raises NotFound."""
        if not ids.is_id(token_id, "tok"):
            raise NotFound("there is no such token")
        delete = tokens.delete().where(tokens.c.id == token_id, tokens.c.user_id == user_id)
        gone = await self._database.write(lambda tx: tx.execute(delete).rowcount)
        self._known.clear()
        if not gone:
            raise NotFound("there is no such token")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
