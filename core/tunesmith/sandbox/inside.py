"""Runs first in a sandbox: gives up what it may, says that it is ready, and becomes the program.

Its text is handed to a fresh interpreter together with a request; nothing here is imported from tunesmith, and the
less it imports at all the faster every program starts. There are no secrets in this process: the program shares it.
"""

import os
import sys

TYPE_CHECKING = False  # typing itself takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import Any

SYS_LANDLOCK = 444
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 36, 38, 22


def main(request: "dict[str, Any]") -> None:
    """Prepare, and become the program that the request asks for. Returns when a Python program has ended."""
    report = request["report"]
    os.close(request["self"])
    give_up(request)
    files = request["files"]
    for name, content in files.items():
        with open(name, "wb") as stream:
            stream.write(content)
    if request["landlock"] is not None:
        landlock(request["landlock"])
    os.write(report, b"ready\n")
    if request["collect"]:
        collecting(request, report)
    become(request, report)


def give_up(request: "dict[str, Any]") -> None:
    """The user id of root, and whatever is above the limits."""
    import resource

    if request["uid"] is not None:
        os.setgroups([])
        os.setresgid(*[request["uid"]] * 3)
        os.setresuid(*[request["uid"]] * 3)
    for name, soft, hard in request["limits"]:
        kind = getattr(resource, "RLIMIT_" + name)
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            hard = most if hard == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def system(name: str, *values: "Any") -> int:
    """A function of the C library. Raises `OSError` where it fails."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    result = int(getattr(libc, name)(*values))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def prctl(option: int, *values: int) -> None:
    """Set something of this process."""
    import ctypes

    system("prctl", option, *[ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]])


def landlock(rules: "dict[str, Any]") -> None:
    """Fork into the program and a parent that adopts its orphans; the program shuts itself in."""
    prctl(PR_SET_PDEATHSIG, 9)
    if os.getppid() != rules["parent"]:
        os._exit(1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    above = os.getpid()
    child = os.fork()
    if child:
        os.closerange(0, 1024)
        end_as(child)
    prctl(PR_SET_PDEATHSIG, 9)
    if os.getppid() != above:
        os._exit(1)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    restrict(rules)


def restrict(rules: "dict[str, Any]") -> None:
    """Put the rules and the filter in force, for good."""
    import ctypes

    size = len(rules["attributes"])
    ruleset = system("syscall", SYS_LANDLOCK, ctypes.create_string_buffer(rules["attributes"], size), size, 0)
    for path, allowed in rules["paths"]:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = allowed.to_bytes(8, "little") + opened.to_bytes(4, "little")
        system("syscall", SYS_LANDLOCK + 1, ruleset, 1, ctypes.create_string_buffer(rule, len(rule)), 0)
        os.close(opened)
    system("syscall", SYS_LANDLOCK + 2, ruleset, 0)
    os.close(ruleset)
    code = ctypes.create_string_buffer(rules["filter"], len(rules["filter"]))
    program = (ctypes.c_uint64 * 2)(len(rules["filter"]) // 8, ctypes.addressof(code))
    system("prctl", PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0)


def end_as(child: int) -> None:
    """Wait for a child and end as it did."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(128 - code if code < 0 else code)


def collecting(request: "dict[str, Any]", report: int) -> None:
    """Run the program as a child, send back the file that it leaves, and end as it did."""
    child = os.fork()
    if not child:
        become(request, report)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        opened = os.open(request["collect"], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        left = os.fstat(opened).st_size
        os.write(report, b"file %d\n" % left)
        while left > 0:
            left -= os.sendfile(report, opened, None, left) or left
    os._exit(128 - code if code < 0 else code)


def become(request: "dict[str, Any]", report: int) -> None:
    """Turn into the program."""
    if request["argv"]:
        binary = request["binary"]
        for private in (report, binary):
            if private is not None:
                os.set_inheritable(private, False)
        os.execve(request["argv"][0] if binary is None else binary, request["argv"], request["env"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[:] = ["main.py"]
    sys.path.extend(request["path"])
    space = sys.modules["__main__"].__dict__
    builtins = space["__builtins__"]
    builtins.exit = builtins.quit = sys.exit  # as site would, which is not loaded
    space.clear()
    space.update(__name__="__main__", __builtins__=builtins)
    try:
        code = compile(request["source"], "main.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        os.write(report, b"unreadable\n")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        os._exit(1)
    if request["function"] is None:
        os.close(report)
        exec(code, space)
        return
    space["__name__"] = "program"
    exec(code, space)
    call_all(request, report, space)


def call_all(request: "dict[str, Any]", report: int, space: "dict[str, Any]") -> None:
    """Call the function for each of the arguments, and report what comes back, one line each."""
    write, nonce = os.write, request["nonce"]
    for number, (args, kwargs) in enumerate(request["calls"]):
        try:
            line = plain(find(space, request["function"])(*args, **kwargs))
        except BaseException as error:
            line = "!" + type(error).__name__
        data = f"{nonce} {number} {line}\n".encode("ascii", "replace")
        while data:
            data = data[write(report, data) :]


def find(space: "dict[str, Any]", name: str) -> "Any":
    """The function, or the method of a fresh object; of the class ``Solution`` where none is named."""
    first, _, rest = name.partition(".")
    if not rest and first not in space and "Solution" in space:
        first, rest = "Solution", name
    found = space[first]
    return getattr(found(), rest) if rest else found


def plain(value: "Any", depth: int = 0) -> str:
    """JSON of plain data; by exact types, so that no class of the program has a say in it."""
    from _json import encode_basestring_ascii as quoted

    kind = type(value)
    if depth > 64:
        raise ValueError("too deep")
    if value is None or kind is bool:
        return "null" if value is None else "true" if value else "false"
    if kind is str:
        return quoted(value)
    if kind is int:
        return int.__repr__(value)
    if kind is float:
        if value - value != 0:
            raise ValueError("not finite")
        return float.__repr__(value)
    if kind is list or kind is tuple:
        return "[" + ",".join([plain(item, depth + 1) for item in value]) + "]"
    if kind is set or kind is frozenset:
        return '{"set":[' + ",".join([plain(item, depth + 2) for item in value]) + "]}"
    if kind is dict:
        pairs = [f"[{plain(key, depth + 3)},{plain(item, depth + 3)}]" for key, item in value.items()]
        return '{"dict":[' + ",".join(pairs) + "]}"
    raise TypeError("not plain data")
