"""Attacks on files: what may be read, and what may be written."""

from __future__ import annotations

import os
import tempfile

from tunesmith.sandbox.attacks import SMALL, Attack, command
from tunesmith.sandbox.attacks.prey import Prey
from tunesmith.sandbox.limits import MIB, Outcome


def _no_folder_left(_: Outcome, __: Prey) -> str | None:
    left = [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("tunesmith-sandbox-")]
    return f"{len(left)} working folders are left" if left else None


def _nothing_known(outcome: Outcome, prey: Prey) -> str | None:
    return "a secret came back" if prey.secret.encode() in (outcome.collected or b"") + outcome.stdout else None


WRITE = """
for folder in {folders}:
    try:
        for number in range({files}):
            with open(os.path.join(folder, "f%d" % number), "wb") as stream:
                stream.write(bytes({size}))
        escaped("wrote it all to " + folder)
    except OSError as error:
        print(folder, error)
"""

ATTACKS = [
    Attack(
        "read a token file",
        """
for path in (prey["file"], prey["home"] + "/.netrc", prey["home"] + "/.cache/huggingface/token"):
    try:
        if known(open(path).read()):
            escaped(path)
    except OSError as error:
        print(error)
""",
        canary=True,
    ),
    Attack(
        "read the starter's environment variables from its own",
        "for value in os.environ.values():\n    if known(value):\n        escaped()\n",
        canary=True,
    ),
    Attack(
        "read environment and arguments of every process",
        """
try:
    names = os.listdir("/proc")
except OSError:
    names = [str(n) for n in range(1, 2000)]
for name in [*names, str(prey["parent"]), str(prey["victim"])]:
    for what in ("environ", "cmdline", "stat", "maps"):
        try:
            data = open("/proc/%s/%s" % (name, what), "rb").read()
        except (OSError, ValueError):
            continue
        if known(data):
            escaped(what)
            break
""",
        canary=True,
    ),
    Attack(
        "read what the machine is: users, kernel arguments, mounts",
        """
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/proc/cmdline", "/proc/kallsyms", "/proc/1/mountinfo",
             "/proc/kcore", "/sys/class/net", "/run", "/root", "/home"):
    try:
        found = os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(100)
        if found and path not in ("/proc/1/mountinfo", "/root", "/proc/kallsyms"):
            escaped(path)
    except OSError as error:
        print(error)
""",
        canary=True,
    ),
    Attack(
        "inherit an open descriptor",
        """
for number in range(3, 1024):
    try:
        os.set_blocking(number, False)
        if known(os.read(number, 4096)):
            escaped(number)
    except OSError:
        pass
""",
    ),
    Attack(
        "find tests in the working folder",
        "print(os.listdir('.')) if os.getcwd() != '/' else 0\n"
        "if os.getcwd() != '/' and os.listdir('.'):\n    escaped(os.listdir('.'))\n",
    ),
    Attack(
        "write to the host",
        """
for path in ("/var/tmp/tunesmith-attack", prey["folder"] + "/x", prey["file"], "/usr/tunesmith-attack",
             "/dev/tunesmith-attack", "/proc/self/oom_score_adj", "/proc/sys/kernel/hostname", "/tunesmith-attack",
             "/var/tunesmith-attack", "/run/tunesmith-attack", prey["home"] + "/tunesmith-attack"):
    try:
        with open(path, "w") as stream:
            stream.write("0")
        if not path.startswith(("/proc/self/oom", "/tmp/", "/dev/shm/")):  # these two are its own
            escaped(path)
    except OSError as error:
        print(error)
try:
    os.truncate(prey["file"], 0)
    escaped()
except OSError as error:
    print(error)
""",
    ),
    Attack(
        "change modes, owners, times and attributes of the user's files",
        """
for act in (lambda: os.chmod(prey["file"], 0o777), lambda: os.chown(prey["file"], os.getuid(), -1),
            lambda: os.utime(prey["file"]), lambda: os.setxattr(prey["file"], "user.x", b"1"),
            lambda: os.rename(prey["file"], prey["file"] + "2"), lambda: os.unlink(prey["file"]),
            lambda: os.link(prey["file"], prey["folder"] + "/hard"), lambda: os.mkdir(prey["folder"] + "/d")):
    try:
        act()
        escaped()
    except OSError as error:
        print(error)
""",
    ),
    Attack(
        "plant a module that the user's Python imports",
        """
import sysconfig
homes = {prey["home"], prey["folder"], os.path.expanduser("~"), os.environ.get("HOME", "/nowhere")}
places = [os.path.join(home, ".local/lib/python3.11/site-packages") for home in homes]
for place in [*places, sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")]:
    try:
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, "usercustomize.py"), "w") as stream:
            stream.write("")
        if not place.startswith(("/tmp/", "/dev/shm/")):
            escaped(place)
    except OSError as error:
        print(error)
""",
    ),
    Attack(
        "use devices, of the graphics card too",
        """
for path in [*prey["devices"], "/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/mem", "/dev/kmsg", "/dev/kvm"]:
    if path in ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/full") or "/std" in path:
        continue
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        escaped(path)
    except OSError:
        pass
""",
    ),
    Attack("write one file of 100 MB", WRITE.format(folders="('.', '/tmp', '/dev/shm')", files=1, size=100_000_000)),
    Attack(
        "fill the disk or the memory with many files",
        WRITE.format(folders="('.', '/tmp', '/dev/shm', '/var/tmp')", files=20, size=10_000_000),
        endings=("ok", "output_limit"),
    ),
    Attack(
        "fill the working folder of a compiler",
        command(WRITE.format(folders="('.',)", files=20, size=10_000_000)),
        endings=("ok", "output_limit"),
        limits=SMALL,
        judge=_no_folder_left,
    ),
    Attack(
        "leave a folder that cannot be removed",
        command(
            """
for number in range(600):
    try:
        os.mkdir("d")
        os.chdir("d")
    except OSError as error:
        print(error)
        break
try:
    open("a\\nb\\x1b[2J", "w").close()
    os.chmod(".", 0)
    os.chmod("..", 0)
except OSError as error:
    print(error)
"""
        ),
        limits=SMALL,
        judge=_no_folder_left,
    ),
    Attack(
        "give back a link to a file of the user",
        command(
            """
for act in (os.symlink, os.link):
    try:
        act(prey["file"], "result")
        break
    except OSError as error:
        print(error)
else:
    open("result", "w").close()
""",
            collect="result",
        ),
        endings=("ok", "runtime_error"),
        limits=SMALL,
        judge=_nothing_known,
    ),
    Attack(
        "swap the result for a link while it is read",
        command(
            """
if os.fork() == 0:
    end = time.time() + 3
    while time.time() < end:
        for act in (lambda: open("result", "w").close(), lambda: os.unlink("result"),
                    lambda: os.symlink(prey["file"], "result"), lambda: os.unlink("result")):
            try:
                act()
            except OSError:
                pass
else:
    time.sleep(0.2)
""",
            collect="result",
        ),
        endings=("ok", "runtime_error"),
        limits=SMALL,
        judge=_nothing_known,
    ),
    Attack(
        "give back a file that is too long",
        command(
            f"stream = open('result', 'wb')\nfor _ in range(15):\n    stream.write(bytes({MIB}))\n", collect="result"
        ),
        endings=("ok", "output_limit"),
        limits=SMALL,
        judge=lambda outcome, _: "it came back" if len(outcome.collected or b"") > SMALL.report else None,
    ),
]
