"""Reads what `keygate demo -o json` says, and reports steps."""

import json
import os
import subprocess
import sys
import urllib.request

# The authority that the environment names, if it does: as OpenSSL takes it from there by itself, for programs that ask certifi.
TRUSTED = os.environ.get("SSL_CERT_FILE")
if TRUSTED:
    try:
        import certifi
    except ImportError:
        pass
    else:
        certifi.where = lambda: TRUSTED


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


def play(url):
    """What ffprobe and ffmpeg make of a playlist, given nothing but its URL: seconds by the playlist, and seconds that were decoded."""
    trust = ["-tls_verify", "1", "-ca_file", TRUSTED] if TRUSTED else []
    probe = ["ffprobe", "-v", "error", *trust, "-show_entries", "format=duration", "-of", "csv=p=0", url]
    seconds = float(run(probe))
    decoded = run(["ffmpeg", "-v", "error", *trust, "-i", url, "-map", "0:a", "-f", "s16le", "-ac", "1", "-ar", "8000", "-"])
    return seconds, len(decoded) / 2 / 8000


def run(command):
    """What a program writes; ends the script with its complaint when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        # It may repeat URLs with what is in them; a test's keys die with the test.
        step(command[0], False, done.stderr.decode(errors="replace")[-600:])
    return done.stdout


def fetch(url, headers=None):
    """Status and body of a GET, as a media player sends it."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=20) as answer:
        return answer.status, answer.read()
