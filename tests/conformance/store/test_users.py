"""Users and tokens: shown once, known by their hash alone, ended when revoked."""

import asyncio

import pytest
import sqlalchemy as sa

from squib.contracts.errors import NotFound
from squib.store import Store
from squib.store.database import parse
from tests.conformance.store.conftest import Desk


async def test_a_user_is_made_once(store: Store) -> None:
    made = await asyncio.gather(*(store.users.ensure("ada") for _ in range(5)))
    assert len(set(made)) == 1 and await store.users.ensure("bob") not in made


async def test_a_token_says_who_it_is_until_revoked(store: Store) -> None:
    ada, bob = await store.users.ensure("ada"), await store.users.ensure("bob")
    token_id, secret = await store.users.create_token(ada, "laptop")
    _, other = await store.users.create_token(bob, "laptop")
    assert await store.users.authenticate(secret) == ada and await store.users.authenticate(other) == bob
    for wrong in ("", secret[:-1], secret + "x", "\ud800", "' OR 1=1 --"):
        assert await store.users.authenticate(wrong) is None
    (shown,) = await store.users.list_tokens(ada)
    assert (shown.id, shown.name) == (token_id, "laptop") and shown.last_used is not None
    with pytest.raises(NotFound):
        await store.users.revoke(token_id, bob)
    await store.users.revoke(token_id, ada)
    assert await store.users.authenticate(secret) is None and await store.users.list_tokens(ada) == []
    with pytest.raises(NotFound):
        await store.users.create_token("usr-nobody", "x")


async def test_no_secret_is_in_the_database(desk: Desk) -> None:
    user = await desk.store.users.ensure("ada")
    _, secret = await desk.store.users.create_token(user, "laptop")
    await desk.store.users.authenticate(secret)
    engine = sa.create_engine(parse(desk.url))
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM tokens").all()
    engine.dispose()
    assert rows and secret not in str(rows) and secret.partition("_")[2] not in str(rows)
