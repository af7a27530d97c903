"""In a network and a mount namespace of its own: the root of the image, the gateway in it, and the questions that its users ask."""

import json
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

UID = 10001
NAME = "media-server"
DEVICES = ["null", "random", "urandom"]
CONFIG = """
[[upstream]]
kind = "audiobookshelf"
url = "http://{name}:{port}"
[server]
listen = ["[::]:8443"]
tls = "self-signed"
"""


def name_server():
    """Says of every name that it is 127.0.0.1, and has no other address."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        is_a = struct.unpack(">H", query[end - 4 : end - 2])[0] == 1
        head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, int(is_a), 0, 0)
        answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + bytes([127, 0, 0, 1]) if is_a else b""
        server.sendto(head + query[12:end] + answer, client)


def build(root, program):
    """The last stage of the container file, with the folders that it names."""
    text = pathlib.Path("deploy/container/Containerfile").read_text()
    last = text[text.index("\nFROM scratch") :]
    assert f"USER {UID}:{UID}" in last and "RUN" not in last, "the last stage is not what this script knows"
    for folder in ["usr/bin", "etc/ssl/certs", "etc/keygate", "var/lib/keygate", "run/keygate", "tmp"]:
        assert f"/root-of-image/{folder}" in text, folder
        (root / folder).mkdir(parents=True)
    for line in re.findall(r"printf '(.*)' > /root-of-image/(.*?) ", text):
        (root / line[1]).write_text(line[0].replace("\\n", "\n"))
    shutil.copy(program, root / "usr/bin/keygate")
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs/")
    # What engines add.
    (root / "dev").mkdir()
    for device in DEVICES:
        (root / "dev" / device).touch()
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    health = json.loads(re.search(r"HEALTHCHECK .* CMD (\[.*\])", last)[1])
    start = json.loads(re.search(r"ENTRYPOINT (\[.*\])", last)[1]) + json.loads(re.search(r"\nCMD (\[.*\])", last)[1])
    return start, health


def main():
    program = sys.argv[1]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    threading.Thread(target=name_server, daemon=True).start()
    demo = subprocess.Popen([program, "demo", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    upstream = json.loads(demo.stdout.readline())["upstreams"][0]["upstream_url"]

    root = pathlib.Path(sys.argv[2])
    root.chmod(0o755)
    start, health = build(root, program)
    (root / "etc/keygate/config.toml").write_text(CONFIG.format(name=NAME, port=upstream.rsplit(":", 1)[1]))
    (root / "etc/keygate/config.toml").chmod(0o644)
    subprocess.run(["mount", "--bind", root, root], check=True)
    for folder in ["var/lib/keygate", "run/keygate"]:
        options = f"uid={UID},gid={UID},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", root / folder], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", root], check=True)
    for device in DEVICES:
        subprocess.run(["mount", "--bind", f"/dev/{device}", root / "dev" / device], check=True)
    assert not os.access(root / "tmp", os.W_OK), "the root is not read-only"

    def inside(command, **rest):
        def enter():
            os.chroot(root)
            os.chdir("/")
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
        return subprocess.Popen(command, preexec_fn=enter, env={"PATH": "/usr/bin"}, text=True, **rest)

    def ask(*command, text=None):
        process = inside(["/usr/bin/keygate", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        printed, _ = process.communicate(text, timeout=60)
        assert process.returncode == 0, command
        return printed

    gateway = inside(start)
    for _ in range(200):
        if inside(health, stderr=subprocess.DEVNULL).wait() == 0:
            break
        assert gateway.poll() is None, "the gateway ended"
        time.sleep(0.1)
    else:
        sys.exit("the health check never became 0")
    ask("accounts", "add", "alice", "--secret-stdin", text="alice-password")
    key = ask("keys", "create", "phone", "--account", "alice", "--quiet").strip()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as ca:
        ca.write(ask("tls", "ca"))
        ca.flush()
        url = "https://localhost:8443/api/libraries"
        curl = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert", ca.name, url]
        seen = [subprocess.check_output([*curl, *more], text=True) for more in [[], ["-H", f"Authorization: Bearer {key}"]]]
    assert seen == ["401", "200"], seen
    gateway.terminate()
    assert gateway.wait(timeout=60) == 0, "it did not stop as it should"
    assert inside(health, stderr=subprocess.DEVNULL).wait() == 1, "healthy after its end"
    demo.terminate()
    demo.wait()
    print("the root of the image is good")


main()
