from __future__ import annotations

from monolith.access.scopes import Scope, allows, ordered


def test_scopes_are_independent_but_for_admin() -> None:
    assert allows([Scope.READ], Scope.READ)
    assert not allows([Scope.READ], Scope.WRITE)
    assert not allows([Scope.WRITE], Scope.READ)
    assert not allows([Scope.READ, Scope.WRITE], Scope.ADMIN)
    assert all(allows([Scope.ADMIN], scope) for scope in Scope)


def test_scopes_in_order_without_repeats() -> None:
    assert ordered([Scope.ADMIN, Scope.READ, Scope.ADMIN]) == (Scope.READ, Scope.ADMIN)
