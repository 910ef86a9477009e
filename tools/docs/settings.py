"""The settings, from `monolith.settings.Settings`."""

from __future__ import annotations

from monolith.settings import Settings
from monolith.settings_loading import CONFIG_FILE, CONFIG_VARIABLE, right_value, variable
from tools.docs.markdown import code, page, table

_RULES = f"""Later wins: default, file, environment, command line. The file is TOML with the names of the first
column: the one that `{CONFIG_VARIABLE}` names, else `{CONFIG_FILE}` in the current folder. An empty
variable counts as not set; a name that is no setting, in the file or the environment, is an error that
names the closest one. `video-analysis settings` shows every value with its origin."""


def settings_page() -> str:
    fields = Settings.model_fields
    rows = [
        (code(name), code(variable(name)), _default(field.default), field.description, right_value(name))
        for name, field in fields.items()
    ]
    head = ("in the file", "in the environment", "default", "what it is", "what it takes")
    return page("Settings", "`monolith.settings.Settings`", [_RULES, table(head, rows)])


def _default(value: object) -> str:
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(value) if value not in ("", ()) else "none"
