"""Prints plain values as YAML that reads back as the same values."""

import re

import yaml

# Line breaks of YAML 1.1 that only double quotes keep as they are.
_ODD_BREAKS = frozenset("\r\x85\u2028\u2029")


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if not _ODD_BREAKS.isdisjoint(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\.?[0-9]|0[ox])[0-9a-fA-F.]*(?:[eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def print_yaml(value: object) -> str:
    """Print plain values as YAML in block style; `parse_document` reads the same values back."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    assert isinstance(text, str)
    return text
