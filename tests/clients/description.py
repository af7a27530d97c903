"""Reads what `keygate demo -o json` says, and reports steps."""

import json
import sys
import urllib.request


def upstream(kind):
    """The first upstream of a kind, as (gateway_url, key)."""
    source = open(sys.argv[1], encoding="utf-8") if len(sys.argv) > 1 else sys.stdin
    with source:
        described = json.load(source)["upstreams"]
    found = next(one for one in described if one["kind"] == kind)
    return found["gateway_url"].rstrip("/"), found["key"]


def step(name, is_right, seen=None):
    """Prints one line; ends the program when something is wrong."""
    print(f"{'ok  ' if is_right else 'FAIL'} {name}" + ("" if seen is None else f": {seen}"), flush=True)
    if not is_right:
        sys.exit(1)


def fetch(url, headers=None):
    """Status and body of a GET, as a media player sends it."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as answer:
        return answer.status, answer.read()
