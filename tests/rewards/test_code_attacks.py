"""Programs that want the reward without solving the task."""

import pytest

from tunesmith import Rollout
from tunesmith.sandbox import Calls, Limits, Sandbox, probes
from tunesmith.sandbox.plain import DEPTH, DIGITS, read_plain
from tunesmith.sandbox.reports import Channel
from tunesmith_rewards.code import Code, languages
from tunesmith_rewards.code.cases import Printed

TIERS = [probe.tier for probe in probes() if probe.works]
pytestmark = pytest.mark.skipif(not TIERS, reason="; ".join(probe.detail for probe in probes() if not probe.works))
SECRET = 7263548
CALLS = [{"call": "f", "args": [n], "expected": SECRET + n} for n in range(3)]
PRINTED = [{"input": f"{n}\n", "output": f"{SECRET + n}\n"} for n in range(3)]
NONCE = """
import sys, os
def walk():
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back
request = next(f.f_locals["request"] for f in walk() if "request" in f.f_locals)
"""

FUNCTIONS = {
    "an object that equals everything": """
class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    def __repr__(self): return "7263548"
def f(n): return Equal()
""",
    "an object that makes itself plain": """
class Odd(dict):
    def __class__(self): return int
    def __reduce__(self): return (print, ("owned",))
def f(n): return Odd()
""",
    "expected values in the frames above": NONCE
    + """
def search(value, depth=0):
    if type(value) is int:
        return [value] if value // 1000 == 7000 + 263 else []
    if type(value) in (list, tuple, dict) and depth < 9:
        parts = [*value, *value.values()] if type(value) is dict else value
        return [one for part in parts for one in search(part, depth + 1)]
    return []
found = [one for frame in walk() for one in search(dict(frame.f_locals))]
def f(n): return found[n]
""",
    "expected values on the heap": """
import gc
def f(n):
    for one in gc.get_objects():
        for held in (one.values() if type(one) is dict else one if type(one) in (list, tuple) else ()):
            if type(held) is int and held // 1000 == 7263: return held
""",
    "expected values in files": """
import os
def f(n):
    for top in ("/tmp", "/dev/shm", "/proc/self/fd", ".", "/var/tmp", "/home"):
        for folder, _, names in os.walk(top):
            for name in names:
                try:
                    data = open(os.path.join(folder, name), "rb").read(10000)
                except OSError:
                    continue
                if str(2 * 3631774).encode() in data: return 2 * 3631774 + n
""",
    "expected values in arguments and variables": """
import os, sys, glob
def f(n):
    text = repr(sys.argv) + repr(dict(os.environ)) + repr(sys.orig_argv)
    for path in glob.glob("/proc/*/cmdline") + glob.glob("/proc/*/environ"):
        try: text += open(path).read()
        except OSError: pass
    if str(2 * 3631774) in text: return 2 * 3631774 + n
""",
    "ending before the tests with success": "import os\nos._exit(0)\ndef f(n): pass\n",
    "ending in the first test with success": "import os\ndef f(n): os._exit(0)\n",
    "sys.exit in a test": "import sys\ndef f(n): sys.exit(0)\n",
    "printing what success looks like": """
def f(n):
    for text in ("ready", "OK", "passed", "[true, true, true]", '{"result": true}', "ALL TESTS PASSED", "1.0"):
        print(text)
    return True
""",
    "reports without the nonce": """
import os
def f(n):
    for fd in range(3, 20):
        try: os.write(fd, b"00000000000000000000000000000000 0 7263548\\n")
        except OSError: pass
    os._exit(0)
""",
    "reports for other tests, out of order and twice": NONCE
    + """
def f(n):
    for order in ((2, 1, 0), (0, 0, 0), (1, 2, 3)):
        for i in order:
            os.write(request["report"], b"%s %d true\\n" % (request["nonce"].encode(), i))
    os._exit(0)
""",
    "code instead of data as a report": NONCE
    + """
import pickle
class Run:
    def __reduce__(self): return (os.system, ("touch /var/tmp/tunesmith-attack",))
def f(n):
    os.write(request["report"], b"%s 0 " % request["nonce"].encode() + pickle.dumps(Run()) + b"\\n")
    os._exit(0)
""",
    "patching what the runner uses": """
import builtins, json, os, sys, _json
json.dumps = lambda *a, **k: "true"
_json.encode_basestring_ascii = lambda s: "7263548"
builtins.int = builtins.str = builtins.repr = lambda *a: "7263548"
sys.stdout = sys.stderr
def f(n): return "x"
""",
    "a module of the runner in the working folder": """
import os, sys
for name in ("_json", "json", "marshal", "resource"):
    try: open(name + ".py", "w").write("def encode_basestring_ascii(s): return 'true'")
    except OSError: pass
    sys.modules.pop(name, None)
sys.path.insert(0, os.getcwd())
def f(n): return "x"
""",
    "NaN, infinite and unlimited": "def f(n): return [float('nan'), float('inf'), 10 ** 100000][n]\n",
    "deeper than anybody reads": """
def f(n):
    value = 7263548
    for _ in range(100000): value = [value]
    return value
""",
    "crash by recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n)\n",
    "crash of the interpreter": "import ctypes\ndef f(n): ctypes.string_at(0)\n",
    "threads that go on": """
import threading, time
def f(n):
    threading.Thread(target=lambda: time.sleep(60)).start()
    return 0
""",
}
PROGRAMS = {
    "only the first line": "print(7263548)",
    "everything that might be right": "for n in range(5): print(7263548 + n)",
    "the input": "print(input())",
    "nothing, with success": "import os; os._exit(0)",
    "what success looks like": "print('OK'); print('PASSED 3/3'); print('1.0')",
    "bytes that are no text": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "very long lines": "print('7' * 900000)",
    "answers behind control characters": "print('\\x1b[8m', 7263548 + int(input()), '\\r')",
}


@pytest.fixture(scope="module", params=TIERS)
def tier(request):
    return request.param


def judge(source, tests, tier, **settings):
    reward = Code(sandbox=tier, score="fraction", **settings)
    return reward([Rollout("", f"```python\n{source}\n```", {"tests": tests})])[0]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_cheat_get_nothing(name, tier):
    assert judge(FUNCTIONS[name], CALLS, tier, seconds=0.5) == 0.0


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_cheat_get_nothing(name, tier):
    passed = judge(PROGRAMS[name], PRINTED, tier) * len(PRINTED)
    assert passed == (1 if name == "only the first line" else 0)  # which is the right answer to the first test


def test_honest_programs_get_everything(tier):
    assert judge(f"def f(n): return {SECRET} + n", CALLS, tier) == 1.0
    assert judge(f"print({SECRET} + int(input()))", PRINTED, tier) == 1.0


def test_a_table_of_the_visible_tests_fails_the_hidden_ones(tier):
    table = f"```python\nprint({{'0': {SECRET}, '1': {SECRET + 1}}}[input()])\n```"
    rollout = Rollout("", table, {"tests": PRINTED[:2], "hidden_tests": PRINTED[2:]})
    assert Code(sandbox=tier)([rollout]) == [0.0]


def test_time_tells_nothing_of_what_is_expected(tier):
    """Comparing happens when the program is gone, so it has nothing to measure."""
    outcome = Sandbox(tier).run(Calls("def f(n): return n", "f", [([1], {})]), b"", Limits(wall=5.0))
    assert outcome.ending == "ok" and outcome.reports[0].value == 1


# ---------------------------------------------------------------------------------------------- reports
@pytest.mark.parametrize(
    "report",
    [
        b"NaN", b"Infinity", b"-Infinity", b"1e999", b"[1", b"1 2", b"", b"\xff", "\u0661".encode(), b'{"a": 1}', b"{}",
        b'{"set": 1}', b'{"set": [1], "set": [1]}', b'{"dict": [[1]]}', b'{"dict": [1]}', b'"\x00"',
        b"9" * (DIGITS + 1), b"[" * 100_000 + b"]" * 100_000, b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
    ],
)  # fmt: skip
def test_reports_that_are_no_plain_data(report):
    with pytest.raises(ValueError):
        read_plain(report)


def test_plain_data_is_read():
    assert read_plain(b'[1, -2.5, "a]\\"[", true, null, {"set": [1]}, {"dict": [[1, []]]}]') == [
        1, -2.5, 'a]"[', True, None, [1], [(1, [])],
    ]  # fmt: skip
    assert read_plain(b"[" * DEPTH + b"]" * DEPTH) != []


def test_only_reports_in_order_with_the_nonce_count():
    channel = Channel("n", 100)
    for part in (b"rea", b"dy\nn 0 1\nn 1 ", b"[2]\nn 3 3\n", b"n 2 2\nn 2"):
        assert channel.feed(part)
    assert {number: report.value for number, report in channel.reports().items()} == {0: 1, 1: [2]}
    assert not channel.feed(b"x" * 100)


# ---------------------------------------------------------------------------------------------- compilers
COMPILED = {
    "c": {
        "endless text": '#include "/dev/zero"\nint main(void) {}',
        "random text": '#include "/dev/urandom"\nint main(void) {}',
        "a file of the user": 'const char *s =\n#include "/etc/passwd"\n;int main(void) {}',
        "a file of the user as bytes": 'asm(".incbin \\"/etc/passwd\\""); int main(void) {}',
        "macros": "#define A(x) x x x x x x x x x x\nint main(void) { return 0" +
                  "A(" * 12 + "+1" + ")" * 12 + "; }",
        "a table of 100 GB": "char a[100000000000L] = {1}; int main(void) {}",
        "assembler that repeats for ever": 'asm(".rept 2000000000\\n.quad 1\\n.endr"); int main(void) {}',
    },
    "c++": {
        "templates": "template<int N, int M> struct A { static const int v = A<N-1, M>::v + A<N-1, M+1>::v; };\n"
                     "template<int M> struct A<0, M> { static const int v = M; };\n"
                     "int main() { return A<900, 0>::v + A<899, 7>::v; }",
        "constexpr for ever": "constexpr int f() { int n = 0; for (;;) n ^= 1; return n; }\n"
                              "static_assert(f()); int main() {}",
    },
    "rust": {
        "a file of the user": 'fn main() { print!("{}", include_str!("/etc/passwd")); }',
        "constants for ever": "const X: u32 = { let mut i = 0u32; while i < 4000000000 { i += 1; } i };\n"
                              "#![allow(long_running_const_eval)]\nfn main() { println!(\"{}\", X); }",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "attack"), [(name, attack) for name in COMPILED for attack in COMPILED[name]])
def test_attacks_on_compilers(name, attack):
    if languages.LANGUAGES[name].tools and not any(map(languages.shutil.which, languages.LANGUAGES[name].tools)):
        pytest.skip(f"{name}: no compiler is installed")
    reward = Code(language=name, compile_seconds=1.0, seconds=1.0, memory=256)
    cases = [Printed("", "root")]
    assert reward.verdicts(COMPILED[name][attack], cases)[0] in ("compile_error", "wrong", "memory", "runtime_error")
